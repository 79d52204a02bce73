"""The limits of the machine: that each is there and consistent, never how fast it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pygpt import InvalidRequestError, OutOfMemory, _core
from pygpt._core import bench as core
from pygpt.bench import MachineLimits, bandwidth, limits, machine, reading
from pygpt.bench.caches import Caches


def test_every_number_of_threads_has_every_limit(measured: MachineLimits) -> None:
    both, several = {1, 2}, {2}
    for rates in (measured.dram_gb_s, measured.llc_gb_s, measured.l2_gb_s, measured.fma_gflops):
        assert set(rates) == both
    assert set(measured.barrier_ns) == set(measured.wake_ns) == several
    assert measured.isa == _core.isas()[0]
    assert list(measured.peaks) == _core.isas()
    assert set(measured.int8_gops) in (both, set())


def test_rates_are_positive_and_in_order(measured: MachineLimits) -> None:
    for rate in (*measured.dram_gb_s.values(), *measured.fma_gflops.values(), *measured.llc_gb_s.values()):
        assert 0 < rate.worst <= rate.median <= rate.best
        assert rate.repeats >= 2
    for rate in (*measured.barrier_ns.values(), *measured.wake_ns.values()):
        assert 0 < rate.best <= rate.median <= rate.worst


def test_the_way_to_read_is_told(measured: MachineLimits) -> None:
    assert "stream" in measured.dram_gb_s[1].how
    assert measured.dram_gb_s[1].how.endswith("MB")


@pytest.mark.usefixtures("quick")
def test_progress_comes_to_its_end() -> None:
    told: list[tuple[str, int, int]] = []
    machine([1], repeats=1, progress=lambda *news: told.append(news))
    assert {what for what, _, _ in told} >= {"measuring DRAM", "measuring L2", "measuring arithmetic"}
    (total,) = {total for _, _, total in told}
    assert [done for _, done, _ in told] == list(range(1, total + 1))


@pytest.mark.usefixtures("quick")
def test_bandwidth_alone() -> None:
    found = bandwidth(2, repeats=1)
    assert found.dram.median > 0
    assert found.llc is not None
    assert found.llc.median > 0


@pytest.mark.usefixtures("quick")
def test_without_a_file_the_other_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading.tempfile, "TemporaryFile", full)
    assert machine([1], repeats=1).dram_gb_s[1].median > 0


@pytest.mark.parametrize(
    ("threads", "repeats", "named"), [([0], 1, "threads"), ([1], 0, "repeats"), ([2000], 1, "threads")]
)
def test_numbers_out_of_range_are_refused(threads: list[int], repeats: int, named: str) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        machine(threads, repeats=repeats)


@pytest.mark.parametrize(("cpus", "counts"), [(1, [1]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (6, [1, 2, 4, 6])])
def test_all_numbers_of_threads_or_the_powers_of_two(
    monkeypatch: pytest.MonkeyPatch, cpus: int, counts: list[int]
) -> None:
    monkeypatch.setattr(_core, "available_cpus", lambda: cpus)
    assert limits._counts() == counts


def caches_of(llc_total: int) -> Caches:
    return Caches(l1=1 << 15, l2=1 << 20, llc=llc_total, llc_cpus=1, llc_total=llc_total, source="test")


def test_what_is_read_for_dram_exceeds_the_caches_and_leaves_memory_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "available_memory", lambda: 64 << 30)
    assert limits.dram_bytes(caches_of(4 << 20)) == 256 << 20
    assert limits.dram_bytes(caches_of(64 << 20)) == 512 << 20
    assert limits.dram_bytes(caches_of(1 << 30)) == 2 << 30
    monkeypatch.setattr(core, "available_memory", lambda: 512 << 20)
    assert limits.dram_bytes(caches_of(32 << 20)) == 128 << 20
    with pytest.raises(OutOfMemory, match="free some memory"):
        limits.dram_bytes(caches_of(128 << 20))


def test_importing_pygpt_does_not_import_the_bench() -> None:
    code = "import sys, pygpt, pygpt.engine; sys.exit('pygpt.bench' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
