"""What tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_TEXT = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"


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
