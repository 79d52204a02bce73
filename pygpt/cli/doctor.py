"""`pygpt doctor`: one screen about this installation, to look at first and to paste into a bug report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_DESCRIPTION = """\
Show versions, instruction sets, limits of CPUs and memory, and optional packages, then replay the known
answers of the bundled model (or of MODEL) on this machine.

  pygpt doctor
  pygpt doctor gpt.pygpt --json

Nothing secret is printed: no environment but pygpt's own, and the home directory as ~.
"""
_VARIABLES = ("PYGPT_ISA", "PYGPT_THREADS", "PYGPT_HOME")
_PACKAGES = {
    "base": ("numpy", "tokenizers", "jinja2", "prompt_toolkit", "rich"),
    "train, export": ("torch", "safetensors", "matplotlib"),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `doctor`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "doctor",
        help="show what pygpt finds here, for a bug report",
        description=_DESCRIPTION,
        epilog="exit codes: 0 all is well, 1 something is wrong (it is named)\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="a .pygpt file (default: the bundled model)"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Look, and show what was found; the exit code."""
    from pygpt.repl.sanitize import visible

    facts = examine(args.model)
    if args.json:
        print(json.dumps(facts, allow_nan=False))  # noqa: T201  (the command's result)
    else:
        print(visible("\n".join(_lines(facts)), sys.stdout.encoding))  # noqa: T201
    return 0 if facts["well"] else 1


def examine(model: str | None) -> dict[str, Any]:
    """Everything that the screen shows. What fails is a finding, never an exception."""
    problems: list[str] = []

    def looked_at(what: str, look: Callable[[], Any]) -> Any:
        try:
            return look()
        except Exception as error:  # whatever is broken here is what the doctor is for
            problems.append(_at_home(f"{what}: {type(error).__name__}: {error}"))
            return None

    from pygpt import machine

    packages = {group: {name: _version(name) for name in names} for group, names in _PACKAGES.items()}
    problems += [f"{name} is not installed" for name, found in packages["base"].items() if found is None]
    facts = {
        "schema": "pygpt.doctor/1",
        "pygpt": _version("pygpt"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "installed_in": _at_home(str(Path(__file__).parents[1])),
        "machine": looked_at("machine", machine.describe),
        "core": looked_at("core", _core),
        "packages": packages,
        "environment": {name: _at_home(os.environ[name]) for name in _VARIABLES if name in os.environ},
        "model": looked_at("model", lambda: _replay(model)),
    }
    if facts["model"] and not facts["model"]["passed"]:
        problems.append("model: this machine computes other answers than the file says")
    return facts | {"problems": problems, "well": not problems}


def _core() -> dict[str, Any]:
    from pygpt import _core

    return {
        "version": _core.__version__,
        "isas": _core.isas(),
        "gpu": _gpu(),
        "usable_cpus": _core.available_cpus(),
        "usable_memory_bytes": _core.bench.available_memory(),
    }


def _gpu() -> dict[str, Any] | str:
    """The GPU, or why there is none to use: nothing that is wrong."""
    from pygpt import _core
    from pygpt.errors import DeviceError

    try:
        return _core.gpu()
    except DeviceError as error:
        return str(error)


def _replay(model: str | None) -> dict[str, Any]:
    """The known answers of a model, and one generation."""
    from pygpt.cli.common import BUNDLED
    from pygpt.cli.inspect import open_model_file
    from pygpt.engine import Engine
    from pygpt.parity import replay

    path = os.fspath(BUNDLED) if model is None else model
    report = replay(open_model_file(path, verify="full"))
    with Engine(path, device="cpu") as engine:
        engine.generate([0], max_tokens=8, temperature=0)
        info = engine.info
    names = ("fingerprint", "parameters", "formats", "kv_dtype", "isa", "threads", "device")
    facts = {"path": _at_home(path)} | {name: info[name] for name in names}
    if report is None:
        return facts | {"passed": True, "known_answers": None}
    return facts | {"passed": report.passed, "known_answers": report.to_dict()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _at_home(text: str) -> str:
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """The same for people: at most 80 columns and one screen."""
    machine, core, model = facts["machine"] or {}, facts["core"] or {}, facts["model"] or {}
    rows = {
        "pygpt": f"{facts['pygpt']}, {facts['python']}",
        "in": facts["installed_in"],
        "system": f"{machine.get('system')}, {machine.get('machine')}, {machine.get('libc')}",
        "processor": machine.get("processor") or "unknown",
        "cpus": f"{core.get('usable_cpus')} usable: {machine.get('cpus')} here, affinity "
        f"{_count(machine.get('affinity'))}, cgroup {_or_none(machine.get('cgroup_cpus'))}",
        "memory": f"{_size(core.get('usable_memory_bytes'))} usable: "
        f"{_size(machine.get('memory_bytes'))} here, cgroup {_size(machine.get('cgroup_memory_bytes'))}",
        "isa": " ".join(core.get("isas", ())) or "none",
        "gpu": _shown_gpu(core.get("gpu", "unknown")),
        "variables": ", ".join(f"{k}={v}" for k, v in facts["environment"].items()) or "none",
        **{group: _packages(found) for group, found in facts["packages"].items()},
        "model": _model(model) if model else "could not be run",
    }
    shown = [f"{name:<14} {value}" for name, value in rows.items()]
    return [*shown, "", *(f"PROBLEM: {each}" for each in facts["problems"]), *["all is well"] * facts["well"]]


def _shown_gpu(gpu: dict[str, Any] | str) -> str:
    if isinstance(gpu, str):
        return "none: " + gpu.split(":")[0]
    return f"{gpu['name']}, {gpu['target']}, {_size(gpu['memory_bytes'])}"


def _model(model: Mapping[str, Any]) -> str:
    answers = model["known_answers"]
    proof = "no known answers"
    if answers:
        stored = answers["stored"]
        verdict = "ok" if model["passed"] else "WRONG"
        proof = f"known answers {verdict}: {stored['max_rel']:.1e} of {stored['budget']:.0e} allowed"
    runs = f"{model['isa']}, {model['threads']} threads"
    return f"{os.path.basename(model['path'])} {'/'.join(model['formats'])}, {runs}; {proof}"


def _packages(found: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'MISSING'}" for name, version in found.items())


def _count(cpus: list[int] | None) -> str:
    return "unknown" if cpus is None else str(len(cpus))


def _or_none(number: float | None) -> str:
    return "none" if number is None else f"{number:g}"


def _size(number: int | None) -> str:
    return "none" if number is None else f"{number / 2**30:.1f} GiB"
