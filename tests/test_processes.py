"""Engines and processes: fork, spawn, exits, interpreters (rows E7, E8, E10 to E12)."""

from __future__ import annotations

import multiprocessing
import operator
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from own_process import WATCHDOG_S, in_process

from pygpt import Engine


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_E10_an_engine_is_sent_to_processes_of_a_pool(engine: Engine, method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context) as pool:
        # Not a function of this module: the children need not find the tests.
        ask = operator.methodcaller("generate", "abc", max_tokens=5, seed=1)
        assert pool.submit(ask, engine).result(WATCHDOG_S).text == ask(engine).text


def test_E10_a_forked_pool_is_told_to_spawn(small_model: Path) -> None:
    code = """
    import multiprocessing
    def use(_):
        try:
            return engine.generate('a', max_tokens=1).text
        except pygpt.ForkedEngineError as error:
            return str(error)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        print(*pool.map(use, range(2)), sep='\\n')
    print(len(engine.generate('a', max_tokens=3).token_ids))
    """
    done = in_process(small_model, code)
    lines = done.stdout.splitlines()
    assert [("spawn" in line) for line in lines[:2]] == [True, True], done.stderr
    assert lines[2] == "3"


def test_E7_a_forked_child_is_told_in_its_event_loop_too(small_model: Path) -> None:
    code = """
    async def read(stream):
        async for piece in stream:
            await asyncio.sleep(0)
    if os.fork() == 0:
        for work in (engine.agenerate('a'), read(engine.astream('a')), asyncio.to_thread(engine.logits, 'a')):
            try:
                asyncio.run(work)
            except pygpt.ForkedEngineError:
                print('told', flush=True)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    print(len(asyncio.run(engine.agenerate('a', max_tokens=4)).token_ids))
    """
    done = in_process(small_model, code)
    assert done.stdout.split() == ["told", "told", "told", "0", "4"], done.stderr


def test_E8_forks_while_another_thread_generates(small_model: Path) -> None:
    """Children that leave the engine alone, and children that use it, all end; the parent goes on."""
    code = """
    wanted = engine.generate('abc', max_tokens=30, seed=1).text
    done, wrong = threading.Event(), []
    def work():
        while not done.is_set():
            if engine.generate('abc', max_tokens=30, seed=1).text != wanted:
                wrong.append(1)
    worker = threading.Thread(target=work)
    worker.start()
    codes = []
    for turn in range(40):
        pid = os.fork()
        if pid == 0:
            if turn % 2:
                try:
                    engine.generate('a')
                except pygpt.ForkedEngineError:
                    os._exit(7)
            os._exit(3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    done.set()
    worker.join()
    print(codes == [3, 7] * 20, wrong)
    """
    done = in_process(small_model, code)
    assert done.stdout == "True []\n", done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "stream = engine.astream('a', max_tokens=10**9)\nasyncio.run(anext(stream))\nsys.exit(3)",
        "loop = asyncio.new_event_loop()\nstream = engine.astream('a', max_tokens=10**9)\n"
        "loop.run_until_complete(anext(stream))\nsys.exit(3)",
        "threading.Thread(target=lambda: asyncio.run(engine.agenerate('a', max_tokens=10**9)), daemon=True)"
        ".start()\ntime.sleep(0.05)\nsys.exit(3)",
        "ticket = [engine.stream('a', max_tokens=10**9) for _ in range(5)]\nraise SystemExit(3)",
    ],
)
def test_E11_a_process_ends_whatever_is_still_open(small_model: Path, code: str) -> None:
    for _ in range(3):
        done = in_process(small_model, code)
        assert (done.returncode, done.stdout) == (3, "")
        assert "Traceback" not in done.stderr
        assert "terminate" not in done.stderr


@pytest.mark.parametrize("first", ["", "import pygpt._core"])
def test_E12_a_sub_interpreter_is_refused(first: str) -> None:
    code = f"""
try:
    import _interpreters as interpreters  # from Python 3.13 on
except ModuleNotFoundError:
    import _xxsubinterpreters as interpreters
{first}
own = '''
try:
    import pygpt
    pygpt.Engine
except ImportError as error:
    print(error, flush=True)
'''
getattr(interpreters, "exec", getattr(interpreters, "run_string", None))(interpreters.create(), own)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WATCHDOG_S, check=False
    )
    assert "main interpreter alone" in done.stdout, done.stderr
    assert "use a thread or a process" in done.stdout
    assert done.returncode == 0
