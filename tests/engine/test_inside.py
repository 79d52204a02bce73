"""Hidden states, attention and embeddings: PyTorch's, float64's, and the same bits whatever rides along."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from odd_models import write_model

import pygpt
from pygpt import ContextLengthError, Engine, InvalidRequestError, NumericalError, OutOfMemory, _core, inside
from pygpt.architecture import Architecture
from pygpt.dtypes import DTYPES, QUANTISED, rounded_activations
from pygpt.errors import Error
from pygpt.model import Block, Model
from pygpt.reference import NORMS, Trace, forward, placed

ISAS = pytest.mark.parametrize("isa", _core.isas())
BUDGET = 1e-4  # of the largest number

# Heads that divide among the workers and that do not; more heads in a group than the kernel attends at once;
# more than one partial softmax of 256 positions; a layer that sees a window only.
SHAPES: dict[str, dict[str, Any]] = {
    "long": {
        "n_layer": 2, "n_head": 4, "head_dim": 24, "d_model": 40, "d_ff": 50, "context_length": 280,
        "vocab_size": 37,
    },
    "groups": {
        "n_layer": 3, "n_head": 14, "n_kv_head": 2, "head_dim": 10, "d_model": 33, "d_ff": 40,
        "context_length": 45, "vocab_size": 37, "norm": "rms_norm", "position": "rotary",
        "rope_theta": 10000.0, "activation": "silu", "gate": True, "biases": False,
    },
    "windows": {
        "n_layer": 2, "n_head": 4, "n_kv_head": 2, "head_dim": 12, "d_model": 36, "d_ff": 40,
        "context_length": 280, "vocab_size": 37, "norm": "rms_norm", "position": "rotary",
        "rope_theta": 10000.0, "qk_norm": "before_rotary", "window": 9, "window_layers": "01",
    },
    "stream": {
        "n_layer": 3, "n_head": 4, "head_dim": 12, "d_model": 36, "d_ff": 40, "context_length": 60,
        "vocab_size": 37, "embedding_norm": True, "smear_width": 5, "layer_lambdas": True, "backout_layer": 1,
    },
}  # fmt: skip
LOOKS = ("states", "embedding", "attention")

Floats = NDArray[np.float32]
Files = Callable[[str, str], _core.ModelFile]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A model by the name of its shape and its dtype."""
    folder = tmp_path_factory.mktemp("shapes")

    def file(shape: str, dtype: str) -> _core.ModelFile:
        path = folder / f"{shape}-{dtype}.pygpt"
        if not path.exists():
            write_model(path, dtype=dtype, **SHAPES[shape])
        return _core.ModelFile(str(path))

    return file


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Engine]:
    """A PyTorch model that is not fresh, and an engine on its f32 export."""
    torch.manual_seed(0)
    model = Model(context_length=40, d_model=60, h=3, n_layers=3, n_vocab=67).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(3)
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    path = tmp_path_factory.mktemp("lecture") / "model.pygpt"
    pygpt.export(model, path, dtype="f32", tokenizer="none", verify=False)
    return model, Engine(path)


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 37, length).tolist()


def run(engine: _core.Engine, requests: list[_core.Request]) -> list[_core.Event]:
    events = engine.submit(requests).poll(120, until_done=True)
    assert [event.index for event in events] == list(range(len(requests)))
    return events


def shown(engine: _core.Engine, ids: list[int], look: str, layer: int = 0) -> Floats:
    (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, look=look, layer=layer)])
    assert event.shown is not None
    return event.shown


def torch_states(model: Model, ids: list[int]) -> list[torch.Tensor]:
    """The stream after the embedding and each block, each [T, C]."""
    x = model.wte(torch.tensor([ids])) + model.wpe(torch.arange(len(ids)))
    states = [x]
    for block in model.blocks:
        states.append(block(states[-1]))
    return [state[0].detach() for state in states]


