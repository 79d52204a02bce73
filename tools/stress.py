"""Many callers on one engine for a long time: no wrong text, no memory, thread or descriptor left behind.

    python tools/stress.py                         # 100,000 requests, and the figures; half an hour or so
    python tools/stress.py --requests 2000 --exits 5
    python tools/stress.py --model gpt.pygpt --figures-only

Half of the requests come from threads and half from tasks of an event loop; lengths are mixed, a fifth is
cancelled at a random moment, some have a deadline. What one of them gets is compared with what it gets alone.
Exit code 1: something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygpt
from pygpt.cli.common import BUNDLED

THREADS, TASKS = 16, 200
LONGEST = 40  # tokens
CANCELLED = 0.2  # of the requests
PROMPTS = 50


@dataclass
class Tally:
    """What happened, counted by several threads."""

    done: int = 0
    cancelled: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)


@dataclass(frozen=True)
class Work:
    """The requests, each with the text that it gives alone."""

    engine: pygpt.Engine
    prompts: list[str]
    alone: list[str]

    def right(self, number: int, tokens: list[int], text: str) -> bool:
        """Whether this is the beginning of what the prompt gives; whole texts are compared as a whole."""
        whole = self.alone[number]
        return whole.startswith(text) and len(text) <= len(whole) and len(tokens) <= LONGEST

    def asked(self, number: int, length: int) -> dict[str, Any]:
        return {"max_tokens": length, "seed": number, "temperature": 1.0}


def prepare(engine: pygpt.Engine) -> Work:
    """Prompts of all lengths, some with a beginning in common."""
    letters = "ROMEO: JULIET: the of to and what is it that thou art"
    chance = random.Random(1)  # noqa: S311
    prompts = []
    for number in range(PROMPTS):
        head = letters if number % 3 == 0 else ""
        prompts.append(head + "".join(chance.choice(letters) for _ in range(1 + number * 3)))
    texts = [
        engine.generate(prompt, max_tokens=LONGEST, seed=number, temperature=1.0, logprobs=0).text
        for number, prompt in enumerate(prompts)
    ]
    return Work(engine, prompts, texts)


def in_thread(work: Work, tally: Tally, seed: int) -> None:
    """One request from a thread: whole, streamed, left in the middle, or with a deadline."""
    chance = random.Random(seed)  # noqa: S311
    number, length = chance.randrange(PROMPTS), chance.randint(1, LONGEST)
    asked = work.asked(number, length)
    kind = chance.random()
    if kind < CANCELLED:
        with work.engine.stream(work.prompts[number], **asked) as stream:
            tokens: list[int] = []
            text = ""
            stop = chance.randint(0, length)
            for piece in stream:
                tokens += piece.token_ids
                text += piece.text
                if len(tokens) >= stop:
                    break
        return note(work, tally, number, tokens, text, "cancelled")
    try:
        timeout = 1e-3 * chance.random() if kind > 0.95 else None
        out = work.engine.generate(work.prompts[number], timeout=timeout, **asked)
    except pygpt.DeadlineExceeded as error:
        out = error.completions[0]
        return note(work, tally, number, out.token_ids, out.text, "late")
    whole = len(out.token_ids) == length and work.alone[number].startswith(out.text)
    return note(work, tally, number, out.token_ids, out.text, "done", whole=whole)


async def in_task(work: Work, tally: Tally, seed: int) -> None:
    """The same from a task."""
    chance = random.Random(seed)  # noqa: S311
    number, length = chance.randrange(PROMPTS), chance.randint(1, LONGEST)
    asked = work.asked(number, length)
    if chance.random() < CANCELLED:
        call = asyncio.ensure_future(work.engine.agenerate(work.prompts[number], **asked))
        await asyncio.sleep(chance.random() * 0.02)
        call.cancel()
        found = (await asyncio.gather(call, return_exceptions=True))[0]
        if isinstance(found, asyncio.CancelledError):
            return tally.count("cancelled")
        if isinstance(found, BaseException):
            raise found
        return note(work, tally, number, found.token_ids, found.text, "done")
    tokens: list[int] = []
    text = ""
    async for piece in work.engine.astream(work.prompts[number], **asked):
        tokens += piece.token_ids
        text += piece.text
    return note(work, tally, number, tokens, text, "done", whole=len(tokens) == length)


def note(
    work: Work, tally: Tally, number: int, tokens: list[int], text: str, what: str, *, whole: bool = True
) -> None:
    """Count a request, and say if its text is wrong."""
    if not whole or not work.right(number, tokens, text):
        with tally.lock:
            tally.wrong.append(f"prompt {number}, {what}, {len(tokens)} tokens: {text!r}")
    tally.count(what)


def storm(work: Work, tally: Tally, pool: ThreadPoolExecutor, first: int, count: int) -> None:
    """Run `count` requests, half from the pool and half from a loop in this thread, at the same time."""
    seeds = iter(range(first, first + count // 2))

    async def client() -> None:
        for seed in seeds:  # shared: each takes the next
            await in_task(work, tally, seed)

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(TASKS)))

    left = iter(range(first + count // 2, first + count))
    lock = threading.Lock()

    def thread() -> None:
        while True:
            with lock:
                seed = next(left, None)
            if seed is None:
                return
            in_thread(work, tally, seed)

    threads = [pool.submit(thread) for _ in range(THREADS)]
    asyncio.run(clients())
    for each in threads:
        each.result()


def held() -> tuple[int, int, int]:
    """Bytes of memory, threads and descriptors of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads = len(os.listdir("/proc/self/task"))
    return pages * os.sysconf("SC_PAGE_SIZE"), threads, len(os.listdir("/proc/self/fd"))


