"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
from dataclasses import replace

from pygpt.bench import MachineLimits, Peaks, Rate
from pygpt.bench.caches import Caches
from pygpt.bench.model import ModelReport
from pygpt.bench.model_tables import model_json, model_lines
from pygpt.bench.tables import figure, grid, machine_json, machine_lines, size

LIMITS = MachineLimits(
    cpus=2,
    isa="avx2",
    caches=Caches(l1=32 << 10, l2=1 << 20, llc=32 << 20, llc_cpus=2, llc_total=32 << 20, source="sysfs"),
    load=0.1,
    dram_gb_s={1: Rate(20.0, 25.5, 10.0, 5, "4 streams, huge pages"), 2: Rate(30.0, 1234.5, 20.0, 5, "x")},
    llc_gb_s={},
    l2_gb_s={2: Rate(200.0, 210.0, 190.0, 5, "y")},
    peaks={
        "avx2": Peaks(fma_gflops={1: Rate(1.0, 2.0, 0.5, 5)}, int8_gops={}),
        "generic": Peaks(fma_gflops={1: Rate(0.123456, 2.0, 0.1, 5)}, int8_gops={}),
    },
    barrier_ns={2: Rate(100.0, 80.0, 9e4, 5)},
    wake_ns={2: Rate(5000.0, 4000.0, 9e4, 5)},
)


def test_the_machines_table() -> None:
    lines = machine_lines(LIMITS)
    assert lines[0] == "2 CPUs; an engine takes avx2 here"
    assert "L1 32 KiB, L2 1 MiB a core, last level 32 MiB" in lines[1]
    table = {line[:25].strip(): line[25:].split() for line in lines[4:-7]}
    assert table["read DRAM, GB/s"] == ["20.0", "25.5", "30.0", "1,234"]
    assert table["read L2, GB/s"] == ["-", "-", "200", "210"]
    assert table["barrier, ns"] == ["-", "-", "100", "80.0"]
    assert table["generic f32 FMA, GFLOP/s"] == ["0.123", "2", "-", "-"]
    assert "  DRAM, 1 thread: 4 streams, huge pages" in lines


def test_a_busy_machine_is_told(report: ModelReport) -> None:
    told = "the load average was 3.8"
    assert machine_lines(replace(LIMITS, load=3.8))[0].startswith(told)
    assert model_lines(replace(report, load=3.8))[0].startswith(told)
    assert told not in "\n".join(
        [*machine_lines(replace(LIMITS, load=None)), *model_lines(replace(report, load=0.2))]
    )


def test_what_was_not_measured_has_no_row() -> None:
    text = "\n".join(machine_lines(LIMITS))
    assert "last-level cache" not in text
    assert "int8" not in text


def test_the_machines_json() -> None:
    found = json.loads(json.dumps(machine_json(LIMITS), allow_nan=False))
    assert found["schema"] == "pygpt.bench.machine/1"
    assert found["dram_gb_s"]["1"] == {
        "median": 20.0, "best": 25.5, "worst": 10.0, "repeats": 5, "how": "4 streams, huge pages",
    }  # fmt: skip
    assert found["peaks"]["generic"]["fma_gflops"]["1"]["median"] == 0.123456
    assert found["caches"]["llc_total"] == 32 << 20


def test_a_grid_lines_up() -> None:
    assert grid([["", "b"], ["name", "1"], ["n", "1,000", "x"]]) == [
        "          b",
        "name      1",
        "n     1,000  x",
    ]


def test_figures_have_three_digits_that_count() -> None:
    assert [figure(value) for value in (123456.7, 99.96, 12.34, 1.234, 0.01234)] == [
        "123,457", "100.0", "12.3", "1.23", "0.0123",
    ]  # fmt: skip
    assert [size(count) for count in (512, 32 << 10, 3 << 19, 5 << 30)] == [
        "512 bytes", "32 KiB", "1.5 MiB", "5 GiB",
    ]  # fmt: skip


def test_the_models_table_has_every_figure(report: ModelReport) -> None:
    text = "\n".join(model_lines(replace(report, load=None)))
    for part in (
        "decode ",
        "batch 2 ",
        "prefill ",
        "first token of a prompt of 8",
        "resident",
        "limits:",
        "* ",
    ):
        assert part in text
    assert "medians of 1 rounds; decode and batch: 4 tokens from a prompt of 16" in text


def test_a_system_that_does_not_tell_its_memory(report: ModelReport) -> None:
    assert "memory: ? resident" in "\n".join(model_lines(replace(report, resident_bytes=None)))


def test_the_models_json(report: ModelReport) -> None:
    found = json.loads(json.dumps(model_json(report), allow_nan=False))
    assert found["schema"] == "pygpt.bench/1"
    assert [each["name"] for each in found["figures"]] == ["decode", "batch 2", "prefill"]
    for each in found["figures"]:
        assert each["share"] == max(each["memory_share"], each["compute_share"]) > 0
        assert each["bound"] in ("memory", "compute")
    assert found["info"]["threads"] == 2
    assert found["bandwidths"]["dram"]["median"] > 0
