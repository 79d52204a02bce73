"""What tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pygpt

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it as it is

import small_models

SHARED_TEXT = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Work in an empty directory: a `python -c` in the repository would import its source, without a core."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def real_text() -> str:
    """English text, some 100,000 characters or more: PYGPT_TEST_TEXT, else Shakespeare, else python-docs."""
    named = os.environ.get("PYGPT_TEST_TEXT")
    if named:
        return Path(named).read_text("utf-8")
    if SHARED_TEXT.is_file():
        return SHARED_TEXT.read_text("utf-8")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights: characters, context 64, no stop tokens, starts from a newline."""
    return small_models.random_model(tmp_path_factory.mktemp("models") / "small.pygpt")


@pytest.fixture
def engine(small_model: Path) -> Iterator[pygpt.Engine]:
    with pygpt.Engine(small_model) as opened:
        yield opened


@pytest.fixture
def recite(tmp_path: Path) -> Iterator[Callable[..., pygpt.Engine]]:
    """Opens an engine that continues any prompt of one token with the text given: see `reciting_model`.

    The tokenizer is byte-level, where no other is given. Greedy, it recites; its context ends with the
    text.
    """
    opened: list[pygpt.Engine] = []

    def open_engine(text: str | bytes, tokenizer: Any = None, **about: Any) -> pygpt.Engine:
        chosen = tokenizer or small_models.byte_tokenizer()
        script = [0, *chosen.encode(text, allow_special=True), 0]
        path = tmp_path / f"recite{len(opened)}.pygpt"
        defaults = {"temperature": 0.0} | about.pop("defaults", {})
        small_models.reciting_model(path, script, chosen, defaults=defaults, **about)
        opened.append(pygpt.Engine(path))
        return opened[-1]

    yield open_engine
    for engine in opened:
        engine.close()