def stress(model: Path, requests: int) -> dict[str, Any]:
    """All requests in ten equal parts; memory after the first and after the last."""
    tally = Tally()
    with ThreadPoolExecutor(THREADS) as pool, pygpt.Engine(model) as engine:
        work = prepare(engine)
        start, parts = time.monotonic(), []
        for part in range(10):
            storm(work, tally, pool, part * (requests // 10), requests // 10)
            parts.append(held())
            print(f"  {(part + 1) * requests // 10} requests, {parts[-1][0] >> 10} KiB", file=sys.stderr)
        seconds = time.monotonic() - start
    growth = parts[-1][0] / parts[0][0] - 1
    return {
        "requests": requests, "seconds": round(seconds, 1), "done": tally.done, "cancelled": tally.cancelled,
        "late": tally.late, "wrong": len(tally.wrong), "examples": tally.wrong[:3],
        "rss_after_a_tenth": parts[0][0], "rss_at_the_end": parts[-1][0], "rss_growth": round(growth, 4),
        "threads_left": parts[-1][1] - parts[0][1], "descriptors_left": parts[-1][2] - parts[0][2],
    }  # fmt: skip


def exits(model: Path, count: int) -> int:
    """Interpreters that end while the engine works; how many of them did not end well."""
    code = (
        f"import pygpt, random, sys, threading, time\nengine = pygpt.Engine({str(model)!r})\n"
        "s = engine.stream('a', max_tokens=10**9)\n"
        "go_on = dict(target=engine.generate, args=('a',), kwargs={'max_tokens': 10**9}, daemon=True)\n"
        "threading.Thread(**go_on).start()\n"
        "time.sleep(random.random() * 0.05)\nsys.exit(3)"
    )
    bad = 0
    for _ in range(count):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        bad += (done.returncode, done.stdout, done.stderr) != (3, "", "")
    return bad


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def figures(model: Path, repeats: int = 9) -> dict[str, Any]:
    """Streams beside the batch, a prefix that is known, a cancel: medians, in seconds and shares."""
    with pygpt.Engine(model) as engine:
        prompts = [f"{letter} is" for letter in "ABCDEFGH"]
        room = engine.info["context_length"]
        asked: dict[str, Any] = {"max_tokens": room - 10, "seed": 1, "temperature": 1.0}

        async def streams() -> None:
            async def one(prompt: str) -> None:
                async for _piece in engine.astream(prompt, **asked):
                    pass

            await asyncio.gather(*map(one, prompts))

        pairs = []
        for _ in range(repeats):
            pairs.append(
                (timed(lambda: engine.generate(prompts, **asked)), timed(lambda: asyncio.run(streams())))
            )
        shares = sorted(batch / stream for batch, stream in pairs)

        length = min(200, room - 8)
        chance = random.Random(2)  # noqa: S311
        letters = "abcdefghijklmnopqrstuvwxyz"

        def first_token(prompt: str) -> float:
            return timed(lambda: next(engine.stream(prompt, max_tokens=2, temperature=0)))

        cold, warm = [], []
        for _ in range(repeats):
            prompt = "".join(chance.choice(letters) for _ in range(length))
            cold.append(first_token(prompt))
            warm.append(first_token(prompt))
        cancels, step = cancel_latency(engine, repeats)
    return {
        "streams_of_batch": round(statistics.median(shares), 3), "best": round(shares[-1], 3),
        "prefix_tokens": length, "first_token_cold_s": statistics.median(cold),
        "first_token_warm_s": statistics.median(warm),
        "warm_of_cold": round(statistics.median(w / c for w, c in zip(warm, cold, strict=True)), 4),
        "cancel_s": statistics.median(cancels), "cancel_worst_s": max(cancels), "step_s": step,
    }  # fmt: skip


def cancel_latency(engine: pygpt.Engine, repeats: int) -> tuple[list[float], float]:
    """From the cancel to the core's last word, and what a step of this request takes."""
    cancels, steps = [], []
    for _ in range(repeats):
        stream = engine.stream("a", max_tokens=10**6, on_overflow="shift", temperature=1.0)
        next(stream)
        start, tokens = time.perf_counter(), 0
        while tokens < 20:
            tokens += len(next(stream).token_ids)
        steps.append((time.perf_counter() - start) / tokens)
        start = time.perf_counter()
        stream.close()
        while not stream._ticket.done:
            time.sleep(0)
        cancels.append(time.perf_counter() - start)
    return cancels, statistics.median(steps)


def main() -> int:
    """Run what the flags ask for; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=BUNDLED, help="a .pygpt file (default: the bundled model)"
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9, help="of each figure")
    parser.add_argument("--exits", type=int, default=100)
    parser.add_argument("--figures-only", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"figures": figures(arguments.model, arguments.repeats)}
    well = True
    if not arguments.figures_only:
        found["stress"] = stress(arguments.model, arguments.requests)
        found["bad_exits"] = exits(arguments.model, arguments.exits)
        storms = found["stress"]
        left = storms["threads_left"] > 0 or storms["descriptors_left"] > 0
        well = not (storms["wrong"] or found["bad_exits"] or left or abs(storms["rss_growth"]) > 0.02)
    print(json.dumps(found, indent=1))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
