"""tools/bench_cuda_peers.py without a GPU: its decoder beside transformers', its tables, its ways out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import bench_cuda_peers
from bench_cuda_peers import TINY, Cell
from peers import shapes

CONTEXT = 24
RENAMED = (
    ("transformer.", ""),
    ("h.", "blocks."),
    ("attn.c_attn", "qkv"),
    ("attn.c_proj", "proj"),
    ("mlp.c_fc", "up"),
    ("mlp.c_proj", "down"),
    ("lm_head", "head"),
)
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]


def decoder_of(original: Any, family: str) -> Any:
    """Our decoder with the weights of a model of transformers'."""
    torch = pytest.importorskip("torch")
    from peers.torch_decoder import made

    model = made(TINY[family], CONTEXT, "cpu", torch.float32)
    theirs, ours = original.state_dict(), {}

    def joined(*names: str) -> Any:
        return torch.cat([theirs[name] for name in names])

    if family == "gpt2":
        for name, values in theirs.items():
            for old, new in RENAMED:
                name = name.replace(old, new, 1)
            is_conv1d = values.ndim == 2 and "blocks." in name  # [in, out]
            ours[name] = values.t() if is_conv1d else values
    else:
        ours = {"wte.weight": theirs["model.embed_tokens.weight"], "ln_f.weight": theirs["model.norm.weight"],
                "head.weight": theirs["lm_head.weight"]}  # fmt: skip
        for i in range(TINY[family].layers):
            old, new = f"model.layers.{i}", f"blocks.{i}"
            ours[f"{new}.ln_1.weight"] = theirs[f"{old}.input_layernorm.weight"]
            ours[f"{new}.ln_2.weight"] = theirs[f"{old}.post_attention_layernorm.weight"]
            ours[f"{new}.qkv.weight"] = joined(*(f"{old}.self_attn.{each}_proj.weight" for each in "qkv"))
            ours[f"{new}.proj.weight"] = theirs[f"{old}.self_attn.o_proj.weight"]
            ours[f"{new}.up.weight"] = joined(f"{old}.mlp.gate_proj.weight", f"{old}.mlp.up_proj.weight")
            ours[f"{new}.down.weight"] = theirs[f"{old}.mlp.down_proj.weight"]
    model.load_state_dict(ours)
    return model


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_decoder_writes_what_transformers_writes(family: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from peers.hf import Transformers
    from peers.torch_decoder import Eager

    values = shapes.config(TINY[family])
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values, initializer_range=0.3)
    original = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    wanted = Transformers(original, 0).generate(PROMPTS, 12).tokens
    assert len({token for row in wanted for token in row}) > 4
    engine = Eager(decoder_of(original, family))
    assert engine.generate(PROMPTS, 12).tokens == wanted
    assert engine.generate(PROMPTS[:1], 12).tokens == wanted[:1]
    assert engine.generate(PROMPTS, 12).tokens == wanted


def test_more_tokens_than_positions_and_graphs_without_a_gpu_are_refused() -> None:
    torch = pytest.importorskip("torch")
    from peers.base import UnavailableError
    from peers.torch_decoder import Eager, Graphed, made

    model = made(TINY["gpt2"], CONTEXT, "cpu", torch.float32)
    assert len(Eager(model).generate([[1] * 5], CONTEXT - 4).tokens[0]) == CONTEXT - 4
    with pytest.raises(UnavailableError, match="positions"):
        Eager(model).generate([[1] * 5], CONTEXT - 3)
    with pytest.raises(UnavailableError, match="need a GPU"):
        Graphed(model).generate([[1] * 5], 2)


def test_the_shapes_have_the_parameters_of_their_models() -> None:
    sizes = {name: round(shape.parameters / 1e6) for name, shape in bench_cuda_peers.MODELS.items()}
    # Llama's 1,236 million and the head, which it shares with its embedding.
    assert sizes == {"124M": 124, "355M": 355, "774M": 774, "1.5B": 1558, "llama-1B": 1498}


def test_a_table_has_rates_bytes_and_the_ratio_to_ours() -> None:
    eager = Cell("124M", 2, "eager", "2.11", 10**9, [100.0, 120.0, 110.0], [1, 2])
    ours = Cell("124M", 2, "pygpt", "0.1", None, [220.0])
    assert bench_cuda_peers.line(eager, [eager, ours]).endswith("| 110.0 (100.0 to 120.0) | 55 | 2.00 |")
    assert bench_cuda_peers.line(ours, [eager, ours]).endswith("| 220.0 (220.0 to 220.0) |  |  |")
    skipped = Cell("124M", 2, "graphs", skipped="CUDA graphs need a GPU")
    assert "skipped: CUDA graphs need a GPU" in bench_cuda_peers.line(skipped, [skipped])


def test_graphs_that_write_other_tokens_than_eager_are_noticed() -> None:
    eager = Cell("124M", 1, "eager", tokens=[1, 2, 3])
    same, other = (Cell("124M", 1, "graphs", tokens=tokens) for tokens in ([1, 2, 3], [1, 2, 4]))
    assert bench_cuda_peers.differing([eager, same]) == []
    assert bench_cuda_peers.differing([eager, other]) == [other]


def test_an_engine_that_fails_is_skipped_with_its_words() -> None:
    def fail() -> None:
        raise RuntimeError("CUDA out of memory")

    cell = Cell("124M", 64, "eager")
    assert not bench_cuda_peers.attempt(cell, fail)
    assert cell.skipped == "RuntimeError: CUDA out of memory"


@pytest.mark.parametrize(
    "line", ["--context 8", "--rounds 0", "--batches 0", "--models 7B", "--json no-such/p.json"]
)
def test_an_impossible_command_line_is_refused(line: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench_cuda_peers.parse(line.split())


def test_without_a_gpu_the_exit_code_is_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_cuda_peers, "gpu", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["bench_cuda_peers"])
    assert bench_cuda_peers.main() == 4
    assert "--device cpu --tiny" in capsys.readouterr().err


def test_a_dry_run_measures_every_engine_that_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    target = tmp_path / "peers.json"
    words = "--device cpu --tiny --rounds 1 --batches 1 2 --context 20 --engines eager graphs"
    monkeypatch.setattr(sys, "argv", ["bench_cuda_peers", *words.split(), "--json", str(target)])
    assert bench_cuda_peers.main() == 0
    shown = capsys.readouterr().out
    assert "these figures mean nothing" in shown
    assert shown.count("CUDA graphs need a GPU") == 4
    assert target.exists()
