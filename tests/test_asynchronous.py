"""Engines in event loops: agenerate, astream, cancellation, deadlines (rows C19, E15, E16)."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pygpt
from pygpt import (
    Cancelled,
    DeadlineExceeded,
    Engine,
    EngineClosedError,
    InvalidRequestError,
    OverloadedError,
)
from pygpt.asynchronous import LONG_PROMPT

LONG = 10**9  # tokens: an answer that nobody waits for
WATCHDOG_S = 60

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a loop of its own; a hang is a failure. Whatever the loop complains about is one, too."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await asyncio.wait_for(work, WATCHDOG_S)

    found = asyncio.run(watched())
    gc.collect()
    assert complaints == []
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread and no descriptor stays behind."""
    asyncio.run(asyncio.sleep(0))
    gc.collect()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert threading.active_count() <= threads


async def idle(engine: Engine) -> None:
    """Wait until nothing runs: as many sequences as may run at once get their token."""
    running = engine.info["max_running"]
    assert len(await engine.agenerate(["a"] * running, max_tokens=1)) == running


async def text_of(stream: AsyncIterator[pygpt.TextPiece]) -> str:
    return "".join([piece.text async for piece in stream])


def test_agenerate_gives_what_generate_gives(engine: Engine) -> None:
    async def work() -> None:
        for keywords in ({"n": 3}, {"stop": ["e"]}, {"logprobs": 2, "echo": True}, {"max_tokens": 0}, {}):
            asked: dict[str, Any] = {"max_tokens": 20, "seed": 3} | keywords
            for prompt in ("abc", ["abc", "x"]):
                here, there = engine.generate(prompt, **asked), await engine.agenerate(prompt, **asked)
                assert contents(here) == contents(there)
        assert await engine.agenerate([[1, 2]], max_tokens=0) != []
        assert (await engine.agenerate([], max_tokens=2, seed=1)).text  # one empty prompt

    run(work())


def contents(found: Any) -> Any:
    """All of a completion, or of lists of them, but its timings."""
    if isinstance(found, list):
        return [contents(each) for each in found]
    fields = (found.text, found.token_ids, found.finish_reason, found.stop_reason, found.logprobs)
    return (*fields, found.prompt_token_ids, found.usage.prompt_tokens, found.seed, found.sample)


def test_astream_gives_the_pieces_of_stream(engine: Engine) -> None:
    async def work() -> None:
        for keywords in ({}, {"stop": ["e"]}, {"n": 2}):
            asked: dict[str, Any] = {"max_tokens": 30, "seed": 5} | keywords
            wanted = engine.generate("abc", **asked)
            pieces = [piece async for piece in engine.astream("abc", **asked)]
            for each in wanted if isinstance(wanted, list) else [wanted]:
                own = [piece for piece in pieces if piece.sample == each.sample]
                assert "".join(map(str, own)) == each.text
                assert [token for piece in own for token in piece.token_ids] == each.token_ids
                assert contents(own[-1].completion) == contents(each)

    run(work())


def test_E1_a_thousand_tasks_share_an_engine(engine: Engine) -> None:
    """Each gets what it would get alone, whether it waits or streams."""
    asked = [(letter, seed) for letter in "abcdefgh" for seed in range(5)]
    alone = {key: engine.generate(key[0], max_tokens=8, seed=key[1]).text for key in asked}

    async def one(number: int) -> bool:
        letter, seed = key = asked[number % len(asked)]
        if number % 2:
            return await text_of(engine.astream(letter, max_tokens=8, seed=seed)) == alone[key]
        return (await engine.agenerate(letter, max_tokens=8, seed=seed)).text == alone[key]

    async def work() -> list[bool]:
        return await asyncio.gather(*map(one, range(1000)))

    assert all(run(work()))


def test_the_loop_goes_on_while_the_core_works(engine: Engine) -> None:
    async def work() -> float:
        task = asyncio.create_task(text_of(engine.astream("a", max_tokens=LONG)))
        longest, last = 0.0, time.monotonic()
        for _ in range(200):
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return longest

    assert run(work()) < 1.0


