"""The table of docs/checkpoints.md: how far the engine is from each family's own model, in f32.

    python tools/family_table.py

The models are the minimal PyTorch modules that the tests hold the importers to (tests/checkpoints/), with
random weights, saved as the family saves them, exported with dtype f32 and run at every position of a full
context. The figure is max |logit of the engine - logit of the module in float32| as a share of the largest
|logit|.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "checkpoints"))
import families
import in_the_engine
import llama2c
import nanochat
from book_gpt import GPTModel
from gpt2 import GPT2Config, GPT2LMHeadModel, save_gpt2
from llama import LlamaConfig, Own, random_llama, save_llama
from nanochat_in_hf import save_hf_nanochat
from relatives import GPTConfig, save_llmc, save_mingpt

from pygpt.checkpoints.base import Options
from pygpt.exporter import export_with_report


@dataclass(frozen=True)
class Case:
    """A checkpoint of a family, the module that it came from, and how long and wide a text it takes."""

    family: str
    sizes: str
    source: Any
    module: torch.nn.Module
    context: int
    vocab: int
    n_head: int | None = None
    attention_scale: str | None = None
    nanochat_gen: str | None = None


# layers, heads, width, context, vocabulary
SHAPES = ((2, 3, 36, 19, 53), (6, 6, 192, 128, 1031))


def cases(directory: Path) -> Iterator[Case]:
    """Every family that export reads, but pygpt's own, which the other tests are full of."""
    for size in (27, 1031):
        bigram = families.BigramLanguageModel(size)
        yield Case("bigram.py", f"V {size}", bigram.state_dict(), bigram, 256, size)
    for number, shape in enumerate(SHAPES):
        place = directory / str(number)
        place.mkdir()
        yield from _lecture(*shape)
        yield from _nanogpt(place, *shape)
        yield from _others(place, *shape)
        yield from _llamas(place, *shape)
        yield from _llama2c(place, *shape)
        yield from _nanochat(place, *shape)


def _sizes(layers: int, heads: int, width: int, context: int, vocab: int) -> str:
    return f"L {layers}, H {heads}, C {width}, T {context}, V {vocab}"


