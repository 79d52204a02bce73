"""What a model reaches on a GPU, beside the bandwidth of the GPU's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from pygpt._core import bench as core
from pygpt.bench.rates import Rate, speed
from pygpt.bench.tables import figure, grid
from pygpt.kinds import Integer

if TYPE_CHECKING:
    from pygpt.engine import Engine

GPU_SCHEMA = "pygpt.bench.gpu/1"
SHORT_PROMPT = 16
COPY_BYTES, COPIES = 1 << 30, 20


@dataclass(frozen=True, slots=True)
class GpuReport:
    """What was reached; `context` is the longest that decode and batch saw.

    Attributes:
        rates: tokens a second of decode, batches and prefill. Greedy, choosing included.
        copy_gb_s: read and written by copies on the device, measured in the same process; 0: not measured.
    """

    info: Mapping[str, Any]
    tokens: int
    prompt_tokens: int
    rates: Mapping[str, Rate]
    copy_gb_s: float

    @property
    def share(self) -> float:
        """Of the copies' bandwidth, what decoding alone reads of weights."""
        read = self.info["weight_bytes"] * self.rates["decode"].median / 1e9
        return read / self.copy_gb_s if self.copy_gb_s else 0.0


def measure(
    engine: Engine, *, tokens: int, prompt_tokens: int, batches: Iterable[int], repeats: int, copy_gb_s: float
) -> GpuReport:
    """Measure an open engine; a first round warms up.

    Raises:
        InvalidRequestError: a batch of more than run at once, or more tokens than the context holds.
    """
    info = engine.info
    Integer(2, info["context_length"] - SHORT_PROMPT).check("tokens", tokens)
    Integer(1, info["context_length"] - 1).check("prompt-tokens", prompt_tokens)
    found: dict[str, list[float]] = {}
    for round_ in range(repeats + 1):
        if round_ == 1:
            found = {}
        for batch in (1, *batches):
            Integer(1, info["max_running"]).check("batch", batch)
            name = "decode" if batch == 1 else f"batch {batch}"
            found.setdefault(name, []).append(_decode(engine, batch, tokens))
        found.setdefault("prefill", []).append(_prefill(engine, prompt_tokens))
    rates = {name: speed(samples) for name, samples in found.items()}
    return GpuReport(info, tokens, prompt_tokens, rates, copy_gb_s)


def copy_gb_s() -> float:
    """Of the GPU, on a gibibyte. Raises DeviceError, OutOfMemory."""
    return core.gpu_copy(COPY_BYTES, COPIES) / 1e9


def gpu_json(report: GpuReport) -> dict[str, Any]:
    """The report as JSON holds it."""
    names = ("path", "formats", "device", "isa", "kv_dtype", "context_length", "weight_bytes", "parameters")
    info = {name: report.info[name] for name in names}
    return {"schema": GPU_SCHEMA, **asdict(report), "info": info, "share": report.share}


def gpu_lines(report: GpuReport) -> list[str]:
    """The report for people."""
    rows = [["", "tok/s", "best", "worst"]]
    for name, rate in report.rates.items():
        rows.append([name, figure(rate.median), figure(rate.best), figure(rate.worst)])
    info = report.info
    return [
        f"{info['parameters']:,} parameters in {' '.join(info['formats'])} on {info['device']} {info['isa']}",
        "",
        *grid(rows),
        "",
        f"copies on the GPU: {report.copy_gb_s:.0f} GB/s; decoding alone reads {report.share:.0%} of that",
        f"decode and batch: {report.tokens} tokens from a prompt of {SHORT_PROMPT}; prefill: "
        f"{report.prompt_tokens} tokens",
    ]


def _decode(engine: Engine, batch: int, tokens: int) -> float:
    """Tokens a second behind the first ones, which belong to the prompts. Each prompt is another one."""
    prompts = [_ids(engine, SHORT_PROMPT, first) for first in range(batch)]
    completions = engine.generate(prompts, max_tokens=tokens, temperature=0, ignore_eos=True)
    seconds = median(max(each.timings.decode_s, 1e-9) for each in completions)
    return batch * (tokens - 1) / seconds


def _prefill(engine: Engine, count: int) -> float:
    done = engine.generate(_ids(engine, count, 0), max_tokens=1, temperature=0, ignore_eos=True)
    return count / max(done.timings.prefill_s, 1e-9)


def _ids(engine: Engine, count: int, first: int) -> list[int]:
    return [(first + index) % engine.info["config"]["vocab_size"] for index in range(count)]