def test_a_long_prompt_is_encoded_beside_the_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    encode = engine.tokenizer.encode  # type: ignore[union-attr]

    def watched(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return encode(*given, **named)

    monkeypatch.setattr(engine.tokenizer, "encode", watched)

    async def work() -> None:
        for size in (10, LONG_PROMPT + 1):
            out = await engine.agenerate("a" * size, max_tokens=1, on_overflow="slide")
            assert out.usage.prompt_tokens + out.usage.prompt_tokens_dropped == size
        await asyncio.get_running_loop().shutdown_default_executor()

    run(work())
    assert threads == [True, False]


@pytest.mark.parametrize("leave", ["break", "del", "close", "aclose", "with", "error", "cancel"])
def test_E15_a_stream_that_is_left_frees_its_place(engine: Engine, leave: str) -> None:
    async def leave_one() -> None:
        stream = engine.astream("a", max_tokens=LONG)
        if leave == "break":
            async for _piece in stream:
                break
            return
        await anext(stream)
        if leave == "close":
            stream.close()
            stream.close()
            assert await text_of(stream) == ""
        elif leave == "aclose":
            await stream.aclose()
            await stream.aclose()
        elif leave == "with":
            async with stream:
                await anext(stream)
        elif leave == "error":
            with pytest.raises(ZeroDivisionError):
                async with stream:
                    raise ZeroDivisionError
        elif leave == "cancel":
            task = asyncio.create_task(text_of(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def work() -> None:
        await asyncio.gather(*(leave_one() for _ in range(3 * engine.info["max_running"])))
        await idle(engine)

    run(work())


def test_E15_a_cancelled_task_cancels_its_generation(engine: Engine) -> None:
    async def work() -> None:
        tasks = [asyncio.create_task(engine.agenerate("a", max_tokens=LONG)) for _ in range(100)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(each, asyncio.CancelledError)
            for each in await asyncio.gather(*tasks, return_exceptions=True)
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.agenerate("a", max_tokens=LONG), 0.02)
        await idle(engine)

    run(work())


def test_E15_one_engine_serves_two_loops_at_once_and_a_loop_after_another(engine: Engine) -> None:
    alone = engine.generate("ab", max_tokens=20, seed=1).text
    found: list[str] = []

    async def work() -> None:
        for _ in range(20):
            found.append(await text_of(engine.astream("ab", max_tokens=20, seed=1)))
            found.append((await engine.agenerate("ab", max_tokens=20, seed=1)).text)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG_S)
    run(work())
    assert found == [alone] * 120


def test_E15_a_loop_that_is_closed_in_the_middle_leaves_the_engine_usable(engine: Engine) -> None:
    loop = asyncio.new_event_loop()
    stream = engine.astream("a", max_tokens=LONG)
    loop.run_until_complete(anext(stream))
    loop.close()
    stream.close()
    del stream, loop
    run(idle(engine))
    assert engine.generate("a", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3


def test_another_thread_may_close_a_stream(engine: Engine) -> None:
    async def work() -> None:
        stream = engine.astream("a", max_tokens=LONG)
        await anext(stream)
        threading.Timer(0.05, stream.close).start()
        with pytest.raises(Cancelled, match="closed by another thread or task"):
            await text_of(stream)
        assert await text_of(stream) == ""  # it is told once
        await asyncio.sleep(0.05)
        await idle(engine)

    run(work())


def test_another_task_may_close_a_stream(engine: Engine) -> None:
    async def work() -> None:
        stream = engine.astream("a", max_tokens=LONG)
        reader = asyncio.create_task(text_of(stream))
        await asyncio.sleep(0.02)
        await stream.aclose()
        with pytest.raises(Cancelled):
            await reader
        short = engine.astream("a", max_tokens=3)
        await text_of(short)
        await asyncio.create_task(short.aclose())
        assert await text_of(short) == ""  # it was whole
        await idle(engine)

    run(work())


def test_closing_the_engine_ends_what_tasks_wait_for(small_model: Path) -> None:
    async def work() -> None:
        engine = Engine(small_model)
        tasks = [
            asyncio.create_task(engine.agenerate("a", max_tokens=LONG)),
            asyncio.create_task(text_of(engine.astream("a", max_tokens=LONG))),
        ]
        await asyncio.sleep(0.05)
        engine.close()
        for each in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(each, EngineClosedError)

    run(work())


def test_errors_come_as_from_generate(engine: Engine) -> None:
    async def work() -> None:
        with pytest.raises(InvalidRequestError, match="temperature"):
            await engine.agenerate("a", temperature=-1)
        with pytest.raises(InvalidRequestError, match="one prompt"):
            engine.astream(["a", "b"])  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="prompt"):
            await anext(engine.astream([10**6]))
        with pytest.raises(InvalidRequestError, match="chat template"):
            await engine.achat([{"role": "user", "content": "hi"}])
        with pytest.raises(InvalidRequestError, match="chat template"):
            engine.achat_stream([{"role": "user", "content": "hi"}])

    run(work())


# Deadlines ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_is_none_is_refused(engine: Engine, timeout: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        engine.generate("a", timeout=timeout)
    assert caught.value.param == "timeout"


def test_a_timeout_that_is_not_needed_changes_nothing(engine: Engine) -> None:
    with_it = engine.generate("a", max_tokens=9, seed=1, timeout=1e9)
    assert contents(with_it) == contents(engine.generate("a", max_tokens=9, seed=1))


def test_E16_a_deadline_ends_a_call_and_tells_what_there_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # wall time is not looked at
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"the timeout of 0.3 s ran out: 0 of 2 texts") as caught:
        engine.generate(["a", "b"], max_tokens=LONG, seed=1, timeout=0.3)
    assert 0.3 <= time.monotonic() - start < 10
    for completion, prompt in zip(caught.value.completions, "ab", strict=True):
        assert completion.finish_reason == "cancelled"
        count = len(completion.token_ids)
        assert completion.text == engine.generate(prompt, max_tokens=count, seed=1).text
    assert len(engine.generate("a", max_tokens=3).token_ids) == 3


def test_a_deadline_ends_streams_behind_what_they_have(engine: Engine) -> None:
    async def work() -> list[pygpt.TextPiece]:
        pieces = []
        with pytest.raises(DeadlineExceeded):
            async for piece in engine.astream("a", max_tokens=LONG, timeout=0.1, stop=["\n\n\n\n"]):
                pieces.append(piece)
        return pieces

    for pieces in (run(work()), streamed_until_late(engine)):
        assert pieces[-1].completion is not None
        assert pieces[-1].finish_reason == "cancelled"
        assert "".join(map(str, pieces)) == pieces[-1].completion.text


def streamed_until_late(engine: Engine) -> list[pygpt.TextPiece]:
    stream, pieces = engine.stream("a", max_tokens=LONG, timeout=0.1), []
    with pytest.raises(DeadlineExceeded) as caught:
        for piece in stream:
            pieces.append(piece)
    assert caught.value.completions == [pieces[-1].completion]
    assert list(stream) == []
    return pieces


def test_a_deadline_ends_what_still_waits_for_its_turn(small_model: Path) -> None:
    with Engine(small_model, max_running=1) as engine:
        first = engine.stream("a", max_tokens=LONG)
        with pytest.raises(DeadlineExceeded, match="0 tokens") as caught:
            engine.generate("b", timeout=0.05)
        assert caught.value.completions[0].token_ids == []
        first.close()
        assert engine.generate("b", max_tokens=2).token_ids


# The queue ------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_with_figures_and_lets_others_in_when_it_has_room(small_model: Path) -> None:
    with Engine(small_model, max_running=2, max_waiting=3) as engine:
        assert engine.info["max_waiting"] == 3
        streams = [engine.stream("a", max_tokens=LONG) for _ in range(5)]
        for call in (lambda: engine.generate("a", max_tokens=1), lambda: asyncio.run(one_async(engine))):
            with pytest.raises(OverloadedError, match=r"has 5 sequences .* 1 more; it runs 2 .* lets 3 wait"):
                call()
        next(streams[0])
        streams.pop().close()
        patient(lambda: streams.append(engine.stream("b", max_tokens=LONG)))
        with pytest.raises(OverloadedError, match="asked for 8 more"):
            engine.generate("a", n=8)
        for stream in streams:
            stream.close()
        patient(lambda: engine.generate(["a"] * 5, max_tokens=1))
        for _ in range(20):  # a place is free before its caller hears of the end: so this never fails
            assert len(engine.generate(["a"] * 5, max_tokens=1)) == 5


def patient(ask: Callable[[], object]) -> None:
    """Ask until there is room: what was closed is gone within a step."""
    end = time.monotonic() + WATCHDOG_S
    while time.monotonic() < end:
        try:
            ask()
            return
        except OverloadedError:
            time.sleep(0.001)
    raise AssertionError("no room for ever")


async def one_async(engine: Engine) -> None:
    await engine.agenerate("a", max_tokens=1)


def test_first_come_first_served(small_model: Path) -> None:
    """Whoever asks, and whatever was asked: with one place, calls end in the order in which they came."""
    ended: list[int] = []

    async def one(number: int) -> None:
        await engine.agenerate("abc"[: number % 3 + 1], max_tokens=1 + number * 7 % 11)
        ended.append(number)

    async def work() -> None:
        await asyncio.gather(*map(one, range(30)))

    with Engine(small_model, max_running=1) as engine:
        run(work())
    assert ended == list(range(30))


def test_the_example_of_the_docs_runs(small_model: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "serving.md").read_text("utf-8")
    block = re.search(r"<!-- run -->\n```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    code = block[1].replace("docs.pygpt", str(small_model))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WATCHDOG_S, check=True
    )
    assert done.stdout
    assert not done.stderr
