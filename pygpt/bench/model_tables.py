"""What a model reached, as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pygpt.bench.model import ModelReport
from pygpt.bench.rates import Rate
from pygpt.bench.roofline import Figure
from pygpt.bench.tables import busy, figure, grid, size

MODEL_SCHEMA = "pygpt.bench/1"
_INFO = (
    "path", "file_bytes", "parameters", "formats", "device", "isa", "threads", "kv_dtype", "context_length",
    "weight_bytes", "kv_page_bytes", "prefill_chunk",
)  # fmt: skip


def model_json(report: ModelReport) -> dict[str, Any]:
    """The report as JSON holds it."""
    figures = [asdict(each) | {"bound": each.bound, "share": each.share} for each in report.figures]
    info = {key: report.info[key] for key in _INFO}
    return {"schema": MODEL_SCHEMA, **asdict(report), "info": info, "figures": figures}


def model_lines(report: ModelReport) -> list[str]:
    """The report for people."""
    head = ["", "tok/s", "best", "worst", "GB/s", "of reading", "GFLOP/s", "of arithmetic"]
    waits = [
        ["", "median", "best", "worst"],
        _wait(f"first token of a prompt of {report.prompt_tokens}", report.first_token_s),
        _wait("file to engine", report.open_s),
        _wait("new process to first token", report.process_s),
    ]
    return [
        *_about(report),
        "",
        *grid([head, *(_row(each) for each in report.figures)]),
        "",
        *grid(waits),
        "",
        *_memory(report),
        *_limits(report),
        "* the nearer of the two limits",
        f"medians of {report.repeats} rounds; decode and batch: {report.tokens} tokens from a prompt of "
        f"{report.short_prompt}; prefill: {report.prompt_tokens} tokens",
    ]


def _about(report: ModelReport) -> list[str]:
    info = report.info
    threads = "1 thread" if info["threads"] == 1 else f"{info['threads']} threads"
    return [
        *busy(report.load),
        ascii(info["path"])[1:-1],
        f"{info['parameters']:,} parameters in {' '.join(info['formats'])}, KV cache in {info['kv_dtype']}; "
        f"{info['isa']}, {threads}",
    ]


def _row(each: Figure) -> list[str]:
    """The nearer roof's share is marked: that one the work could at most reach."""
    memory, compute = f"{each.memory_share:.0%}", f"{each.compute_share:.0%}"
    if each.bound == "memory":
        memory = f"* {memory}"
    else:
        compute = f"* {compute}"
    rate = each.tokens_per_s
    speeds = [figure(rate.median), figure(rate.best), figure(rate.worst)]
    return [each.name, *speeds, figure(each.gb_s), memory, figure(each.gops), compute]


def _wait(name: str, rate: Rate) -> list[str]:
    return [name, *(_seconds(value) for value in (rate.median, rate.best, rate.worst))]


def _seconds(value: float) -> str:
    return f"{figure(value)} s" if value >= 1 else f"{figure(value * 1e3)} ms"


def _memory(report: ModelReport) -> list[str]:
    info = report.info
    resident = "?" if report.resident_bytes is None else size(report.resident_bytes)
    return [
        f"memory: {resident} resident with the first token; weights of a step {size(info['weight_bytes'])}, "
        f"a page of the KV cache {size(info['kv_page_bytes'])}"
    ]


def _limits(report: ModelReport) -> list[str]:
    """The roofs that the shares were taken of, with how much they moved."""
    read, bandwidths = report.read_gb_s, report.bandwidths
    llc = "" if bandwidths.llc is None else f", last-level cache {figure(bandwidths.llc.median)}"
    int8 = f"; int8 {_spread(report.int8_gops)} GOP/s" if report.int8_gops.best > 0 else ""
    return [
        f"limits: reading {report.set_bytes / 1e6:,.3g} MB over and over {_spread(read)} GB/s "
        f"(DRAM {figure(bandwidths.dram.median)}{llc})",
        f"        f32 FMA {_spread(report.fma_gflops)} GFLOP/s{int8}",
    ]


def _spread(rate: Rate) -> str:
    return f"{figure(rate.median)} ({figure(rate.worst)}-{figure(rate.best)})"
