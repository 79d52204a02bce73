"""The CUDA laboratory: what a persistent kernel would rest on, measured on the GPU that is here.

    python tools/cuda_lab.py --json lab.json                 # everything, some minutes
    python tools/cuda_lab.py handover cluster --rounds 9
    python tools/cuda_lab.py --compile 90a 80 120            # no GPU needed: does it build, does it spill?
    python tools/cuda_lab.py --predictions                   # the table of docs/kernels.md, nothing measured
    python tools/cuda_lab.py --read lab.json                 # the tables again

Each experiment is a program of tools/cuda_lab/. They take turns, round by round, in processes of their own;
figures are medians over the rounds. Every case checks what it computed: one wrong number, and the exit code
is 1. Needs nvcc and nothing else.

Exit codes: 0 done, 1 a program failed or computed wrongly, 2 usage, 4 no nvcc or no GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from cuda_lab_report import Case, Cases, prediction_table, read_predictions, table

SOURCES = Path(__file__).with_name("cuda_lab")
EXPERIMENTS = ("handover", "cluster", "read_bandwidth", "gemv", "launches")
SCHEMA = "pygpt.cuda_lab/1"
FAILED, NO_DEVICE = 1, 4
LEAST_ARCH = 80
TIMEOUT_S = 300.0
FLAGS = ("-std=c++20", "-O3", "-Xcompiler=-Wall,-Wextra", "-Werror", "all-warnings", "-Xptxas", "-v")


class LabError(Exception):
    """What ends a run, with the exit code that stands for it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def note(text: str) -> None:
    """A line about the progress."""
    print(text, file=sys.stderr, flush=True)


def run(command: Sequence[str], what: str, code: int = FAILED) -> subprocess.CompletedProcess[str]:
    """The finished command; LabError with its last words when it failed or took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise LabError(f"{what}: no end after {TIMEOUT_S:.0f} s", code) from None
    except OSError as error:
        raise LabError(f"{what}: {error}", code) from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise LabError(f"{what}: exit code {done.returncode}\n" + "\n".join(words), code)
    return done


def find_nvcc(named: str | None) -> str:
    """nvcc's path: the one named, of PATH, or of /usr/local/cuda."""
    found = shutil.which(named) if named else shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if found is None:
        what = f"there is no compiler {named}" if named else "nvcc is not here"
        raise LabError(f"{what}: install the CUDA toolkit, or name the compiler with --nvcc", NO_DEVICE)
    return found


def architecture() -> str:
    """What nvcc calls the first GPU, such as "90a"."""
    if shutil.which("nvidia-smi") is None:
        raise LabError("there is no GPU here (no nvidia-smi); --compile builds without one", NO_DEVICE)
    asked = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    lines = run(asked, "nvidia-smi", NO_DEVICE).stdout.split()
    if not lines or not lines[0].replace(".", "").isdigit():
        raise LabError("nvidia-smi names no GPU; --compile builds without one", NO_DEVICE)
    arch = lines[0].replace(".", "")
    if int(arch) < LEAST_ARCH:
        raise LabError(f"this GPU has compute capability {lines[0]}; the laboratory needs 8.0", NO_DEVICE)
    return "90a" if arch == "90" else arch


def compile_one(nvcc: str, arch: str, experiment: str, folder: Path) -> str:
    """Build a program into the folder; what ptxas says of its kernels."""
    target = f"arch=compute_{arch},code=sm_{arch}"
    source, program = SOURCES / f"{experiment}.cu", folder / experiment
    command = [nvcc, *FLAGS, "-gencode", target, str(source), "-o", str(program)]
    return run(command, f"compiling {experiment} for sm_{arch}").stderr


def compile_all(nvcc: str, arch: str, experiments: Sequence[str], folder: Path) -> dict[str, str]:
    """Build the programs side by side."""
    with ThreadPoolExecutor(len(experiments)) as pool:
        logs = pool.map(lambda each: compile_one(nvcc, arch, each, folder), experiments)
        return dict(zip(experiments, logs, strict=True))


def spilled(log: str) -> int:
    """Bytes that the kernels of a build spill, from ptxas's words."""
    words = log.replace(",", "").split()
    pairs = zip(words, words[1:], words[2:], words[3:], strict=False)
    return sum(int(n) for n, b, s, what in pairs if (b, s) == ("bytes", "spill") and what.endswith("s"))