def _lecture(layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    for scale in ("head", "width"):
        config = families.LectureConfig(vocab, width, context, heads, layers, scale)
        model = _random(families.GPTLanguageModel(config))
        name = "gpt.py" if scale == "head" else "gpt.py, as in the video"
        sizes = _sizes(layers, heads, width, context, vocab)
        yield Case(name, sizes, model.state_dict(), model, context, vocab, attention_scale=scale)


def _nanogpt(place: Path, layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    sizes = _sizes(layers, heads, width, context, vocab)
    for bias in (False, True):
        config = families.NanoGPTConfig(layers, heads, width, context, bias, vocab)
        model = _random(families.NanoGPT(config))
        held = {"model": model.state_dict(), "model_args": vars(config)}
        name = f"nanoGPT, {'with' if bias else 'without'} biases"
        yield Case(name, sizes, held, model, context, vocab)
    untied = _random(families.NanoGPT(config, tied=False, tanh=True))
    yield Case("minGPT", sizes, save_mingpt(place / "mingpt", untied), untied, context, vocab)
    tanh = _random(families.NanoGPT(config, tanh=True))
    held = {"model": tanh.state_dict(), "config": GPTConfig(context, vocab, layers, heads, width), "step": 1}
    yield Case("build-nanogpt", sizes, held, tanh, context, vocab)
    yield Case("llm.c, version 3", sizes, save_llmc(place / "gpt2.bin", tanh), tanh, context, vocab)
    rounded = copy.deepcopy(tanh).bfloat16().float()  # as the file has them
    source = save_llmc(place / "gpt2_bf16.bin", rounded, version=5)
    yield Case("llm.c, version 5", sizes, source, rounded, context, vocab)


def _others(place: Path, layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    sizes = _sizes(layers, heads, width, context, vocab)
    book = _random(
        GPTModel(vocab=vocab, context=context, width=width, layers=layers, heads=heads, qkv_bias=True)
    )
    yield Case("LLMs-from-scratch", sizes, book.state_dict(), book, context, vocab, n_head=heads)
    for activation in ("gelu_new", "gelu", "relu", "silu", "tanh"):
        config = GPT2Config(vocab, context, width, layers, heads, None, activation)
        model = _random(GPT2LMHeadModel(config))
        name = f"Hugging Face's GPT-2, {activation}"
        yield Case(name, sizes, save_gpt2(model, place / activation), model, context, vocab)


def _llamas(place: Path, layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    """Llama and its relatives of transformers."""
    sizes = _sizes(layers, heads, width, context, vocab)
    config = LlamaConfig(width, 3 * width, layers, heads, 3, 2 * (width // heads // 2), vocab, context)
    short = context // 3
    scaling = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": short}
    relatives: dict[str, tuple[Own, dict[str, Any]]] = {
        "Llama": (Own(), {}),
        "Llama, llama3's scaling": (
            Own(llama3=(8.0, 1.0, 4.0, short)),
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, **scaling}},
        ),
        "Mistral, with a window": (
            Own(windows=(short,) * layers), {"model_type": "mistral", "sliding_window": short},
        ),
        "Qwen2": (Own(qkv_bias=True), {"model_type": "qwen2"}),
        "Qwen3": (Own(qk_norm=True), {"model_type": "qwen3"}),
        "SmolLM3": (Own(unturned=(1,)), {"model_type": "smollm3", "no_rope_layers": _all_but(1, layers)}),
    }  # fmt: skip
    for name, (own, fields) in relatives.items():
        model = random_llama(config, size=1.0, own=own)
        source = save_llama(model, place / name, **fields)
        yield Case(f"Hugging Face's {name}", sizes, source, model, context, vocab)


def _all_but(layer: int, layers: int) -> list[int]:
    return [int(i != layer) for i in range(layers)]


def _llama2c(place: Path, layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    sizes = _sizes(layers, heads, width, context, vocab)
    args = llama2c.ModelArgs(width, layers, heads, heads // 3, vocab, max_seq_len=context)
    model = llama2c.random_transformer(args)
    yield Case(
        "llama2.c, ckpt.pt", sizes, llama2c.save_checkpoint(model, place / "ckpt.pt"), model, context, vocab
    )
    for version in (0, 1):
        source = llama2c.save_bin(model, place / f"v{version}.bin", version)
        yield Case(f"llama2.c, .bin version {version}", sizes, source, model, context, vocab)


class _Row(torch.nn.Module):
    """A module of ids [T] as one of ids [1, T]."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids[0])[None]


def _nanochat(place: Path, layers: int, heads: int, width: int, context: int, vocab: int) -> Iterator[Case]:
    sizes = _sizes(layers, heads, width, context, vocab)
    for name in nanochat.GENERATIONS:
        pattern = "L" if name == "g1" else "SSL"  # windows came with the second
        config = nanochat.Config(context, vocab, layers, heads, heads // 3, width, pattern)
        model = nanochat.random_nanochat(name, config, rows=vocab + 3)
        source = nanochat.save_nanochat(model, place / name)
        told = name if name in ("g3a", "g3b") else None
        yield Case(f"nanochat, {name}", sizes, source, _Row(model), context, vocab, nanochat_gen=told)
    config = nanochat.Config(context, vocab, layers, heads, heads // 3, width, "L")
    model = nanochat.random_nanochat("g1", config, rows=vocab)
    source = save_hf_nanochat(model, place / "hf_nanochat", bos_token_id=1, eos_token_id=2)
    yield Case("Hugging Face's nanochat", sizes, source, _Row(model), context, vocab)


def _random(model: Any) -> Any:
    """Weights at random, of the size that keeps every part of the forward pass alive at any width."""
    families.randomise(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5 * parameter.shape[-1] ** -0.5)
    return model


def main() -> None:
    torch.manual_seed(0)
    print("| family | sizes | max abs dlogit / max abs logit |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "model.pygpt"
        for case in cases(Path(directory)):
            options = Options(
                tokenizer="none",
                n_head=case.n_head,
                attention_scale=case.attention_scale,
                nanochat_gen=case.nanochat_gen,
            )
            export_with_report(case.source, target, "f32", options)
            ids = [i * 7 % case.vocab for i in range(case.context)]
            share = in_the_engine.difference(target, case.module, ids)
            print(f"| {case.family} | {case.sizes} | {share:.1e} |", flush=True)


if __name__ == "__main__":
    main()
