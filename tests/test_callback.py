"""Samples by the engine from within a plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import cross_entropy

import pygpt
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model

CHARACTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads for so little work wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_loop_shows_what_its_model_learns() -> None:
    torch.manual_seed(0)
    model = Model(8, 32, 2, 1, 26, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    shown: list[str] = []
    sample = pygpt.Callback(
        every=40, show=shown.append, prompt="abc", chars=CHARACTERS, max_tokens=5, temperature=0
    )
    returned = []
    for step in range(1, 81):
        x = (torch.randint(26, (16, 1)) + torch.arange(9)) % 26
        loss = cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        returned.append(sample(model, step))
    assert [step for step, text in enumerate(returned, 1) if text is not None] == [40, 80]
    assert shown == [text for text in returned if text is not None]
    assert shown[-1] == "abcdefgh"
    assert model.training  # it goes on as it was


def test_it_writes_what_the_module_would() -> None:
    torch.manual_seed(1)
    model = Model(8, 32, 2, 1, 26)
    text = pygpt.Callback(1, prompt="abc", chars=CHARACTERS, max_tokens=5, temperature=0).sample(model)
    ids = model.generate(torch.tensor([[0, 1, 2]]), 5, temperature=0)[0]
    assert text == "".join(CHARACTERS[i] for i in ids)


def test_what_it_cannot_use_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="at least 1"):
        pygpt.Callback(0)
    with pytest.raises(InvalidRequestError, match="temprature"):
        pygpt.Callback(1, temprature=1)
    with pytest.raises(ModelFileError):
        pygpt.Callback(1)(torch.nn.Linear(2, 2), 1)