def record_lines(cases: Cases, experiment: str, output: str) -> dict[str, Any]:
    """Add what a program printed to the cases; the line about its device.

    Raises:
        LabError: a line that is no JSON of ours.
    """
    device: dict[str, Any] = {}
    for line in output.splitlines():
        try:
            heard = json.loads(line)
            if "device" in heard:
                device = heard
                continue
            case = cases.setdefault((experiment, heard["case"]), Case(experiment, heard["case"]))
            if "skipped" in heard:
                case.skipped = heard["skipped"]
                continue
            case.unit = heard["unit"]
            case.values.append(float(heard["value"]))
            case.verified = case.verified and heard["verified"] is True
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"{experiment} printed what is no result: {line!r}") from error
    return device


def as_json(device: Mapping[str, Any], rounds: int, cases: Cases) -> dict[str, Any]:
    """What --json writes."""
    found = [asdict(case) for case in cases.values()]
    return {"schema": SCHEMA, "device": dict(device), "rounds": rounds, "cases": found}


def from_json(path: Path) -> tuple[dict[str, Any], Cases]:
    """The device and the cases of a file of --json."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"{path}: {error}") from error
    if not isinstance(held, dict) or held.get("schema") != SCHEMA:
        raise LabError(f"{path} is not a file of this tool's --json")
    cases = {(each["experiment"], each["name"]): Case(**each) for each in held["cases"]}
    return held["device"], cases


def measure(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Cases]:
    """Build, then round by round; --json is written after every program: what is cut short is not lost."""
    nvcc = find_nvcc(args.nvcc)
    arch = args.arch or architecture()
    note(f"compiling for sm_{arch}")
    compile_all(nvcc, arch, args.experiments, folder)
    cases: Cases = {}
    device: dict[str, Any] = {}
    for round_ in range(args.rounds):
        for each in args.experiments:
            note(f"round {round_ + 1}/{args.rounds}: {each}")
            device = record_lines(cases, each, run([str(folder / each)], each).stdout)
            if args.json:
                args.json.write_text(json.dumps(as_json(device, round_ + 1, cases), indent=1) + "\n", "utf-8")
    return device, cases


def compile_only(args: argparse.Namespace, folder: Path) -> int:
    """Build for the architectures and say what each program spills; the exit code."""
    nvcc, worst = find_nvcc(args.nvcc), 0
    for arch in args.compile:
        for experiment, log in compile_all(nvcc, arch, args.experiments, folder).items():
            print(f"sm_{arch}: {experiment}: {spilled(log)} bytes spilled")
            worst = max(worst, spilled(log))
    return FAILED if worst else 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n(see {self.prog} --help)\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; impossible values end the program with a message."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every value to this file")
    parser.add_argument("--nvcc", help="the compiler (default: of PATH)")
    parser.add_argument("--arch", help="such as 90a, where nvidia-smi does not say it")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--compile", nargs="+", metavar="ARCH", help="build for these and measure nothing")
    only.add_argument("--predictions", action="store_true", help="show what was expected")
    only.add_argument("--read", type=Path, metavar="JSON", help="show what an earlier run measured")
    args = parser.parse_args(arguments)
    for each in args.experiments:
        if each not in EXPERIMENTS:
            parser.error(f"there is no experiment {each!r}; there are {', '.join(EXPERIMENTS)}")
    args.experiments = args.experiments or list(EXPERIMENTS)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"there is no directory {args.json.parent}")
    return args


def work(args: argparse.Namespace) -> int:
    """Do what the command line says; the exit code."""
    predictions = read_predictions(SOURCES / "predictions.json")
    if args.predictions:
        print(prediction_table(predictions, {}))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if args.compile:
            return compile_only(args, Path(folder))
        device, cases = from_json(args.read) if args.read else measure(args, Path(folder))
    print(json.dumps(device), table(cases, predictions), prediction_table(predictions, cases), sep="\n\n")
    return FAILED if any(not case.verified for case in cases.values()) else 0


def main() -> int:
    args = parse()
    try:
        return work(args)
    except LabError as error:
        note(f"cuda_lab: {error}")
        return error.code


if __name__ == "__main__":
    sys.exit(main())
