"""pygpt beside every other engine that is installed, on the same weights and the same work.

    python tools/bench_peers.py                                      # S and M, every engine: some 15 minutes
    python tools/bench_peers.py --models S --engines pygpt llama.cpp --cells decode
    python tools/bench_peers.py --models X --rounds 3 --work DIR     # 1.1B: 15 GB of disk; each loads in turn
    python tools/bench_peers.py --growth                             # cost against context and batch
    python tools/bench_peers.py --read result.json --picture decode.png

Models have random weights from a fixed seed; everyone starts from one Hugging Face directory. Every engine at
every precision lives in a process of its own that loads the model once. They take turns, round by round, and
the next begins when the last has come to rest. Figures are medians; a ratio is the median over the rounds of
pygpt's figure to the peer's within the round, since both then met the same machine. Exact engines are checked
to write the same first tokens.

Decode continues a 16-token prompt greedily, whatever the tokens are; speed is (n - 1) / (t(n) - t(1)).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from peers import growth
from peers.catalogue import OURS, Contender, chosen
from peers.figures import CELLS, Group
from peers.measure import GroupRun, Plan, note
from peers.report import report
from peers.shapes import SHAPES

SCHEMA = "pygpt.bench_peers/1"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; impossible values end the program with a message."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--models", nargs="+", choices=("S", "M", "X"), default=["S", "M"])
    parser.add_argument(
        "--engines", nargs="+", default=[], help='such as pygpt, llama.cpp:Q8_0, "torch:int8"'
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("-j", "--threads", type=int, default=2, help="1 is measured too, for S's decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="cost against context and batch instead")
    parser.add_argument("--quick", action="store_true", help="few tokens: to see that everything runs")
    parser.add_argument(
        "--work", type=Path, help="keep models here, and use them again: empty it when an engine changes"
    )
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--picture", type=Path, help="also draw the decode speeds as this PNG")
    parser.add_argument("--read", type=Path, help="report on this file of --json instead of measuring")
    args = parser.parse_args(arguments)
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    try:
        args.contenders = chosen(args.engines)
    except ValueError as error:
        parser.error(str(error))
    if args.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: pip install matplotlib")
    if args.picture and args.growth:
        parser.error("--picture draws decode speeds, which --growth does not measure")
    for path in (args.json, args.picture):  # said now, not after the measurement
        if path and not path.resolve().parent.is_dir():
            parser.error(f"there is no directory {path.parent}")
    return args


def measure(args: argparse.Namespace, work: Path) -> Iterator[dict[str, Any]]:
    """What --json writes, as far as it is known, after every group."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": {"system": platform.system(), "isa": platform.machine(), "cpus": os.cpu_count()},
        "rounds": args.rounds,
        "quick": args.quick,
        "groups": [],
    }
    plan = Plan(args.threads, args.rounds, args.cells, args.quick)
    if args.growth:
        taking_part = [each for each in args.contenders if args.engines or each.engine == OURS]
        yield record | {"growth": asdict(growth.measure(taking_part, plan, work))}
        return
    runs = [(SHAPES[name], plan) for name in args.models]
    if "S" in args.models and "decode" in args.cells and args.threads > 1:
        runs.insert(args.models.index("S") + 1, (SHAPES["S"], replace(plan, threads=1, cells=["decode"])))
    for shape, its_plan in runs:
        record["groups"].append(asdict(GroupRun(shape, its_plan, work).run(args.contenders)))
        yield record


def show(record: dict[str, Any]) -> str:
    """The Markdown of what --json holds."""
    if record.get("schema") != SCHEMA:
        raise SystemExit(f"not a file of this tool's --json: its schema is {record.get('schema')!r}")
    parts = [report(Group(**group)) for group in record["groups"]]
    if "growth" in record:
        parts.append(growth.report(growth.Growth(**record["growth"])))
    if record["quick"]:
        parts.insert(0, "**--quick: a few tokens; these figures mean nothing.**")
    return "\n\n".join(parts)


def check_installed(contenders: Sequence[Contender]) -> None:
    """End with a message where nothing can run; what is missing is named with the command that brings it."""
    missing = [each for each in contenders if each.missing()]
    commands = {each.engine: f"  {each.engine}: pip install {each.pip}" for each in missing}
    if commands:
        note("\n".join(["not installed:", *commands.values()]))
    if len(missing) == len(contenders):
        raise SystemExit("none of the engines is installed: nothing to measure")


def main() -> int:
    args = parse()
    if args.read:
        record = json.loads(args.read.read_text())
    else:
        check_installed(args.contenders)
        with tempfile.TemporaryDirectory() as temporary:
            work = (args.work or Path(temporary)).resolve()
            work.mkdir(parents=True, exist_ok=True)
            for record in measure(args, work):  # the last is the whole
                if args.json:
                    args.json.write_text(json.dumps(record, indent=1))
    print(show(record))
    if args.picture:
        from peers.picture import draw

        draw([Group(**group) for group in record["groups"]], args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
