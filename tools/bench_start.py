"""What a person waits for, and what a waiting chat costs: start-up, memory, idle processor time.

    python tools/bench_start.py [MODEL]

- import: `python -c "import pygpt"`, less the same with nothing in it.
- chat: from the start of `gpt-chat` in a terminal, with a line typed ahead, to the answer's first character.
- memory: the chat's largest resident set after its answer.
- idle: its processor time while it waits for a line.

Medians of --rounds runs, each in a process of its own, after one that warms the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pexpect

IDLE_S = 3.0
# A terminal says where its cursor is when prompt_toolkit asks; pexpect's does not, and would be waited for.
NO_CURSOR = {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1"}


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def cpu_seconds(process: int) -> float:
    """User and system time of a process, /proc/PID/stat fields 14 and 15 (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float:
    """The largest resident set, VmHWM, in megabytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this system does not say VmHWM")


def chat_once(model: list[str]) -> tuple[float, float, float]:
    """(seconds to the first character of the answer, peak MB, idle share of one core)."""
    start = time.perf_counter()
    chat = pexpect.spawn(
        sys.executable, ["-m", "pygpt", "chat", *model], encoding="utf-8", dimensions=(40, 100), env=NO_CURSOR
    )
    chat.sendline("What news from Verona?")
    chat.expect(r"JULIET\S* *(?:\x1b\[[0-9;]*m)* *[A-Za-z']")
    first = time.perf_counter() - start
    chat.expect("ROMEO:", timeout=30)
    time.sleep(0.5)
    busy = cpu_seconds(chat.pid)
    time.sleep(IDLE_S)
    idle = (cpu_seconds(chat.pid) - busy) / IDLE_S
    memory = peak_mb(chat.pid)
    chat.sendeof()
    chat.expect(pexpect.EOF)
    chat.close()
    return first, memory, idle


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Measure start-up, memory and idle cost.", allow_abbrev=False
    )
    parser.add_argument("model", nargs="?", help="a .pygpt file (default: the bundled model)")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    model = [args.model] if args.model else []
    chat_once(model)
    chats = [chat_once(model) for _ in range(args.rounds)]
    imports = [seconds("import pygpt") - seconds("pass") for _ in range(args.rounds)]
    firsts, memories, idles = zip(*chats, strict=True)
    print(f"import pygpt          {statistics.median(imports):.3f} s ({min(imports):.3f}-{max(imports):.3f})")
    print(f"chat to first token   {statistics.median(firsts):.3f} s ({min(firsts):.3f}-{max(firsts):.3f})")
    print(f"chat's memory (peak)  {statistics.median(memories):.0f} MB")
    print(f"chat at its prompt    {100 * statistics.median(idles):.1f} % of a core")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
