"""A process of its own for one engine with one model: JSON lines in, JSON lines out.

    python -m peers.worker prepare CONTENDER SHAPE SOURCE TARGET    # -> {"path": ...} or {"skip": why}
    python -m peers.worker serve CONTENDER SHAPE PATH THREADS       # -> {"version": ...}, then answers

Between two lines it waits in read(2). The thread pools of its engine are left as their makers set them: the
driver waits until they rest (`client.Worker.settle`), rather than making them sleep while they work.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from peers.base import Runner, UnavailableError
from peers.catalogue import Contender, find
from peers.shapes import SHAPES

LONGEST_REASON = 200


def engine_module(contender: Contender) -> Any:
    return importlib.import_module(f"peers.{contender.module}")


def peak_mb() -> float | None:
    """The largest resident set of this process, VmHWM of proc(5), in megabytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)


def answer(runner: Runner, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"prompts", "tokens"} -> {"seconds", "decode_s", "tokens"}; {"peak"} -> {"peak_mb"}."""
    if "peak" in asked:
        return {"peak_mb": peak_mb()}
    start = time.perf_counter()
    made = runner.generate(asked["prompts"], asked["tokens"])
    seconds = time.perf_counter() - start
    wrong = [len(row) for row in made.tokens if len(row) != asked["tokens"]]
    if wrong or len(made.tokens) != len(asked["prompts"]):
        return {"error": f"asked for {asked['tokens']} tokens a row, got {[len(row) for row in made.tokens]}"}
    return {"seconds": seconds, "decode_s": made.decode_s, "tokens": made.tokens}


def own_stdout() -> IO[str]:
    """The pipe to the driver; whatever else is printed goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def say(pipe: IO[str], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


def one_line(text: str) -> str:
    """As a table holds it: without the working directory, and not the whole of a long one."""
    line = " ".join(text.split()).replace(os.getcwd() + os.sep, "")
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + "..."


def serve(pipe: IO[str], arguments: list[str]) -> None:
    name, shape, path, threads = arguments
    contender = find(name)
    runner = engine_module(contender).load(SHAPES[shape], contender.precision, Path(path), int(threads))
    say(pipe, {"version": runner.version, "weight_bytes": runner.weight_bytes})
    for line in iter(sys.stdin.readline, ""):
        say(pipe, answer(runner, json.loads(line)))


def prepare(pipe: IO[str], arguments: list[str]) -> None:
    name, shape, source, target = arguments
    contender = find(name)
    module = engine_module(contender)
    path = module.prepare(SHAPES[shape], contender.precision, Path(source), Path(target))
    say(pipe, {"path": str(path)})


def main() -> int:
    pipe = own_stdout()
    try:
        {"serve": serve, "prepare": prepare}[sys.argv[1]](pipe, sys.argv[2:])
    except UnavailableError as error:
        say(pipe, {"skip": one_line(str(error))})
    except Exception as error:  # whatever an engine throws is a line of the report
        traceback.print_exc()
        say(pipe, {"error": one_line(f"{type(error).__name__}: {error}")})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
