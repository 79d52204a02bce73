"""The config.json of Hugging Face's transformers, read field by field, each held to its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pygpt.checkpoints.base import Source
from pygpt.errors import ModelFileError
from pygpt.kinds import MAX_FLOAT32, shown


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a JSON file; a value that is null counts as absent.

    Attributes:
        section: what errors call it.
    """

    source: Source
    values: Mapping[str, Any]
    section: str = "config"

    def error(self, message: str, code: str = "damaged") -> ModelFileError:
        return self.source.error(code, message, self.section)

    def unsupported(self, message: str) -> ModelFileError:
        return self.error(message, "unsupported_family")

    def integer(self, key: str, default: int | None = None, most: int = 2**31) -> int:
        """A whole number of at least 1."""
        value = self._value(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.error(f"{key} is {shown(value)}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self._value(key, default)
        if type(value) not in (int, float) or not 0 < value < MAX_FLOAT32:
            raise self.error(f"{key} is {shown(value)}")
        return float(value)

    def boolean(self, key: str, default: bool = False) -> bool:
        value = self._value(key, default)
        if type(value) is not bool:
            raise self.error(f"{key} is {shown(value)}")
        return value

    def layers(self, key: str, n_layer: int, known: Sequence[Any]) -> list[Any] | None:
        """The values of a list, one for each layer, each one of `known`; None where it is absent."""
        value = self._value(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < n_layer:
            raise self.error(f"{key} is no list of {n_layer} layers")
        for each in value[:n_layer]:
            if each not in known:
                raise self.unsupported(f"{key} holds {shown(each)}; there are {', '.join(map(str, known))}")
        return value[:n_layer]

    def inside(self, key: str) -> Fields:
        """The object at a key; empty where it is absent."""
        value = self._value(key, {})
        if not isinstance(value, Mapping):
            raise self.error(f"{key} is no object")
        return replace(self, values=value, section=f"{self.section} {key}")

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value


def config_fields(source: Source) -> Mapping[str, Any] | None:
    """The fields of config.json, wherever the source has them; None where it has none."""
    to_dict = getattr(getattr(source.module, "config", None), "to_dict", None)
    fields: Any = source.extras if "hidden_size" in source.extras else source.extras.get("config")
    if callable(to_dict):
        fields = to_dict()
    return fields if isinstance(fields, Mapping) else None
