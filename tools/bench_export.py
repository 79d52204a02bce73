"""What an export costs beside copying the same bytes, and how long a file takes to open.

    python tools/bench_export.py      # a GPT-2 of 124M parameters with random weights, f32 and f16

Each run is a process of its own, a copy too, and with the same imports: a virtual machine gives memory that
was free for a second or two back to its host, and who writes a file next pays for getting it again. Exports
and copies take turns, after one of each that is not counted. Times are medians, imports apart, of the clock
and of all processors together (CPU); peak memory is the process's resident set at most, mapped files too,
less what it was when everything was imported. A busy machine makes the clock's noise: look at the load first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MIB = 1 << 20

# Runs in the child: arguments are the source, the target, the dtype and whether to verify.
_EXPORT = """
import json, sys, time
import numpy, torch
from pygpt.checkpoints.base import Options
from pygpt.exporter import export_with_report
import pygpt.calibration, pygpt.checkpoints.recognise
source, target, dtype, verify = sys.argv[1:]
def now():
    return time.perf_counter(), time.process_time()
ends = {}
def progress(what, done, of):
    ends[what] = now()
def peak():  # not getrusage's, which begins with that of the process that started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")  # from here on
before, start = peak(), now()
options = Options(tokenizer="none")
export_with_report(source, target, dtype, options, verify=verify == "True", progress=progress)
end = now()
marks = [start, ends["known answers"], ends["writing"], end]
stages = dict(zip(("known answers", "writing", "replay"), zip(marks, marks[1:])), all=(start, end))
fields = {"peak": peak() - before}
for name, (first, last) in stages.items():
    fields[name] = last[0] - first[0]
    fields[name + " cpu"] = last[1] - first[1]
print(json.dumps(fields))
"""

# Copies a file to a new one and brings it to the disk.
_COPY = """
import json, os, shutil, sys, time
import numpy, torch
source, target = sys.argv[1:]
start = time.perf_counter()
with open(source, "rb") as read, open(target, "wb") as write:
    shutil.copyfileobj(read, write, 8 << 20)
    write.flush()
    os.fsync(write.fileno())
print(json.dumps(time.perf_counter() - start))
os.unlink(target)
"""

_OPEN = """
import json, sys, time
import pygpt, pygpt.engine
seconds = []
for _ in range(9):
    start = time.perf_counter()
    engine = pygpt.Engine(sys.argv[1])
    seconds.append(time.perf_counter() - start)
    engine.close()
print(json.dumps(sorted(seconds)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        source = Path(directory) / "ckpt.pt"
        _save_checkpoint(source, arguments.layers, arguments.width)
        print(f"source: {source.stat().st_size / MIB:.0f} MiB of f32; load average {os.getloadavg()[0]:.1f}")
        for dtype in ("f32", "f16"):
            _report(source, Path(directory) / f"{dtype}.pygpt", dtype, arguments.runs)
        seconds = json.loads(_child(_OPEN, str(Path(directory) / "f16.pygpt")))
        print(f"opening the f16 file, warm: median {statistics.median(seconds) * 1e3:.1f} ms, "
              f"fastest {seconds[0] * 1e3:.1f} ms")  # fmt: skip


def _save_checkpoint(path: Path, n_layer: int, width: int) -> None:
    """A nanoGPT checkpoint of GPT-2's shape, weights at random."""
    import torch

    torch.manual_seed(0)
    shapes = {"wte.weight": (50257, width), "wpe.weight": (1024, width), "ln_f.weight": (width,)}
    for i in range(n_layer):
        shapes |= {
            f"h.{i}.ln_1.weight": (width,), f"h.{i}.ln_2.weight": (width,),
            f"h.{i}.attn.c_attn.weight": (3 * width, width), f"h.{i}.attn.c_proj.weight": (width, width),
            f"h.{i}.mlp.c_fc.weight": (4 * width, width), f"h.{i}.mlp.c_proj.weight": (width, 4 * width),
        }  # fmt: skip
    state = {f"transformer.{name}": torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    for name in state:
        if len(state[name].shape) == 1:
            state[name] = torch.ones_like(state[name])
    state["lm_head.weight"] = state["transformer.wte.weight"]
    args = {"n_layer": n_layer, "n_head": width // 64, "n_embd": width, "block_size": 1024, "bias": False,
            "vocab_size": 50257, "dropout": 0.0}  # fmt: skip
    torch.save({"model": state, "model_args": args}, path)


def _report(source: Path, target: Path, dtype: str, runs: int) -> None:
    for verify in (False, True):
        done, copies = [], []
        for _ in range(runs + 1):
            done.append(_export(source, target, dtype, verify))
            copies.append(json.loads(_child(_COPY, str(target), str(target.with_suffix(".copy")))))
        size = target.stat().st_size
        copy = statistics.median(copies[1:])
        median = {key: statistics.median(run[key] for run in done[1:]) for key in done[0]}
        stages = ", ".join(
            f"{name} {median[name]:.2f} ({median[name + ' cpu']:.2f} CPU)"
            for name in ("known answers", "writing", "replay")
        )
        print(
            f"{dtype}, {size / MIB:.0f} MiB, {'proven' if verify else '--no-verify'}: {median['all']:.2f} s "
            f"({median['all cpu']:.2f} CPU): {stages}; a copy of the file with fsync {copy:.2f} s: all "
            f"{median['all'] / copy:.1f}x, writing alone {median['writing'] / copy:.1f}x; "
            f"peak memory {median['peak'] / MIB:.0f} MiB",
            flush=True,
        )


def _export(source: Path, target: Path, dtype: str, verify: bool) -> dict[str, float]:
    done: dict[str, Any] = json.loads(_child(_EXPORT, str(source), str(target), dtype, str(verify)))
    return done


def _child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
