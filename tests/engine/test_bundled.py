"""The bundled model, held against PyTorch: its weights are read back from the file into our Model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.file import Contents, write
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


def unrounded(file: _core.ModelFile) -> Callable[[str], NDArray[np.float32]]:
    """Weights that f16 has not rounded yet, as training left them: all that would be stored as this file's.
    They are drawn from what rounds to each; another draw gives another model, as good as this one."""
    kinds = {each.name: each.kind for each in file.tensors}

    def weights(name: str) -> NDArray[np.float32]:
        tensor = file.tensor(name)
        if kinds[name] == "vector":
            return tensor
        rng = np.random.default_rng(_core.crc32c(name.encode()))
        return (tensor * (1 + rng.uniform(-(2.0**-12), 2.0**-12, tensor.shape))).astype(np.float32)

    return weights


@pytest.fixture(scope="module")
def loss(tmp_path_factory: pytest.TempPathFactory, real_text: str) -> Callable[[str], NDArray[np.float64]]:
    """Nats a token of 84 windows over the whole of the text, 21,000 characters in all, by dtype.

    The cache in f32: what is measured is the weights' format.
    """
    if "First Citizen:" not in real_text[:100]:
        pytest.skip("the Shakespeare text is not here; name it by PYGPT_TEST_TEXT")
    folder = tmp_path_factory.mktemp("dtypes")

    @cache
    def measure(dtype: str) -> NDArray[np.float64]:
        path = folder / f"{dtype}.pygpt"
        path.touch()
        with resources.as_file(BUNDLED) as bundled:
            file = _core.ModelFile(str(bundled))
            blobs = {"tokenizer.json": file.blob("tokenizer.json")}
            architecture = Architecture.from_config(file.config)
            write(
                path, Contents(architecture=architecture, dtype=dtype, weights=unrounded(file), blobs=blobs)
            )
        texts = prompts(real_text, 84, architecture.context_length)
        assert sum(map(len, texts)) > 20_000
        with pygpt.Engine(path, kv_dtype="f32") as engine:
            return np.array([score.nll / len(score.logprobs) for score in engine.score(texts)])

    return measure


@pytest.mark.parametrize(
    ("dtype", "budget"), [("f16", 0.0002), ("bf16", 0.002), ("q8", 0.002), ("q4", 0.03), ("q4_pure", 0.06)]
)
def test_a_dtype_costs_no_more_loss_than_is_promised(
    dtype: str, budget: float, loss: Callable[[str], NDArray[np.float64]]
) -> None:
    """Nats a token more than f32 on the same text, window by window: the noise of the text cancels.

    f16, q8 and q4 are promises; bf16 is held to q8's, q4_pure to twice that of the mixture.
    """
    more = loss(dtype) - loss("f32")
    noise = more.std() / np.sqrt(len(more))  # of the mean
    assert more.any(), "nothing was rounded"
    assert noise < budget / 3, "the mean says nothing"
    assert abs(more.mean()) <= budget


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
