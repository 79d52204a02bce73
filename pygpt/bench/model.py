"""What a model reaches on this machine, each figure beside the limits measured around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from pygpt.bench.caches import Caches, detect, load_average
from pygpt.bench.limits import Bandwidths, Progress, bandwidth
from pygpt.bench.rates import REPEATS, Rate, duration, speed
from pygpt.bench.roofline import Figure, Run, between, figure
from pygpt.bench.sampling import Sampler
from pygpt.bench.startup import Fresh, fresh_process
from pygpt.bench.work import PAGE_POSITIONS, Costs, Work, costs
from pygpt.errors import InvalidRequestError
from pygpt.kinds import Integer
from pygpt.opening import open_file

if TYPE_CHECKING:
    from pygpt.engine import Engine

# Tokens are sampled as people sample them; the same rules as in tools/bench_decode.py.
RULES: Mapping[str, Any] = {
    "temperature": 0.8,
    "top_k": 200,
    "seed": 1,
    "ignore_eos": True,
    "on_overflow": "stop",
}
_SHORT_PROMPT = 16
_DEFAULT_TOKENS, _DEFAULT_PROMPT = 128, 512
_FEWEST_STARTS = 3

_Measured: TypeAlias = tuple[int, Work, float]  # tokens, the work for them, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured. None: the default, or as much of it as the context holds.

    Attributes:
        tokens: written by each sequence in decode and batch.
        prompt_tokens: read in prefill, and before the first token.
        batches: numbers of sequences at once, beside 1.
        repeats: of everything, interleaved.
    """

    tokens: int | None = None
    prompt_tokens: int | None = None
    batches: tuple[int, ...] = (8,)
    repeats: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What a model reached.

    Attributes:
        info: the engine's own description of file and run.
        tokens, prompt_tokens, short_prompt, repeats: what was measured; decode and batch start from the short
            prompt.
        figures: decode, batches, prefill.
        first_token_s: reading the prompt and choosing a token, as a caller waits for it.
        open_s: from the file to an engine that is ready.
        process_s: from the start of a process of its own to its first token.
        load: average of the minute before the measurement, or None.
        resident_bytes: of that process then, or None where the system does not tell.
        set_bytes: what a decode step reads: weights, and the cache of half the tokens.
        read_gb_s: reading a set of that size again and again. bandwidths: those of DRAM and the last cache.
        fma_gflops, int8_gops: arithmetic with the same threads; int8 is 0 where the machine has none.
    """

    info: Mapping[str, Any]
    caches: Caches
    tokens: int
    prompt_tokens: int
    short_prompt: int
    repeats: int
    figures: tuple[Figure, ...]
    first_token_s: Rate
    open_s: Rate
    process_s: Rate
    load: float | None
    resident_bytes: int | None
    set_bytes: int
    read_gb_s: Rate
    bandwidths: Bandwidths
    fma_gflops: Rate
    int8_gops: Rate


def measure(
    open_engine: Callable[[], Engine],
    options: Mapping[str, Any],
    settings: Settings,
    progress: Progress | None = None,
) -> ModelReport:
    """Measure a model.

    Args:
        open_engine: opens it. options: the same options, for a process of its own.

    Raises:
        InvalidRequestError: a setting out of range, or more tokens than the context. OutOfMemory.
        Error: the process of its own failed.
    """
    repeats = REPEATS.check("repeats", settings.repeats)
    tell = progress or _tell_nobody
    with open_engine() as engine:
        bench = _Bench(engine, settings)
        bandwidths = bandwidth(engine.info["threads"])
        bench.run(repeats, tell)
        path = engine.info["path"]
    starts = max(repeats, _FEWEST_STARTS)
    opened = [_seconds_to_open(open_engine) for _ in range(starts)]
    fresh: list[Fresh] = []
    for index in range(starts):
        tell("starting processes", index, starts)
        fresh.append(fresh_process(path, options))
    return bench.report(opened, fresh, bandwidths)


def _tell_nobody(what: str, done: int, total: int) -> None:
    del what, done, total


def _seconds_to_open(open_engine: Callable[[], Engine]) -> float:
    start = time.perf_counter()
    with open_engine():
        return time.perf_counter() - start


class _Bench:
    """The measurements of one opened engine."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.info = engine, engine.info
        self.costs: Costs = costs(open_file(self.info["path"], mmap=True, verify="header"), self.info)
        context: int = self.info["context_length"]
        if context < 3:
            raise InvalidRequestError("MODEL", f"a context of {context} is too short to measure")
        self.short_prompt = min(_SHORT_PROMPT, context - 2)
        self.tokens = _fitting("tokens", settings.tokens, 2, context - self.short_prompt, _DEFAULT_TOKENS)
        self.prompt_tokens = _fitting(
            "prompt-tokens", settings.prompt_tokens, 1, context - 1, _DEFAULT_PROMPT
        )
        self.batches = tuple(
            _checked_batch(batch, self.info, self._positions()) for batch in settings.batches
        )
        self.caches, self.load = detect(), load_average()
        # The cache grows under way: half of it is what a step reads in the middle.
        self.set_bytes = round(self.costs.decode(1, self.short_prompt + self.tokens // 2, 1).bytes)
        self.sampler = Sampler(self.info["threads"], self.info["isa"], self.caches, self.set_bytes)
        self.runs: dict[str, list[Run]] = {}
        self.first_token: list[float] = []

    def _positions(self) -> int:
        return self.short_prompt + self.tokens

    def run(self, repeats: int, tell: Progress) -> None:
        """Every kind of work once a round, so that all meet the same machine. The first round warms up."""
        kinds: dict[str, Callable[[], _Measured]] = {"decode": partial(self._decode, 1)}
        kinds |= {f"batch {batch}": partial(self._decode, batch) for batch in self.batches}
        kinds["prefill"] = self._prefill
        total = (repeats + 1) * len(kinds)
        for round_ in range(repeats + 1):
            if round_ == 1:
                self.runs, self.first_token = {}, []
            for place, (name, work) in enumerate(kinds.items()):
                tell(name, round_ * len(kinds) + place, total)
                before = self.sampler.sample()
                tokens, done, seconds = work()
                roofs = between(before, self.sampler.sample())
                self.runs.setdefault(name, []).append(Run(tokens, done, seconds, roofs))

    def _decode(self, batch: int) -> _Measured:
        """Tokens, work and seconds behind the first token, which belongs to the prompt."""
        prompts = [_ids(self.short_prompt, self.info)] * batch
        completions = self.engine.generate(prompts, max_tokens=self.tokens, **RULES)
        steps = self.tokens - 1
        seconds = median(max(each.timings.decode_s, 1e-9) for each in completions)
        return batch * steps, self.costs.decode(batch, self.short_prompt, steps), seconds

    def _prefill(self) -> _Measured:
        start = time.perf_counter()
        done = self.engine.generate(_ids(self.prompt_tokens, self.info), max_tokens=1, **RULES)
        self.first_token.append(time.perf_counter() - start)
        work = self.costs.prefill(self.prompt_tokens, self.info["prefill_chunk"])
        return self.prompt_tokens, work, max(done.timings.prefill_s, 1e-9)

    def report(self, opened: list[float], fresh: list[Fresh], bandwidths: Bandwidths) -> ModelReport:
        roofs = [run.roofs for runs in self.runs.values() for run in runs]
        resident = [each.resident_bytes for each in fresh if each.resident_bytes is not None]
        return ModelReport(
            info=self.info,
            caches=self.caches,
            tokens=self.tokens,
            prompt_tokens=self.prompt_tokens,
            short_prompt=self.short_prompt,
            repeats=len(self.runs["decode"]),
            figures=tuple(figure(name, runs) for name, runs in self.runs.items()),
            first_token_s=duration(self.first_token),
            open_s=duration(opened),
            process_s=duration(each.seconds for each in fresh),
            load=self.load,
            resident_bytes=round(median(resident)) if resident else None,
            set_bytes=self.set_bytes,
            read_gb_s=speed((each.read / 1e9 for each in roofs), self.sampler.told()),
            bandwidths=bandwidths,
            fma_gflops=speed(each.fma / 1e9 for each in roofs),
            int8_gops=speed(each.int8 / 1e9 for each in roofs),
        )


def _fitting(name: str, wanted: int | None, low: int, high: int, default: int) -> int:
    """What was asked for, held to what the context holds; or as much of the default."""
    return min(default, high) if wanted is None else Integer(low, high).check(name, wanted)


def _checked_batch(batch: int, info: Mapping[str, Any], positions: int) -> int:
    """Sequences that really run at once: no more than the engine runs and its cache holds."""
    pages = -(-positions // PAGE_POSITIONS)
    most: int = min(info["max_running"], info["kv_pages"] // pages)
    return Integer(1, most).check("batch", batch)


def _ids(count: int, info: Mapping[str, Any]) -> list[int]:
    return [index % info["config"]["vocab_size"] for index in range(count)]
