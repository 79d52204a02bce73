"""Engines where memory, stacks and descriptors are short, and where they come and go (rows D3-D7, D11)."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

from own_process import WATCHDOG_S, in_process

from pygpt import Engine


def held() -> tuple[int, int, int]:
    """Bytes of memory, threads and descriptors of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
    )


def first_letters(engine: Engine) -> str:
    return engine.generate("abc", max_tokens=5, seed=1).text


def test_D5_a_thread_with_a_small_stack_generates(engine: Engine) -> None:
    wanted = first_letters(engine)
    found: list[str] = []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.append(first_letters(engine)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert found == [wanted]


def test_D6_without_descriptors_opening_and_waiting_fail_and_leave_nothing(small_model: Path) -> None:
    code = f"""
    import resource
    before = len(os.listdir('/proc/self/fd'))
    async def ask():
        return await engine.agenerate('a', max_tokens=2)
    async def main():
        await ask()
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, 4096))
        for use in (lambda: pygpt.Engine({str(small_model)!r}), ask):
            try:
                found = use()
                await found
            except OSError as error:
                print(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        print(len((await ask()).token_ids))
    asyncio.run(main())
    print(len(os.listdir('/proc/self/fd')) - before)
    """
    done = in_process(small_model, code)
    assert done.stdout.split() == ["24", "24", "2", "0"], done.stderr


def test_D3_too_little_address_space_is_OutOfMemory_and_exit_code_4(small_model: Path) -> None:
    """Each limit ends in an error that says so, or is enough; never in a signal."""
    codes = set()
    for megabytes in (150, 200, 260, 400, 4000):
        done = subprocess.run(
            [sys.executable, "-m", "pygpt", "generate", str(small_model), "-p", "a", "--max-tokens", "5"],
            capture_output=True, text=True, timeout=WATCHDOG_S, check=False,
            preexec_fn=lambda limit=megabytes << 20: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )  # fmt: skip
        assert done.returncode >= 0, (megabytes, done.stderr)
        codes.add(done.returncode)
    assert 0 in codes


def test_D7_engines_and_requests_that_come_and_go_leave_nothing(small_model: Path) -> None:
    def cycle(count: int) -> None:
        for _ in range(count):
            with Engine(small_model, threads=2) as engine:
                engine.generate("a", max_tokens=2)

    cycle(30)
    before = held()
    cycle(150)
    after = held()
    assert after[0] - before[0] < 4 << 20
    assert after[1:] == before[1:]
    with Engine(small_model, threads=1) as engine:
        for _ in range(300):
            engine.generate("abc", max_tokens=1)
        before = held()
        for _ in range(1500):
            engine.generate("abc", max_tokens=1)
        after = held()
    assert after[0] - before[0] < 2 << 20
    assert after[1:] == before[1:]


def test_D11_nothing_of_a_request_reaches_another(small_model: Path) -> None:
    """One place: B runs where A was cancelled, and gets the bits that a fresh engine gives."""
    with Engine(small_model, max_running=1) as engine:
        stream = engine.stream("the secret is Bob", max_tokens=10**9)
        next(stream)
        stream.close()
        found = engine.generate("what is it", max_tokens=20, seed=1, logprobs=5)
        logits = engine.logits("what is it").tobytes()
    with Engine(small_model, max_running=1) as fresh:
        wanted = fresh.generate("what is it", max_tokens=20, seed=1, logprobs=5)
        assert fresh.logits("what is it").tobytes() == logits
    assert (found.text, found.logprobs) == (wanted.text, wanted.logprobs)


def test_D2_threads_that_cannot_be_had_make_a_smaller_team_or_an_error(small_model: Path) -> None:
    """A limit on address space refuses the stack of the Nth thread; no team that is half built hangs."""
    code = f"""
    import resource
    wanted = engine.generate('abc', max_tokens=9, seed=1).text
    used = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    for megabytes in range(10, 400, 30):
        resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), -1))
        try:
            with pygpt.Engine({str(small_model)!r}, threads=100) as other:
                assert 1 <= other.info['threads'] < 100
                assert other.generate('abc', max_tokens=2, seed=1).text == wanted[:2]
        except (pygpt.OutOfMemory, MemoryError, OSError):
            pass
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    print(engine.generate('abc', max_tokens=9, seed=1).text == wanted)
    """
    done = in_process(small_model, code)
    assert done.stdout == "True\n", done.stderr
