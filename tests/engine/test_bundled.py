"""The bundled model, held against PyTorch: its weights are read back from the file into our Model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pygpt
from pygpt import _core
from pygpt.model import Model, ModelConfig

BUNDLED = resources.files("pygpt") / "models" / "shakespeare.pygpt"
PANEL = 16


def unstacked(rows: NDArray[np.float32], n_head: int, head_dim: int) -> NDArray[np.float32]:
    """attn.qkv as the file has it, head by head and padded, to q of all heads, then k, then v."""
    padded = -(-head_dim // PANEL) * PANEL
    by_head = rows.reshape(n_head, 3, padded, -1)[:, :, :head_dim]
    return by_head.transpose(1, 0, 2, 3).reshape(3 * n_head * head_dim, -1)


def torch_twin(file: _core.ModelFile) -> Model:
    """The PyTorch model with the very weights that the file holds."""
    c = file.config
    config = ModelConfig(
        context_length=c["context_length"],
        d_model=c["d_model"],
        h=c["n_head"],
        n_layers=c["n_layer"],
        n_vocab=c["vocab_size"],
        dropout=0.0,
        activation=c["activation"],
        bias=c["qkv_bias"],
        tie_weights=c["tied_head"],
    )
    model = Model.from_config(config).eval()
    state = {}
    for name in model.state_dict():
        ours = name.replace("blocks.", "h.").replace("ffn.", "mlp.").removesuffix(".weight")
        if "ln_" in name and name.endswith(".weight"):
            ours += ".gain"
        value = file.tensor(ours)
        if ".attn.qkv" in name:
            turned = value.T if name.endswith(".bias") else value
            value = unstacked(turned, c["n_head"], c["head_dim"])
        state[name] = torch.from_numpy(value.copy()).reshape(model.state_dict()[name].shape)
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """The PyTorch model and its f32 export."""
    with resources.as_file(BUNDLED) as path:
        if not path.exists():
            pytest.skip("the bundled model is not in this tree: tools/train_bundled.py makes it")
        file = _core.ModelFile(str(path), verify="full")
        model = torch_twin(file)
        tokenizer = pygpt.Engine(path).tokenizer
    folder = tmp_path_factory.mktemp("bundled")
    return model, pygpt.export(model, folder / "f32.pygpt", dtype="f32", tokenizer=tokenizer)


def prompts(text: str, count: int, length: int) -> list[str]:
    """`count` pieces of the text, spread over it."""
    starts = np.linspace(0, len(text) - length, count).astype(int)
    return [text[start : start + length] for start in starts]


def usable(text: str, engine: pygpt.Engine) -> str:
    """Only the characters that the model knows: the real text of a test may be another one."""
    known = {engine.tokenizer.decode([i]) for i in range(engine.tokenizer.vocab_size)}
    return "".join(c for c in text if c in known)


def test_f32_logits_are_pytorchs_within_1e4_of_the_largest(twins: tuple[Model, Path], real_text: str) -> None:
    model, path = twins
    with pygpt.Engine(path) as engine:
        for prompt in prompts(usable(real_text, engine), 5, model.config.context_length):
            ids = engine.tokenizer.encode(prompt)
            with torch.inference_mode():
                expected = model(torch.tensor([ids]))[0].numpy()
            got = engine.logits(ids)
            assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_greedy_text_is_pytorchs_over_20_prompts_of_200_tokens(
    twins: tuple[Model, Path], real_text: str
) -> None:
    """PyTorch reads what the engine wrote: where each token is the likeliest after those before it, greedy
    PyTorch would have written the same, by induction over the tokens."""
    model, path = twins
    with pygpt.Engine(path) as engine:
        starts = prompts(usable(real_text, engine), 20, 40)
        for prompt, completion in zip(
            starts, engine.generate(starts, max_tokens=200, temperature=0), strict=True
        ):
            start = engine.tokenizer.encode(prompt)
            assert len(completion.token_ids) == 200
            with torch.inference_mode():
                likeliest = model(torch.tensor([[*start, *completion.token_ids]]))[0].argmax(dim=-1)
            assert completion.token_ids == likeliest[len(start) - 1 : -1].tolist()


def test_what_is_bundled_reads_shakespeare_as_well_as_the_docs_say(real_text: str) -> None:
    if "First Citizen:" not in real_text[:100]:
        pytest.skip("the Shakespeare text is not here; name it by PYGPT_TEST_TEXT")
    with resources.as_file(BUNDLED) as path, pygpt.Engine(path) as engine:
        held_out = real_text[len(real_text) * 9 // 10 :]
        context = engine.info["config"]["context_length"]
        windows = [held_out[i : i + context] for i in range(0, len(held_out) - context, context * 8)]
        scores = engine.score(windows)
        loss = sum(score.nll for score in scores) / sum(len(score.logprobs) for score in scores)
    assert loss <= 1.62  # every eighth window; the docs' figure is over all of them
