"""The core's probes: they compute what they say they compute, on every ISA, and refuse what they cannot."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

from pygpt import DeviceError, Error, OutOfMemory, _core
from pygpt._core import bench


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("streams", [1, 4, 8])
@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("units", [0, 1, 77])
def test_reading_sums_every_word_once(isa: str, streams: int, prefetch: bool, units: int) -> None:
    data = np.random.default_rng(units).integers(0, 256, units * 64 * streams, dtype=np.uint8)
    exact = int(data.view(np.uint32).sum(dtype=np.uint64) % 2**32)
    assert bench.checksum(data, streams=streams, prefetch=prefetch, isa=isa) == exact


@pytest.mark.parametrize(("size", "streams"), [(64, 4), (63, 1), (128, 2)])
def test_a_size_that_the_streams_do_not_divide_is_refused(size: int, streams: int) -> None:
    with pytest.raises(ValueError, match="streams must be"):
        bench.checksum(np.zeros(size, np.uint8), streams=streams, prefetch=False)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_every_isa_has_its_peaks(isa: str, threads: int) -> None:
    probe = bench.Probe(threads, isa=isa)
    assert (probe.isa, probe.threads) == (isa, threads)
    assert probe.fma(1000) > 0
    assert probe.dot8(1000) > 0
    assert probe.barrier(10) > 0
    assert probe.wake(0.0) > 0


@pytest.mark.parametrize("kind", ["plain", "huge", "file"])
def test_every_kind_of_memory_can_be_read(kind: str) -> None:
    probe = bench.Probe(2)
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 16)
        memory = probe.allocate(1 << 16, kind, file.fileno())  # type: ignore[arg-type]
        assert memory.bytes == 1 << 16
        for streams in (1, 4, 8):
            assert probe.read(memory, 1 << 16, streams=streams, prefetch=True, sweeps=2) > 0


def test_what_does_not_fit_into_memory_is_refused_before_it_is_mapped() -> None:
    with pytest.raises(OutOfMemory, match="MiB are available"):
        bench.Probe(1).allocate(1 << 60, "plain")


def test_mistakes_are_refused() -> None:
    probe = bench.Probe(1)
    memory = probe.allocate(1 << 12, "plain")
    with pytest.raises(Error, match="can read"):
        probe.read(memory, 1 << 13, streams=1, prefetch=False)
    with pytest.raises(Error, match="streams must be"):
        probe.read(memory, 1 << 12, streams=3, prefetch=False)
    with pytest.raises(Error, match="sweeps"):
        probe.read(memory, 1 << 12, streams=1, prefetch=False, sweeps=0)
    with pytest.raises(Error, match="file"), tempfile.TemporaryFile() as empty:
        probe.allocate(1 << 12, "file", empty.fileno())
    with pytest.raises(ValueError, match="kind"):
        probe.allocate(1 << 12, "cheese")  # type: ignore[arg-type]
    with pytest.raises(Error, match="threads"):
        bench.Probe(0)
    with pytest.raises(DeviceError, match="abacus"):
        bench.Probe(1, isa="abacus")
