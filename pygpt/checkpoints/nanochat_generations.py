"""The generations of nanochat's model: what tells them apart, and what each has that no tensor shows.

Source: the history of nanochat/gpt.py in https://github.com/karpathy/nanochat.
"""

from __future__ import annotations

from dataclasses import dataclass

from pygpt.checkpoints.base import Source, Unrecorded
from pygpt.errors import InvalidRequestError

SMEAR_GATE = "smear_gate.weight"
RESID_LAMBDAS = "resid_lambdas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one generation of the code has and no tensor shows.

    Attributes:
        when: the days on which it was nanochat's.
        share: the short windows reach back this part of the sequence length; 0: it has none.
        gain: of the norms of q and k.
    """

    when: str
    rope_theta: float = 10000.0
    gain: float = 1.0
    value_gate_scale: float = 2.0
    logit_cap: float = 15.0
    share: int = 2
    round_up: bool = False  # to a multiple of 128

    def short_window(self, length: int) -> int:
        """How far back a short window reaches."""
        return -(-length // self.share // 128) * 128 if self.round_up else length // self.share


GENERATIONS = {
    "g1": Generation(when="2025-10-13 to 2026-01-10", share=0),
    "g2": Generation(when="2026-01-11 to 01-16"),
    "g3a": Generation(when="2026-01-16 to 03-01"),
    "g3b": Generation(when="2026-03-02 to 03-08", logit_cap=20.0),
    "g4": Generation(
        when="2026-03-09 to 03-13",
        rope_theta=100000.0, gain=1.15, value_gate_scale=3.0, share=3, round_up=True,
    ),
    "g5": Generation(
        when="since 2026-03-14",
        rope_theta=100000.0, gain=1.2, value_gate_scale=3.0, share=4, round_up=True,
    ),
}  # fmt: skip

# Experiments of some days, by what their tensors' names begin with.
_REFUSED = {
    "value_embed.": "g2b (2026-01-16)",
    "value_embed_": "g2b (2026-01-16)",
    "v0_lambdas": "g2b (2026-01-16)",
    "bigram": "g3x (2026-01-25 to 01-28)",
}


def generations_of(source: Source, given: str | None, *, several: bool) -> tuple[str, ...]:
    """Which of GENERATIONS the tensors are of: the caller's word where two have the same, or both where
    `several` are welcome, which `either` then tells apart.

    Raises:
        ModelFileError: of one that is not supported.
        InvalidRequestError: they are of several and none is given, or they are not of the one given.
    """
    for start, title in _REFUSED.items():
        if name := next((each for each in source.tensors if each.startswith(start)), None):
            message = (
                f"has {name}: it is of nanochat's generation {title}, an experiment that is not supported"
            )
            raise source.error("unsupported_family", message)
    possible = _possible(source)
    if given is not None and given not in possible:
        raise InvalidRequestError(
            "nanochat_gen", f"is given as {given}, but the tensors are of {' or '.join(possible)}"
        )
    if given is None and len(possible) > 1 and not several:
        choices = "; ".join(
            f"{each}: {GENERATIONS[each].when}, logits capped at {GENERATIONS[each].logit_cap:g}"
            for each in possible
        )
        raise InvalidRequestError(
            "nanochat_gen",
            f"is needed, or calibrate=, a text to decide by: the tensors are the same in several "
            f"generations ({choices})",
        )
    return possible if given is None else (given,)


def either(names: tuple[str, ...]) -> tuple[Unrecorded, ...]:
    """What to ask a text about: those with the same tensors differ in the soft cap of the logits alone."""
    if len(names) == 1:
        return ()
    caps = {name: GENERATIONS[name].logit_cap for name in names}
    return (Unrecorded("logit_cap", {f"{cap:g} ({name})": {"logit_cap": cap} for name, cap in caps.items()}),)


def _possible(source: Source) -> tuple[str, ...]:
    gates = {tensor.shape for name, tensor in source.tensors.items() if name.endswith(".ve_gate.weight")}
    width = {shape[-1] for shape in gates if shape}
    if SMEAR_GATE in source.tensors:
        return ("g5",)
    if width == {12}:
        return ("g4",)
    if width == {32}:
        return ("g3a", "g3b")
    if width:
        raise source.error(
            "unsupported_family", f"its ve_gate has {sorted(width)} columns: of no generation known here"
        )
    return ("g2",) if RESID_LAMBDAS in source.tensors else ("g1",)
