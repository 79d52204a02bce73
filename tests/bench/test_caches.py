"""Cache sizes as the system tells them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pygpt.bench import caches
from pygpt.bench.caches import Caches, detect


def sysfs(root: Path, cpus: dict[int, list[tuple[int, str, str, str]]]) -> Path:
    """A /sys/devices/system/cpu with (level, type, size, shared_cpu_list) for each CPU."""
    for cpu, indices in cpus.items():
        for number, values in enumerate(indices):
            folder = root / f"cpu{cpu}" / "cache" / f"index{number}"
            folder.mkdir(parents=True)
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                (folder / name).write_text(f"{value}\n")
    return root


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_cpus", lambda: [0, 1, 2, 3])


@pytest.mark.usefixtures("four_cpus")
def test_each_instance_of_the_last_level_counts_once(tmp_path: Path) -> None:
    cpus = {
        cpu: [
            (1, "Data", "48K", str(cpu)),
            (1, "Instruction", "64K", str(cpu)),
            (2, "Unified", "1M", str(cpu)),
            (3, "Unified", "16384K", "0-1" if cpu < 2 else "2-3"),
        ]
        for cpu in range(4)
    }
    found = detect(sysfs(tmp_path, cpus))
    assert found == Caches(
        l1=48 << 10, l2=1 << 20, llc=16 << 20, llc_cpus=2, llc_total=32 << 20, source="sysfs"
    )
    assert [found.reached_by(threads) >> 20 for threads in (1, 2, 3, 4, 8)] == [16, 16, 32, 32, 32]


@pytest.mark.usefixtures("four_cpus")
def test_where_the_second_level_is_the_last_it_is_no_l2(tmp_path: Path) -> None:
    cpus = {cpu: [(1, "Data", "32K", str(cpu)), (2, "Unified", "2048K", "0-3")] for cpu in range(4)}
    found = detect(sysfs(tmp_path, cpus))
    assert (found.l2, found.llc, found.llc_cpus) == (0, 2 << 20, 4)


@pytest.mark.parametrize("size", ["0K", "many", ""])
@pytest.mark.usefixtures("four_cpus")
def test_nonsense_in_sysfs_falls_back_to_sysconf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    said = {
        "SC_LEVEL1_DCACHE_SIZE": 32 << 10,
        "SC_LEVEL2_CACHE_SIZE": 1 << 20,
        "SC_LEVEL3_CACHE_SIZE": 4 << 20,
    }
    monkeypatch.setattr(os, "sysconf", said.__getitem__)
    found = detect(sysfs(tmp_path, {0: [(3, "Unified", size, "0-3")]}))
    assert (found.l2, found.llc_total, found.source) == (1 << 20, 4 << 20, "sysconf")


def test_where_nobody_tells_sizes_are_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: 0)
    found = detect(tmp_path)
    assert found.source == "assumed"
    assert 0 < found.l1 < found.l2 < found.llc
