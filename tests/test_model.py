"""The lecture's model: heads, causality, the first loss, generation."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pygpt.errors import ContextLengthError, InvalidRequestError
from pygpt.model import Model, ModelConfig, MultiHeadAttention, SelfAttention

SMALL = ModelConfig(context_length=12, d_model=48, h=3, n_layers=2, n_vocab=11, dropout=0.0)


def small(**changes: object) -> Model:
    torch.manual_seed(0)
    return Model(**(asdict(SMALL) | changes)).eval()


def tokens(rows: int, time: int, n_vocab: int = 11) -> Tensor:
    return torch.randint(n_vocab, (rows, time), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("time", [1, 5, 12])
def test_all_heads_at_once_equal_single_heads_side_by_side_then_the_projection(bias: bool, time: int) -> None:
    torch.manual_seed(1)
    config = ModelConfig(context_length=12, d_model=48, h=3, dropout=0.0, bias=bias)
    together = MultiHeadAttention(config).double()
    head_size = 16
    heads = [SelfAttention(12, 48, head_size, bias=bias).double() for _ in range(3)]
    with torch.no_grad():
        for index, head in enumerate(heads):
            for third, linear in enumerate((head.query, head.key, head.value)):
                rows = slice(third * 48 + index * head_size, third * 48 + (index + 1) * head_size)
                linear.weight.copy_(together.qkv.weight[rows])
                if bias:
                    linear.bias.copy_(together.qkv.bias[rows])
    x = torch.randn(2, time, 48, dtype=torch.float64)

    apart = together.proj(torch.cat([head(x) for head in heads], dim=-1))

    torch.testing.assert_close(together(x), apart, rtol=1e-12, atol=1e-12)


def test_a_head_is_the_weighted_mean_of_the_values_so_far() -> None:
    torch.manual_seed(2)
    head = SelfAttention(4, 8, 8).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    q, k, v = head.query(x)[0], head.key(x)[0], head.value(x)[0]
    expected = []
    for t in range(4):
        scores = [math.exp((q[t] @ k[s]).item() / math.sqrt(8)) for s in range(t + 1)]
        expected.append(sum(score * v[s] for s, score in enumerate(scores)) / sum(scores))

    torch.testing.assert_close(head(x)[0], torch.stack(expected))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
def test_a_later_token_changes_no_earlier_logit(activation: str) -> None:
    model = small(activation=activation)
    ids = tokens(2, 12)
    before = model(ids)
    for position in range(1, 12):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % 11
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_an_earlier_token_changes_the_last_logits() -> None:
    model = small()
    ids = tokens(1, 12)
    changed = ids.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 11
    assert not torch.allclose(model(ids)[0, -1], model(changed)[0, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n_vocab", "tie_weights"), [(65, False), (65, True), (1000, False)])
def test_the_first_loss_is_the_log_of_the_vocabulary(n_vocab: int, tie_weights: bool) -> None:
    torch.manual_seed(3)
    model = Model(n_vocab=n_vocab, tie_weights=tie_weights).eval()
    ids = tokens(64, 9, n_vocab)
    loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()
    # A tied head starts with the embedding's larger weights, and with a token's likeness to itself.
    assert loss == pytest.approx(math.log(n_vocab), rel=0.03 if tie_weights else 0.005)


def test_the_defaults_are_the_lectures() -> None:
    model = Model()
    assert model.config == ModelConfig(8, 384, 6, 6, 65, 0.2, "relu", bias=True, tie_weights=False)
    assert model(tokens(2, 8, 65)).shape == (2, 8, 65)
    assert Model(4, 8, 2, 1, 5, 0.0).config == ModelConfig(4, 8, 2, 1, 5, 0.0)


def test_parameters_have_the_canonical_names() -> None:
    block = [f"blocks.0.{n}" for n in ("ln_1", "attn.qkv", "attn.proj", "ln_2", "ffn.up", "ffn.down")]
    layers = [*block, "ln_f", "head"]
    expected = {"wte.weight", "wpe.weight"} | {f"{layer}.weight" for layer in layers}
    assert set(small(n_layers=1, bias=False).state_dict()) == expected
    assert set(small(n_layers=1).state_dict()) == expected | {f"{layer}.bias" for layer in layers}


def test_layers_that_write_to_the_residual_stream_start_smaller() -> None:
    model = Model(n_layers=8, d_model=192)
    state = model.state_dict()
    assert state["blocks.0.ffn.up.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.0.ffn.down.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert state["blocks.0.attn.proj.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert torch.equal(state["ln_f.weight"], torch.ones(192))
    assert torch.equal(state["blocks.3.ln_1.bias"], torch.zeros(192))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_a_config_rebuilds_the_model_that_it_came_from(activation: str, tie_weights: bool) -> None:
    model = small(activation=activation, tie_weights=tie_weights, bias=False)
    again = Model.from_config(model.config).eval()
    again.load_state_dict(model.state_dict())
    assert again.config == model.config
    assert (again.head.weight is again.wte.weight) == tie_weights
    assert torch.equal(again(tokens(1, 5)), model(tokens(1, 5)))


def test_generate_adds_as_many_tokens_as_asked_after_the_start() -> None:
    model = small()
    start = tokens(3, 4)
    out = model.generate(start, max_length=20)  # runs past the context of 12
    assert out.shape == (3, 24)
    assert torch.equal(out[:, :4], start)
    assert model.generate(start).shape == (3, 104)
    assert torch.equal(model.generate(start, 0), start)


def test_generate_sees_the_last_context_length_tokens_and_nothing_else() -> None:
    model = small()
    start = tokens(2, 30)
    expected = start
    for _ in range(10):
        expected = torch.cat((expected, model(expected[:, -12:])[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(model.generate(start, 10, temperature=0), expected)


def test_generate_leaves_dropout_out_and_the_mode_as_it_was() -> None:
    model = small(dropout=0.5).train()
    first, second = (model.generate(tokens(1, 3), 30, temperature=0) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


def test_sampling_follows_the_generator_and_top_k() -> None:
    model = small()
    start = tokens(1, 3)
    first, second = (model.generate(start, 30, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    greedy = model.generate(start, 30, temperature=0)
    assert torch.equal(model.generate(start, 30, top_k=1), greedy)
    assert torch.equal(model.generate(start, 30, temperature=1e-30), greedy)


@pytest.mark.parametrize("shape", [(5,), (1, 0), (1, 2, 3)])
def test_input_that_is_not_batch_by_time_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="input_ids"):
        small()(torch.zeros(shape, dtype=torch.long))


def test_input_longer_than_the_context_is_refused_with_the_way_out() -> None:
    with pytest.raises(ContextLengthError, match=r"13 positions.*input_ids\[:, -12:\]") as caught:
        small()(tokens(1, 13))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 50), ("h", 0), ("n_layers", 1.5), ("dropout", 1.0), ("activation", "swish"),
        ("bias", 1), ("context_length", True), ("n_vocab", -1),
    ],
)  # fmt: skip
def test_a_bad_config_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Model(**(asdict(SMALL) | {field: value}))
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("argument", "value"),
    [("max_length", -1), ("temperature", -0.1), ("temperature", math.nan), ("top_k", 0)],
)
def test_a_bad_generate_argument_is_refused_by_name(argument: str, value: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        small().generate(tokens(1, 2), **{argument: value})
    assert caught.value.param == argument