def torch_attention(block: Block, x: torch.Tensor) -> NDArray[np.float32]:
    """softmax(q kT / sqrt(D)) of each head, spelled out: [H, T, T]."""
    attn = block.attn
    time, width = x.shape
    q, k, _ = attn.qkv(block.ln_1(x)).view(time, 3, attn.h, width // attn.h).permute(1, 2, 0, 3)
    scores = q @ k.transpose(-1, -2) * (width // attn.h) ** -0.5
    future = torch.ones(time, time).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(-1).detach().numpy()


def test_hidden_states_are_those_of_pytorch(lecture: tuple[Model, Engine]) -> None:
    model, engine = lecture
    ids = prompt(37)
    wanted = torch.stack(torch_states(model, ids)).numpy()
    got = engine.hidden_states(ids)
    assert (got.dtype, got.shape) == (np.float32, (4, 37, 60))
    assert np.abs(got - wanted).max() <= BUDGET * np.abs(wanted).max()


def test_attention_is_that_of_pytorch(lecture: tuple[Model, Engine]) -> None:
    model, engine = lecture
    ids = prompt(40)
    for layer, (block, x) in enumerate(zip(model.blocks, torch_states(model, ids), strict=False)):
        got = engine.attention(ids, layer)
        assert (got.dtype, got.shape) == (np.float32, (3, 40, 40))
        assert isinstance(block, Block)
        np.testing.assert_allclose(got, torch_attention(block, x), atol=BUDGET, rtol=0)
        np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)
        assert not np.triu(got, 1).any()
        assert np.ptp(got[:, -1]) > 0.1  # not the mean of everything


def test_an_embedding_is_the_pooled_output_behind_the_final_norm(lecture: tuple[Model, Engine]) -> None:
    model, engine = lecture
    texts = [prompt(length, seed) for seed, length in enumerate((40, 1, 17))]
    for pooling, pool in (("mean", lambda x: x.mean(0)), ("last", lambda x: x[-1])):
        wanted = np.stack([pool(model.ln_f(torch_states(model, ids)[-1])).detach().numpy() for ids in texts])
        got = engine.embed(texts, pooling=pooling, normalize=False)  # type: ignore[arg-type]
        np.testing.assert_allclose(got, wanted, atol=BUDGET * np.abs(wanted).max(), rtol=0)
        unit = engine.embed(texts, pooling=pooling)  # type: ignore[arg-type]
        np.testing.assert_allclose(unit, wanted / np.linalg.norm(wanted, axis=1)[:, None], atol=1e-4)
        alone = engine.embed(texts[2], pooling=pooling)  # type: ignore[arg-type]
        assert alone.shape == (60,)
        np.testing.assert_array_equal(alone, unit[2])


def test_many_texts_are_embedded_in_parcels(
    lecture: tuple[Model, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = lecture
    texts = [prompt(1 + seed % 40, seed) for seed in range(90)]
    whole = engine.embed(texts)
    monkeypatch.setattr(inside, "PARCEL_BYTES", 30 * 60 * 4)  # less than one of 40 tokens
    np.testing.assert_array_equal(engine.embed(texts), whole)
    assert list(inside._parcels([7200, 1, 7199, 1])) == [slice(0, 1), slice(1, 3), slice(3, 4)]


def naive(file: _core.ModelFile, ids: list[int]) -> tuple[Architecture, Trace]:
    formats = {tensor.name: tensor.format for tensor in file.tensors}
    a = Architecture.from_config(file.config)
    rounding = lambda name, x: rounded_activations(x) if formats[name] in QUANTISED else x  # noqa: E731
    return a, forward(a, file.tensor, ids, rounding=rounding)


def naive_attention(file: _core.ModelFile, a: Architecture, x: Floats, layer: int) -> NDArray[np.float64]:
    """In float64 from the stream [T, C] in front of the layer, as the engine gave it."""
    name = f"h.{layer}."
    bias = file.tensor(name + "ln_1.bias")[0] if a.norm_bias else 0.0
    h = NORMS[a.norm](x.astype(np.float64), file.tensor(name + "ln_1.gain")[0], bias, a.norm_epsilon)
    if {t.name: t.format for t in file.tensors}[name + "attn.qkv"] in QUANTISED:
        h = rounded_activations(h)
    qkv = h @ file.tensor(name + "attn.qkv").astype(np.float64).T
    if a.qkv_bias:
        qkv = qkv + file.tensor(name + "attn.qkv.bias")[0]
    time = len(x)
    qkv = qkv.reshape(time, a.n_kv_head, a.heads_per_group + 2, a.padded_head_dim)[..., : a.head_dim]
    back = np.arange(time)[:, None] - np.arange(time)
    seen = (back >= 0) & (back < a.window_of(layer))
    out = []
    for head in range(a.n_head):
        group, place = divmod(head, a.heads_per_group)
        q, k = (
            placed(a, file.tensor, layer, part, qkv[:, group, at]) for part, at in (("q", place), ("k", -2))
        )
        scores = np.where(seen, a.attention_scale * (q @ k.T), -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(scores / scores.sum(-1, keepdims=True))
    return np.stack(out)


@ISAS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_shown_agrees_with_float64(shape: str, dtype: str, isa: str, files: Files) -> None:
    file = files(shape, dtype)
    ids = prompt(SHAPES[shape]["context_length"])
    a, trace = naive(file, ids)
    core = _core.Engine(file, isa=isa, threads=2, kv_dtype="f32")
    budget = 0.05 if dtype in DTYPES[3:] else BUDGET  # a step of a 127th here and there
    states = shown(core, ids, "states")
    assert states.shape == (a.n_layer + 1, len(ids), a.d_model)
    for got, wanted in zip(states, trace.states, strict=True):
        assert np.abs(got - wanted).max() <= budget * np.abs(wanted).max()
    for layer in range(a.n_layer):
        got = shown(core, ids, "attention", layer)
        assert got.shape == (a.n_head, len(ids), len(ids))
        # From the engine's own stream, so that nothing but this layer's arithmetic is between the two.
        wanted = naive_attention(file, a, states[layer], layer)
        assert np.abs(got - wanted).max() <= (0.02 if budget > BUDGET else BUDGET)
        np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)
        assert not np.triu(got, 1).any()
        assert not np.tril(got, -a.window_of(layer)).any()
    core.close()


@pytest.mark.parametrize("kv_dtype", _core.kv_dtypes())
def test_attention_is_made_of_the_keys_in_the_cache(kv_dtype: str, files: Files) -> None:
    """So it differs with the cache's type, by as much as that rounds."""
    ids = prompt(280)
    weights = []
    for cache in ("f32", kv_dtype):
        core = _core.Engine(files("long", "f32"), kv_dtype=cache)
        weights.append(shown(core, ids, "attention", 0))
        core.close()
    off = np.abs(weights[1] - weights[0]).max()
    least, most = {"f32": (0, 0), "f16": (1e-6, 2e-3), "bf16": (1e-5, 2e-2), "int8": (1e-5, 4e-2)}[kv_dtype]
    assert least <= off <= most


@ISAS
@pytest.mark.parametrize(
    ("shape", "dtype", "kv_dtype"),
    [("long", "f32", "auto"), ("long", "q4", "int8"), ("groups", "bf16", "auto"), ("windows", "q8", "f16")],
)
def test_nothing_depends_on_batch_threads_or_chunk(
    shape: str, dtype: str, kv_dtype: str, isa: str, files: Files
) -> None:
    file = files(shape, dtype)
    longest = SHAPES[shape]["context_length"]
    requests = [
        _core.Request(prompt=prompt(length, seed), max_tokens=0, look=look, layer=1)
        for seed, (look, length) in enumerate(itertools.product(LOOKS, (longest, 5, 33)))
    ]
    # Beside them one that generates: it must not notice, either.
    requests.append(_core.Request(prompt=prompt(9, 9), max_tokens=12, seed=1, logits=True))
    alone: list[Any] = []
    for threads, chunk in ((1, 1), (1, 1 << 20), (2, 7), (3, 100)):
        core = _core.Engine(file, threads=threads, isa=isa, kv_dtype=kv_dtype, prefill_chunk=chunk)
        if not alone:
            alone = [everything(run(core, [request])[0]) for request in requests]
            assert len(set(map(str, alone))) == len(alone)
        assert [everything(event) for event in run(core, requests)] == alone, (threads, chunk)
        core.close()


def everything(event: _core.Event) -> tuple[Any, ...]:
    arrays = [None if each is None else each.tobytes() for each in (event.logits, event.shown)]
    return event.token_ids, event.finish_reason, *arrays


def test_states_lead_to_the_logits(engine: Engine) -> None:
    """The final norm and the head of the last state are what `logits` says."""
    text = "Look into it"
    behind = engine.embed([text], pooling="last", normalize=False)[0]
    assert engine.hidden_states(text).shape[1] == len(text)
    path = engine.info["path"]
    head = _core.ModelFile(path).tensor("head").astype(np.float64)
    bias = _core.ModelFile(path).tensor("head.bias")[0]
    wanted = engine.logits(text)[-1]
    got = (head @ behind + bias)[: len(wanted)]
    np.testing.assert_allclose(got, wanted, atol=2e-3 * np.abs(wanted).max())


# What cannot be had -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 2, 10**12, 0.5, "0", True, None])
def test_a_layer_that_is_not_there_is_named(engine: Engine, layer: Any) -> None:
    with pytest.raises(InvalidRequestError, match="must be an integer from 0 to 1") as caught:
        engine.attention("abc", layer)
    assert caught.value.param == "layer"


@pytest.mark.parametrize("ask", [Engine.hidden_states, Engine.embed, lambda e, text: e.attention(text, 0)])
def test_too_long_a_prompt_is_refused(engine: Engine, ask: Callable[..., Any]) -> None:
    with pytest.raises(ContextLengthError, match="65 tokens do not fit into the context of 64"):
        ask(engine, "a" * 65)


@pytest.mark.parametrize(
    ("keywords", "param"), [({"pooling": "max"}, "pooling"), ({"normalize": 1}, "normalize")]
)
def test_an_argument_of_embed_is_checked(engine: Engine, keywords: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        engine.embed("abc", **keywords)
    assert caught.value.param == param


def test_a_model_without_layers_shows_its_embedding(tmp_path: Path) -> None:
    write_model(tmp_path / "m.pygpt", n_layer=0)
    with Engine(tmp_path / "m.pygpt", verify="off") as engine:
        states = engine.hidden_states([1, 2, 3])
        wte, wpe = (_core.ModelFile(str(tmp_path / "m.pygpt")).tensor(name) for name in ("wte", "wpe"))
        np.testing.assert_allclose(states, (wte[[1, 2, 3]] + wpe[:3])[None], atol=1e-6)
        assert np.abs(engine.embed([1, 2, 3])).max() > 0
        with pytest.raises(InvalidRequestError, match="layer: this model has no layers"):
            engine.attention([1], 0)


def test_no_texts_are_no_vectors(engine: Engine) -> None:
    assert engine.embed([]).shape == (0, 48)
    assert engine.embed(["a"]).shape == (1, 48)
    np.testing.assert_array_equal(engine.embed(""), engine.embed("\n"))  # the start token


def test_a_closed_engine_shows_nothing(small_model: Path) -> None:
    engine = Engine(small_model)
    engine.close()
    with pytest.raises(pygpt.EngineClosedError):
        engine.hidden_states("abc")


def test_weights_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    write_model(tmp_path / "m.pygpt", change=lambda name, x: x * (np.inf if name == "wpe" else 1))
    with Engine(tmp_path / "m.pygpt", verify="off") as engine:
        for ask in (engine.hidden_states, engine.embed):
            with pytest.raises(NumericalError, match="not finite"):
                ask([1, 2])


def test_what_would_not_fit_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    shape = {
        "n_head": 64, "head_dim": 2, "d_model": 4, "d_ff": 4, "context_length": 60_000,
        "position": "rotary", "rope_theta": 1e4,
    }  # fmt: skip
    write_model(tmp_path / "m.pygpt", **shape)
    with Engine(tmp_path / "m.pygpt") as engine:
        with pytest.raises(
            OutOfMemory, match=r"60000 tokens needs 878906 MiB, \d+ MiB are available: .*short"
        ):
            engine.attention([1] * 60_000, 0)
        assert engine.attention([1] * 10, 0).shape == (64, 10, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"look": "attention", "layer": 3},
        {"look": "states", "logits": True},
        {"look": "states", "max_tokens": 1},
    ],
    ids=str,
)
def test_the_core_refuses_what_python_never_asks(wrong: dict[str, Any], files: Files) -> None:
    core = _core.Engine(files("long", "f32"))
    with pytest.raises(Error):
        core.submit([_core.Request(prompt=[1], **({"max_tokens": 0} | wrong))])
    core.close()
