"""Models to chat with, and `gpt-chat` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models

CHAT = Path(__file__).parents[2] / "tools" / "bundled_chat"
COMMAND = [sys.executable, "-c", "import sys; from pygpt.cli.main import chat_main; sys.exit(chat_main())"]
# Clears the screen, sets the title, writes the clipboard, overwrites the line, reverses the text; C1; bell.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07x\ry\u202ereversed\x9b31m\x7f\x00 end"


def recite_chat(path: Path, answer: str) -> Path:
    """A chat model of the bundled kind that says the answer again and again; its context is 256."""
    tokenizer = small_models.byte_tokenizer()
    ids = tokenizer.encode(answer)
    script = [0, *(ids * (256 // len(ids) + 1))][:257]
    blobs = {each.name: each.read_text("utf-8") for each in CHAT.iterdir()}
    small_models.reciting_model(path, script, tokenizer, blobs=blobs, defaults={"temperature": 0.0})
    return path


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It never stops saying "la "."""
    return recite_chat(tmp_path_factory.mktemp("chat") / "la.pygpt", "la ")


@pytest.fixture(scope="session")
def hostile_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says what takes over a terminal."""
    return recite_chat(tmp_path_factory.mktemp("chat") / "hostile.pygpt", HOSTILE)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a chat: its own home, a plain terminal, no questions to the terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    return kept | {"HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8", "PROMPT_TOOLKIT_NO_CPR": "1"}


@pytest.fixture
def gpt_chat(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs gpt-chat on a piped text."""

    def run(*arguments: str | Path, text: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # our own command
            [*COMMAND, *map(str, arguments)], input=text, capture_output=True, check=False, timeout=30,
            env=environment | env,
        )  # fmt: skip

    return run


def parse_lines(content: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.decode().splitlines()]
