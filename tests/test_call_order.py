"""Any calls in any order on one engine: each gets the text that it would get alone, and nothing is left.

PYGPT_STATE_EXAMPLES=2000 for a long run, each time of other examples; the default takes seconds and is
always the same, so that CI fails for a change and not by chance.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import pygpt

EXAMPLES = int(os.environ.get("PYGPT_STATE_EXAMPLES", "10"))
HEADS = ("", "To be, or not to be: ", "To be, or not to be, said the man")  # with pages in common
CONTEXT = 64


@dataclass(frozen=True)
class Call:
    """What is asked for, the same for each way to ask."""

    prompt: str
    length: int
    seed: int

    @property
    def keywords(self) -> dict[str, Any]:
        return {"max_tokens": self.length, "seed": self.seed, "temperature": 1.0}


CALLS = st.builds(
    Call,
    prompt=st.builds(
        lambda head, tail: head + tail, st.sampled_from(HEADS), st.text("abc XYZ", min_size=1, max_size=8)
    ),
    length=st.integers(0, CONTEXT - 45),
    seed=st.integers(0, 3),
)


class Alone:
    """The oracle: one call at a time, on an engine that keeps nothing of the one before."""

    def __init__(self, path: Path) -> None:
        self._engine = pygpt.Engine(path, prefix_cache=False, threads=1)
        self._texts: dict[Call, str] = {}

    def text(self, call: Call) -> str:
        if call not in self._texts:
            self._texts[call] = self._engine.generate(call.prompt, **call.keywords).text
        return self._texts[call]

    def close(self) -> None:
        self._engine.close()


class Started:
    """A stream in the middle of its text."""

    def __init__(self, call: Call, engine: pygpt.Engine) -> None:
        self.call, self.engine, self.text = call, engine, ""
        self.stream = engine.stream(call.prompt, **call.keywords)


class Calls(RuleBasedStateMachine):
    streams = Bundle("streams")
    prefixes = Bundle("prefixes")

    def __init__(self, path: Path, folder: Path, alone: Alone) -> None:
        super().__init__()
        self.path, self.folder, self.alone = path, folder, alone
        self.descriptors, self.threads = descriptors(), threading.active_count()
        self.open = False
        self.saved = 0

    @initialize(threads=st.integers(1, 2), max_running=st.integers(1, 3), cached=st.booleans())
    def start(self, threads: int, max_running: int, cached: bool) -> None:
        self.cached = cached
        self.options: dict[str, Any] = {
            "threads": threads, "max_running": max_running, "prefix_cache": cached
        }  # fmt: skip
        self.reopen()

    @precondition(lambda self: not self.open)
    @rule()
    def reopen(self) -> None:
        self.engine = pygpt.Engine(self.path, **self.options)
        self.open = True

    @rule(call=CALLS)
    def generate(self, call: Call) -> None:
        with self.unless_closed():
            assert self.engine.generate(call.prompt, **call.keywords).text == self.alone.text(call)

    @rule(calls=st.lists(CALLS, min_size=2, max_size=4), again=CALLS)
    def generate_in_threads(self, calls: list[Call], again: Call) -> None:
        with ThreadPoolExecutor(len(calls)) as pool, self.unless_closed():
            found = [pool.submit(self.engine.generate, c.prompt, **c.keywords) for c in calls]
            for piece in self.engine.stream(again.prompt, **again.keywords):
                assert piece.text in self.alone.text(again)
            assert [each.result().text for each in found] == [self.alone.text(c) for c in calls]

    @rule(call=CALLS, milliseconds=st.integers(1, 3))
    def generate_in_time(self, call: Call, milliseconds: int) -> None:
        with self.unless_closed():
            try:
                out = self.engine.generate(call.prompt, timeout=milliseconds / 1000, **call.keywords)
            except pygpt.DeadlineExceeded as error:
                out = error.completions[0]
            wanted = self.alone.text(call)
            assert wanted.startswith(out.text) if out.finish_reason == "cancelled" else out.text == wanted

    @rule(call=CALLS)
    def ask_the_impossible(self, call: Call) -> None:
        with pytest.raises(pygpt.InvalidRequestError):  # closed or not
            self.engine.generate(call.prompt, **(call.keywords | {"top_p": 2.0}))

    @rule(target=streams, call=CALLS)
    def stream(self, call: Call) -> Started | None:
        with self.unless_closed():
            return Started(call, self.engine)
        return None

    @rule(started=streams)
    def advance(self, started: Started | None) -> None:
        if started is None:
            return
        try:
            started.text += next(started.stream).text
        except StopIteration:
            pass
        except pygpt.EngineClosedError:
            assert not self.running(started)
        assert self.alone.text(started.call).startswith(started.text)

    @rule(started=consumes(streams), elsewhere=st.booleans())
    def close_stream(self, started: Started | None, elsewhere: bool) -> None:
        if started is None:
            return
        if elsewhere:
            closing = threading.Thread(target=started.stream.close)
            closing.start()
            closing.join()
        told = contextlib.suppress(pygpt.Cancelled) if elsewhere else contextlib.nullcontext()
        with told:
            started.stream.close()
            assert list(started.stream) == []
        assert list(started.stream) == []

    @precondition(lambda self: self.open)
    @rule(started=consumes(streams))
    def finish_stream(self, started: Started | None) -> None:
        if started is None or not self.running(started):
            return
        started.text += "".join(piece.text for piece in started.stream)
        assert started.text == self.alone.text(started.call)

    @rule(calls=st.lists(CALLS, min_size=1, max_size=4), cancelled=CALLS, pause=st.integers(0, 3))
    def tasks(self, calls: list[Call], cancelled: Call, pause: int) -> None:
        async def run() -> list[str]:
            tasks = [asyncio.ensure_future(self.engine.agenerate(c.prompt, **c.keywords)) for c in calls]
            left = asyncio.ensure_future(self.engine.agenerate(cancelled.prompt, **cancelled.keywords))
            await asyncio.sleep(pause / 1000)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            return [out.text for out in await asyncio.gather(*tasks)]

        with self.unless_closed():
            assert asyncio.run(run()) == [self.alone.text(call) for call in calls]

    @rule(call=CALLS, pieces=st.integers(1, 30))
    def stream_in_a_loop(self, call: Call, pieces: int) -> None:
        async def run() -> tuple[str, bool]:
            text = ""
            async with contextlib.aclosing(self.engine.astream(call.prompt, **call.keywords)) as stream:
                for _ in range(pieces):
                    try:
                        text += (await anext(stream)).text
                    except StopAsyncIteration:
                        return text, True
            return text, False

        with self.unless_closed():
            text, whole = asyncio.run(run())
            wanted = self.alone.text(call)
            assert text == wanted if whole else wanted.startswith(text)

    @precondition(lambda self: self.cached)
    @rule(target=prefixes, call=CALLS)
    def save_prefix(self, call: Call) -> Path | None:
        with self.unless_closed():
            self.saved += 1
            path = self.folder / f"{self.saved}.prefix"
            self.engine.save_prefix(path, call.prompt)
            return path
        return None

    @rule(path=prefixes)
    def load_prefix(self, path: Path | None) -> None:
        if path is not None:
            with self.unless_closed():
                self.engine.load_prefix(path)

    @rule(again=st.booleans())
    def close(self, again: bool) -> None:
        self.engine.close()
        if again:
            self.engine.close()
        self.open = False

    @invariant()
    def the_names_of_the_engine_can_be_had(self) -> None:
        if hasattr(self, "engine"):
            assert self.engine.info["context_length"] == CONTEXT

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
        assert descriptors() == self.descriptors
        assert threading.active_count() == self.threads

    def running(self, started: Started) -> bool:
        return self.open and started.engine is self.engine

    @contextlib.contextmanager
    def unless_closed(self) -> Iterator[None]:
        """A closed engine says so, and an open one never does."""
        if self.open:
            yield
        else:
            with pytest.raises(pygpt.EngineClosedError):
                yield
                raise AssertionError("a closed engine answered")


def descriptors() -> int:
    gc.collect()  # what an error's traceback held
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_C26_calls_in_any_order_get_what_they_get_alone(small_model: Path, tmp_path: Path) -> None:
    alone = Alone(small_model)
    try:
        run_state_machine_as_test(
            lambda: Calls(small_model, tmp_path, alone),
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=25, deadline=None, database=None,
                derandomize="PYGPT_STATE_EXAMPLES" not in os.environ,
                suppress_health_check=list(HealthCheck), phases=(Phase.generate,),  # shrinking takes minutes
            ),
        )  # fmt: skip
    finally:
        alone.close()
