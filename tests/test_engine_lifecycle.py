"""Engines that are left, closed, shared, forked, pickled and interrupted (rows C19-C23, E1-E11 in part)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small_models
from own_process import WATCHDOG_S, in_process

import pygpt
from pygpt import Cancelled, DeviceError, Engine, EngineClosedError, InvalidRequestError

LONG = 10**9  # tokens: an answer that nobody waits for


def free_places(engine: Engine) -> None:
    """Wait until nothing runs: as many sequences as may run at once get their token."""
    running = engine.info["max_running"]
    assert len(engine.generate(["a"] * running, max_tokens=1)) == running


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("leave", ["break", "del", "close", "with", "error"])
def test_C19_a_stream_that_is_left_frees_its_place(engine: Engine, leave: str) -> None:
    for _ in range(3 * engine.info["max_running"]):
        stream = engine.stream("a", max_tokens=LONG)
        if leave == "break":
            for _piece in stream:
                break
        elif leave == "close":
            next(stream)
            stream.close()
            stream.close()
            assert list(stream) == []
        elif leave == "with":
            with stream:
                next(stream)
        elif leave == "error":
            with pytest.raises(ZeroDivisionError):
                any(1 / 0 for _ in stream)
        del stream
    free_places(engine)


def test_C19_who_reads_a_stream_that_another_thread_closes_is_told(engine: Engine) -> None:
    stream = engine.stream("a", max_tokens=LONG)
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(list, stream)
        stream.close()
        with pytest.raises(Cancelled, match="closed by another thread or task"):
            reader.result(60)
    assert list(stream) == []  # told once
    whole = engine.stream("a", max_tokens=3)
    assert len(list(whole)) >= 1
    threading.Thread(target=whole.close).start()
    assert list(whole) == []
    free_places(engine)


def test_C19_a_thousand_abandoned_streams_leave_no_memory_and_no_thread(engine: Engine) -> None:
    def abandon(count: int) -> None:
        for _ in range(count):
            next(engine.stream("a", max_tokens=LONG, logprobs=2))
        gc.collect()
        free_places(engine)

    abandon(200)
    before, threads = rss_bytes(), len(os.listdir("/proc/self/task"))
    abandon(1000)
    assert rss_bytes() - before < 4 << 20
    assert len(os.listdir("/proc/self/task")) == threads
    assert threading.active_count() <= 2


def test_C20_an_error_of_the_reader_comes_through_once_and_the_engine_goes_on(engine: Engine) -> None:
    def read() -> None:
        for _ in engine.stream("a", max_tokens=LONG):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read()
    assert len(engine.generate("a", max_tokens=3).token_ids) == 3


def test_C21_generating_inside_a_stream_works(engine: Engine) -> None:
    alone = engine.generate("abc", max_tokens=5, seed=1).text
    inner = [engine.generate("abc", max_tokens=5, seed=1).text for _ in engine.stream("xyz", max_tokens=20)]
    assert set(inner) == {alone}


def test_C22_a_closed_engine_says_so_and_closing_again_is_harmless(small_model: Path) -> None:
    with Engine(small_model) as engine, engine:
        stream = engine.stream("a", max_tokens=LONG)
        next(stream)
    engine.close()
    assert repr(engine) == "<pygpt.Engine 'small.pygpt', closed>"
    for use in (
        lambda: engine.generate("a"), lambda: engine.stream("a"), lambda: engine.logits("a"),
        lambda: engine.score(["ab"]), lambda: next(stream),
    ):  # fmt: skip
        with pytest.raises(EngineClosedError):
            use()
    assert engine.info["config"]["vocab_size"] > 0


def test_C22_a_closed_engine_keeps_none_of_the_files_memory(tmp_path: Path) -> None:
    path = small_models.reciting_model(tmp_path / "large.pygpt", [0, 1, 0], None, vocab_size=12_000_000)
    size = path.stat().st_size
    before = rss_bytes()
    engine = Engine(path, mmap=False, threads=1)
    assert rss_bytes() - before > size // 2
    engine.close()
    assert rss_bytes() - before < size // 2


def test_C22_closing_ends_what_other_threads_wait_for(small_model: Path) -> None:
    engine = Engine(small_model)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(engine.generate, "a", max_tokens=LONG)
        time.sleep(0.2)
        engine.close()
        with pytest.raises(EngineClosedError):
            future.result(timeout=WATCHDOG_S)


def test_C22_an_engine_that_did_not_open_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty.pygpt").touch()
    for path in (tmp_path / "empty.pygpt", tmp_path / "missing.pygpt"):
        with pytest.raises((pygpt.ModelFileError, OSError)):
            Engine(path)
    gc.collect()


@pytest.mark.parametrize(
    "code",
    [
        "",
        "engine.close()",
        "stream = engine.stream('a', max_tokens=10**9); next(stream)",
        "stream = engine.stream('a', max_tokens=10**9)\nengine.self = engine\nsys.exit(0)",
    ],
)
def test_C22_a_process_ends_in_silence_whatever_still_runs(small_model: Path, code: str) -> None:
    for _ in range(5):
        done = in_process(small_model, code)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_E11_a_process_ends_in_silence_while_a_daemon_thread_generates(small_model: Path) -> None:
    code = """
    threading.Thread(target=engine.generate, args=('a',), kwargs={'max_tokens': 10**9}, daemon=True).start()
    time.sleep(0.05)
    """
    for _ in range(10):
        done = in_process(small_model, code)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_C23_copies_open_the_file_anew(small_model: Path, copied: Callable[[Engine], Engine]) -> None:
    with Engine(small_model, max_context=32) as engine:
        text = engine.generate("abc", max_tokens=10, seed=1).text
        other = copied(engine)
    with other:
        assert other.info["context_length"] == 32
        assert other.generate("abc", max_tokens=10, seed=1).text == text


def test_E1_many_threads_share_an_engine(engine: Engine) -> None:
    prompts = [f"{letter}{other}" for letter in "abcdefgh" for other in "stuvwxyz"]
    serial = [engine.generate(p, max_tokens=20, seed=3).text for p in prompts]
    with ThreadPoolExecutor(64) as pool:
        whole = pool.map(lambda p: engine.generate(p, max_tokens=20, seed=3).text, prompts)
        streamed = pool.map(lambda p: "".join(map(str, engine.stream(p, max_tokens=20, seed=3))), prompts)
        assert list(whole) == serial
        assert list(streamed) == serial


def test_E2_other_threads_run_while_the_core_works(engine: Engine) -> None:
    stop, beats = threading.Event(), 0

    def beat() -> None:
        nonlocal beats
        while not stop.wait(0.001):
            beats += 1

    thread = threading.Thread(target=beat)
    thread.start()
    start = time.perf_counter()
    while time.perf_counter() - start < 0.5:
        engine.generate("a", max_tokens=500)
    stop.set()
    thread.join()
    assert beats > 50


@pytest.mark.parametrize(
    "call", ["engine.generate('a', max_tokens=10**9)", "list(engine.stream('a', max_tokens=10**9))"]
)
def test_E3_Ctrl_C_stops_a_generation_and_the_engine_goes_on(small_model: Path, call: str) -> None:
    code = f"""
    def interrupt():
        time.sleep(0.2)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    for _ in range(3):
        sent = []
        threading.Thread(target=interrupt).start()
        try:
            {call}
        except KeyboardInterrupt:
            assert time.monotonic() - sent[0] < 1.0
            assert len(engine.generate('a', max_tokens=5).token_ids) == 5
            print('stopped')
    """
    done = in_process(small_model, code)
    assert (done.stdout, done.stderr) == ("stopped\n" * 3, "")


def test_E4_a_generation_in_another_thread_is_left_to_itself_by_Ctrl_C(small_model: Path) -> None:
    code = """
    out = []
    worker = threading.Thread(target=lambda: out.append(engine.generate('a', max_tokens=3000)))
    worker.start()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        worker.join()
        print(len(out[0].token_ids))
    """
    assert in_process(small_model, code).stdout == "3000\n"


def test_E6_no_signal_handler_is_installed(small_model: Path) -> None:
    code = """
    print([s for s in signal.valid_signals() if signal.getsignal(s) not in
           (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)])
    """
    assert in_process(small_model, code).stdout == "[]\n"


@pytest.mark.parametrize("busy", [False, True])
def test_E7_a_forked_child_is_told_and_never_hangs(small_model: Path, busy: bool) -> None:
    code = f"""
    stream = engine.stream('a', max_tokens=10**9) if {busy} else None
    if stream: next(stream)
    pid = os.fork()
    if pid == 0:
        for use in (lambda: engine.generate('a'), lambda: engine.stream('a'), lambda: next(stream)):
            try:
                use()
            except (pygpt.ForkedEngineError, TypeError) as error:
                print(type(error).__name__, flush=True)
        engine.close()
        del engine, stream
        own = pygpt.Engine({str(small_model)!r})
        print(len(own.generate('a', max_tokens=4).token_ids), flush=True)
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(len(engine.generate('a', max_tokens=4).token_ids))
    """
    done = in_process(small_model, code)
    third = "ForkedEngineError" if busy else "TypeError"
    assert done.stdout.split() == ["ForkedEngineError", "ForkedEngineError", third, "4", "7", "4"], (
        done.stderr
    )


def test_E14_an_engine_lives_as_long_as_its_stream(small_model: Path) -> None:
    stream = Engine(small_model).stream("a", max_tokens=200)
    gc.collect()
    assert sum(len(piece.token_ids) for piece in stream) == 200


def test_options_that_cannot_be_are_refused(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, param in (
        ({"threads": 0}, "threads"), ({"threads": True}, "threads"), ({"max_context": 65}, "max_context"),
        ({"kv_dtype": "f8"}, "kv_dtype"), ({"verify": "half"}, "verify"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequestError) as caught:
            Engine(small_model, **options)  # type: ignore[arg-type]
        assert caught.value.param == param
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        Engine(small_model, device="tpu")
    monkeypatch.setenv("PYGPT_THREADS", "many")
    with pytest.raises(InvalidRequestError, match="PYGPT_THREADS='many'"):
        Engine(small_model)
    monkeypatch.setenv("PYGPT_THREADS", "2")
    monkeypatch.setenv("PYGPT_ISA", "generic")
    with Engine(small_model) as engine:
        assert (engine.info["threads"], engine.info["isa"]) == (2, "generic")
    monkeypatch.setenv("PYGPT_ISA", "z80")
    with pytest.raises(DeviceError, match="z80"):
        Engine(small_model)


def test_SIGINT_while_a_stream_is_read_leaves_the_engine_usable(engine: Engine) -> None:
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(engine.stream("a", max_tokens=LONG))
    free_places(engine)
