"""Every engine at every precision that takes part, and which of them are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine at a precision.

    Attributes:
        module: of this package, with `prepare` and `load`.
        bits: of a weight, about: what is compared with what.
        exact: whether its greedy tokens must be those of the reference.
        needs: what it imports, also to convert the weights.
        pip: what to install for it.
    """

    engine: str
    precision: str
    module: str
    bits: int
    families: tuple[str, ...]
    needs: tuple[str, ...]
    pip: str
    exact: bool = False

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"

    def missing(self) -> list[str]:
        """What it imports and this Python lacks."""
        return [each for each in self.needs if importlib.util.find_spec(each) is None]

    def obstacle(self, family: str) -> str | None:
        """Why it cannot run models of a family here, as far as is known without trying; None if it can."""
        if missing := self.missing():
            return f"needs {', '.join(missing)}: pip install {self.pip}"
        return None if family in self.families else f"is not written for {family} here"


def _contenders() -> list[Contender]:
    both, gpt2 = ("gpt2", "llama"), ("gpt2",)
    torch, llama = ("torch", "safetensors"), ("llama_cpp", "gguf", "safetensors")
    ct2 = ("ctranslate2", "transformers", "torch")
    torch_pip = "torch safetensors"
    llama_pip = 'llama-cpp-python gguf safetensors (built here: CMAKE_ARGS="-DGGML_NATIVE=ON")'
    found = [
        Contender("torch", "no cache", "torch_gpt2", 32, gpt2, torch, torch_pip, exact=True),
        Contender("torch", "static cache", "torch_gpt2", 32, gpt2, torch, torch_pip, exact=True),
        Contender("torch", "int8", "torch_gpt2", 8, gpt2, torch, torch_pip),
        Contender(
            "transformers",
            "float32",
            "hf",
            32,
            both,
            ("transformers", "torch"),
            "transformers torch",
            exact=True,
        ),
    ]
    for precision, bits in (("float32", 32), ("int8", 8)):
        pip = "ctranslate2 transformers torch"
        found.append(Contender("ctranslate2", precision, "ct2", bits, both, ct2, pip, exact=bits == 32))
    for precision, bits in (("F32", 32), ("F16", 16), ("Q8_0", 8), ("Q4_0", 4)):
        found.append(
            Contender("llama.cpp", precision, "llama", bits, both, llama, llama_pip, exact=bits == 32)
        )
    for precision, bits in (("f32", 32), ("f16", 16), ("q8", 8), ("q4", 4), ("q4_pure", 4)):
        needs = ("pygpt", "torch", "safetensors")
        pip = '".[export]" (in the root of the repository)'
        found.append(Contender("pygpt", precision, "own", bits, both, needs, pip, exact=bits == 32))
    return found


CONTENDERS = tuple(_contenders())
OURS = "pygpt"


def find(name: str) -> Contender:
    """The contender of a name. Raises KeyError."""
    return {each.name: each for each in CONTENDERS}[name]


def chosen(words: Sequence[str]) -> list[Contender]:
    """The contenders that words such as "pygpt", "llama.cpp:Q8_0" or "torch:no cache" name; all for none.

    Raises:
        ValueError: a word that names none.
    """
    for word in words:
        if not any(_names(word, each) for each in CONTENDERS):
            known = ", ".join(f"{each.engine}:{each.precision}" for each in CONTENDERS)
            raise ValueError(f"there is no engine {word!r}; there are {known}, or the part before the colon")
    return [each for each in CONTENDERS if not words or any(_names(word, each) for word in words)]


def _names(word: str, contender: Contender) -> bool:
    return word in (contender.engine, f"{contender.engine}:{contender.precision}", contender.name)
