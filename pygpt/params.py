"""How tokens are chosen and when a text ends: one vocabulary for Python keywords, flags and JSON fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import Enum
from typing import Any, Literal, TypeAlias

from pygpt.errors import InvalidRequestError
from pygpt.kinds import Bias, Choice, Flag, Integer, Kind, Real, Texts, TokenIds, TopK, shown
from pygpt.param_names import canonical

Overflow: TypeAlias = Literal["slide", "shift", "stop", "error"]

GREEDY_BELOW = 1e-5  # a smaller temperature divides logits beyond binary32's range: it is greedy already


class Recorded(Enum):
    """Stands for "as the model file records it, else off"."""

    RECORDED = "recorded"


RECORDED = Recorded.RECORDED


def _parameter(default: Any, kind: Kind, help: str) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Everything that can be said about a generation, checked and in one normal form.

    temperature, top_k_ties, top_p, min_p and repetition_penalty are the model's recorded defaults where
    None, else neutral: temperature 1, nothing truncated. None for any other parameter is its default; for
        top_k it is
        "off".

    Raises:
        InvalidRequestError: a value that cannot be used; `param` names it.
    """

    max_tokens: int | None = _parameter(
        None, Integer(0, 2**31 - 1), "new tokens at most (default: to the context's end; 0: score the prompt)"
    )
    min_tokens: int = _parameter(0, Integer(0, 2**31 - 1), "no stop before this many tokens")
    temperature: float | None = _parameter(
        None, Real(0.0), "0 takes the likeliest token, 1 samples as trained"
    )
    top_k: int | Recorded | None = _parameter(  # noqa: RUF009  # makes a dataclass field
        RECORDED, TopK(), "sample among the K likeliest; 0 is off"
    )
    top_k_ties: bool | None = _parameter(None, Flag(), "keep all tokens that tie with the K-th")
    top_p: float | None = _parameter(
        None, Real(0.0, 1.0, above=True), "sample among the likeliest that make up this share"
    )
    min_p: float | None = _parameter(
        None, Real(0.0, 1.0), "drop tokens below this share of the likeliest one's probability"
    )
    repetition_penalty: float | None = _parameter(
        None, Real(0.01, 100.0), "divide the logits of tokens in prompt and output; 1 is off"
    )
    presence_penalty: float = _parameter(0.0, Real(-2.0, 2.0), "subtract from tokens that the output has")
    frequency_penalty: float = _parameter(0.0, Real(-2.0, 2.0), "the same for each time that it has them")
    logit_bias: Mapping[int, float] | None = _parameter(None, Bias(300, 100.0), "add to a token's logit")
    allowed_token_ids: tuple[int, ...] = _parameter((), TokenIds(2**24, 1), "sample among these only")
    seed: int | None = _parameter(None, Integer(-1, 2**64 - 1), "same seed, same text (default: random)")
    stop: tuple[str, ...] = _parameter((), Texts(4, 256), "end before this text; at most 4")
    include_stop_str_in_output: bool = _parameter(False, Flag(), "keep the stop text that ended it")
    stop_token_ids: tuple[int, ...] = _parameter((), TokenIds(256), "end at these tokens as well")
    ignore_eos: bool = _parameter(False, Flag(), "go on past the model's own stop tokens")
    n: int = _parameter(1, Integer(1, 8), "samples for each prompt")
    logprobs: int | None = _parameter(None, Integer(0, 20), "log-probabilities, with the N likeliest")
    prompt_logprobs: int | None = _parameter(None, Integer(0, 20), "the same for the prompt's tokens")
    echo: bool = _parameter(False, Flag(), "begin the text with the prompt")
    skip_special_tokens: bool = _parameter(True, Flag(), "leave special tokens out of the text")
    on_overflow: Overflow | None = _parameter(  # noqa: RUF009  # makes a dataclass field
        None, Choice(("slide", "shift", "stop", "error")), "what happens when the context is full"
    )
    n_keep: int = _parameter(0, Integer(0, 2**31 - 1), "first tokens that shift keeps")

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _normal(each, getattr(self, each.name)))
        if self.seed == -1:
            object.__setattr__(self, "seed", None)
        if self.temperature is not None and self.temperature < GREEDY_BELOW:
            object.__setattr__(self, "temperature", 0.0)

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any], base: SamplingParams | None = None) -> SamplingParams:
        """The parameters that keywords (or flags, or JSON fields) name, on top of `base`. Aliases are known.

        Raises:
            UnknownParameterError: a name that no parameter has; the message names the nearest.
            InvalidRequestError: see `SamplingParams`.
        """
        if base is not None and not isinstance(base, cls):
            raise InvalidRequestError(
                "params", f"must be SamplingParams, got {shown(base)}; or name each, as in max_tokens=5"
            )
        values: dict[str, Any] = {}
        written: dict[str, str] = {}
        for name, value in keywords.items():
            known, value = canonical(name, value, cls.__dataclass_fields__)
            if not known:
                continue
            if known in written:
                raise InvalidRequestError(name, f"is another name of {written[known]}; give one of the two")
            written[known] = name
            values[known] = value
        return replace(base, **values) if base is not None else cls(**values)

    def rules(self, recorded: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
        """The core's sampling rules: what was said, else what the model file records, else neutral.

        Raises:
            InvalidRequestError: a token id outside of the vocabulary.
        """
        bias = dict(self.logit_bias or {})
        for name, ids in (
            ("logit_bias", bias),
            ("allowed_token_ids", self.allowed_token_ids),
            ("stop_token_ids", self.stop_token_ids),
        ):
            wrong = next((token for token in ids if token >= vocab_size), None)
            if wrong is not None:
                raise InvalidRequestError(
                    name, f"token {wrong} is not in the vocabulary, 0..{vocab_size - 1}"
                )
        rules = {
            "temperature": 1.0,
            "top_k_ties": False,
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        rules |= {name: recorded[name] for name in rules if name in recorded}
        rules |= {name: getattr(self, name) for name in rules if getattr(self, name) is not None}
        top_k = recorded.get("top_k", 0) if isinstance(self.top_k, Recorded) else self.top_k
        return rules | {
            "top_k": min(top_k or 0, vocab_size),
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "logit_bias": list(bias.items()),
            "allowed_token_ids": sorted(set(self.allowed_token_ids)),
            "min_tokens": self.min_tokens,
        }


def kind_of(parameter: Field[Any]) -> Kind:
    """What a field of SamplingParams accepts."""
    kind: Kind = parameter.metadata["kind"]
    return kind


def _normal(parameter: Field[Any], value: object) -> object:
    """The value checked and in its normal form; what is in it already comes back unchanged."""
    if value is parameter.default or (value is None and parameter.name != "top_k"):
        return parameter.default
    return kind_of(parameter).check(parameter.name, value)
