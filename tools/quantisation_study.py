"""What rounding weights and activations costs in loss: the table that the formats q8 and q4 were chosen by.

    python tools/quantisation_study.py tinyshakespeare.txt
    python tools/quantisation_study.py tinyshakespeare.txt --model other.pygpt --windows 400

The model's own weights are rounded in PyTorch in the ways that a fast integer kernel could multiply, and each
way reads the last tenth of the text. Outlier channels are planted without changing what the model computes: a
norm's gain, or a hidden unit of a ReLU network, is multiplied by a factor and the columns that read it are
divided by it. docs/kernels.md has the result and what was concluded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.dtypes import tensor_format

Tensor = torch.Tensor
LEVELS = torch.tensor([0, 15, 26, 34, 41, 48, 54, 60, 65, 70, 76, 82, 88, 95, 104, 116]) - 64.0  # of q4


@dataclass(frozen=True, slots=True)
class Way:
    """How a matrix is rounded: weights and activations in groups of `group` neighbours that share a scale.

    Attributes:
        weights: bits, evenly spaced and symmetric; 4: from -8 to 7; 0: the levels of q4; None: as they are.
        activations: bits, symmetric; "asymmetric": 7 bits from the smallest to the largest; None.
    """

    name: str
    weights: int | None
    activations: int | str | None
    group: int = 64


WAYS = (
    Way("8-bit weights, 7-bit activations", 8, 7),
    Way("8-bit weights, 7-bit asymmetric activations", 8, "asymmetric"),
    Way("8-bit weights, 7-bit asymmetric activations, groups of 128", 8, "asymmetric", 128),
    Way("7-bit weights, 8-bit activations (q8)", 7, 8),
    Way("7-bit weights, 8-bit activations, groups of 128", 7, 8, 128),
    Way("8-bit weights, 8-bit activations", 8, 8),
    Way("7-bit weights alone", 7, None),
    Way("8-bit activations alone", None, 8),
    Way("8-bit weights, 16-bit activations", 8, 16),
    Way("4-bit even weights, groups of 32", 4, 8, 32),
    Way("4-bit even weights, groups of 64", 4, 8),
    Way("the 16 levels of q4 (q4_pure)", 0, 8),
)


def grouped(x: Tensor, size: int) -> Tensor:
    """[..., k] as [..., groups, size], filled up with zeros."""
    return functional.pad(x, (0, -x.shape[-1] % size)).unflatten(-1, (-1, size))


def rounded_weights(w: Tensor, bits: int | None, group: int) -> Tensor:
    """Each group under the f16 scale of least squared error among some candidates."""
    if bits is None:
        return w
    groups = grouped(w, group)
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    if bits == 0:
        levels, shares = LEVELS, [sign * (0.82 + 0.06 * i) / 64 for i in range(7) for sign in (1, -1)]
    elif bits == 4:
        levels = torch.arange(-8, 8.0)
        shares = [share / end for share in (1.1, 1.0, 0.92, 0.84, 0.76, 0.68) for end in (-8, 7)]
    else:
        most = 2 ** (bits - 1) - (bits > 7)
        levels = torch.arange(-most, most + 1.0)
        shares = [(1 - 0.02 * i) / most for i in range(6)]
    edges = (levels[1:] + levels[:-1]) / 2
    best, least = torch.zeros_like(groups), groups.square().sum(-1, keepdim=True)
    for share in shares:
        scale = (extreme * share).half().float()
        inverse = torch.where(scale == 0, 0.0, 1 / scale)
        candidate = scale * levels[torch.bucketize((groups * inverse).contiguous(), edges)]
        error = (candidate - groups).square().sum(-1, keepdim=True)
        best = torch.where(error < least, candidate, best)
        least = torch.minimum(error, least)
    return best.flatten(-2)[..., : w.shape[-1]]


def rounded_activations(x: Tensor, bits: int | str | None, group: int) -> Tensor:
    """Each group under a scale from its own extremes."""
    if bits is None:
        return x
    groups = grouped(x, group)
    if bits == "asymmetric":
        low = groups.amin(-1, keepdim=True).clamp(max=0)
        scale = ((groups.amax(-1, keepdim=True).clamp(min=0) - low) / 127).clamp(min=1e-30)
        zero = (-low / scale).round()
        back = scale * (((groups / scale).round() + zero).clamp(0, 127) - zero)
    else:
        most = 2 ** (int(bits) - 1) - 1
        scale = (groups.abs().amax(-1, keepdim=True) / most).clamp(min=1e-30)
        back = scale * (groups / scale).round()
    return back.flatten(-2)[..., : x.shape[-1]]


class Study:
    """A model of the lecture's shape in PyTorch, its weights by their names in docs/format.md."""

    def __init__(self, path: Path, text: str, windows: int) -> None:
        file = _core.ModelFile(str(path))
        self.config = file.config
        self.weights = {tensor.name: torch.tensor(file.tensor(tensor.name)) for tensor in file.tensors}
        context = self.config["context_length"]
        ids = torch.tensor(pygpt.Engine(path).tokenizer.encode(text[len(text) * 9 // 10 :]))
        count = min(windows, (len(ids) - 1) // context)
        self.inputs = ids[: count * context].view(count, context)
        self.targets = ids[1 : count * context + 1].view(count, context)

    def planted(self, factor: float, where: Sequence[str]) -> dict[str, Tensor]:
        """The weights with outlier channels: three behind each norm, eight in each hidden layer."""
        random = torch.Generator().manual_seed(5)
        weights = {name: tensor.clone() for name, tensor in self.weights.items()}
        width = self.config["d_model"]
        for layer in range(self.config["n_layer"]):
            h = f"h.{layer}."
            for norm, reader in (("ln_1", "attn.qkv"), ("ln_2", "mlp.up")) if "norm" in where else ():
                channels = torch.randperm(width, generator=random)[:3]
                for part in (".gain", ".bias"):
                    if h + norm + part in weights:
                        weights[h + norm + part][0, channels] *= factor
                weights[h + reader][:, channels] /= factor
            if "hidden" in where and self.config["activation"] == "relu":
                units = torch.randperm(4 * width, generator=random)[:8]
                weights[h + "mlp.up"][units] *= factor
                if h + "mlp.up.bias" in weights:
                    weights[h + "mlp.up.bias"][0, units] *= factor
                weights[h + "mlp.down"][:, units] /= factor
        return weights

    @torch.inference_mode()
    def loss(self, weights: dict[str, Tensor], way_of: Callable[[str], Way]) -> float:
        """Nats a token, each matrix rounded in its way."""
        specs = _core.tensor_specs(_strings(self.config))
        kinds = {name: kind for name, kind, _, _ in specs}
        rounded = {
            name: rounded_weights(w, way_of(name).weights, way_of(name).group)
            if kinds[name] == "matrix"
            else w
            for name, w in weights.items()
        }

        def product(x: Tensor, name: str) -> Tensor:
            way = way_of(name)
            y = rounded_activations(x, way.activations, way.group) @ rounded[name].T
            return y + rounded[name + ".bias"][0] if name + ".bias" in rounded else y

        total = 0.0
        for x, y in zip(self.inputs.split(20), self.targets.split(20), strict=True):
            logits = self._forward(x, rounded, product)[..., : self.config["vocab_size"]]
            total += functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        return total / self.targets.numel()

    def _forward(self, ids: Tensor, w: dict[str, Tensor], product: Callable[[Tensor, str], Tensor]) -> Tensor:
        c = self.config
        activate = {"relu": functional.relu, "gelu": functional.gelu}[c["activation"]]

        def norm(x: Tensor, name: str) -> Tensor:
            bias = w[name + ".bias"][0] if name + ".bias" in w else None
            return functional.layer_norm(x, (c["d_model"],), w[name + ".gain"][0], bias, c["norm_epsilon"])

        x = w["wte"][ids] + w["wpe"][: ids.shape[1]]
        for layer in range(c["n_layer"]):
            h = f"h.{layer}."
            qkv = product(norm(x, h + "ln_1"), h + "attn.qkv").unflatten(-1, (c["n_head"], 3, -1))
            q, k, v = qkv[..., : c["head_dim"]].permute(3, 0, 2, 1, 4)
            heads = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=c["attention_scale"]
            )
            x = x + product(heads.transpose(1, 2).flatten(2), h + "attn.proj")
            x = x + product(activate(product(norm(x, h + "ln_2"), h + "mlp.up")), h + "mlp.down")
        return product(norm(x, "ln_f"), "wte" if c["tied_head"] else "head")


def _strings(config: dict[str, Any]) -> dict[str, str]:
    return Architecture.from_config(config).to_config()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    bundled = Path(pygpt.__file__).parent / "models/shakespeare.pygpt"
    parser.add_argument("--model", type=Path, default=bundled)
    parser.add_argument("--windows", type=int, default=200, help="windows of the context's length (200)")
    args = parser.parse_args()
    study = Study(args.model, args.text.read_text(encoding="utf-8"), args.windows)
    exact = Way("", None, None)
    cases = [(1.0, ()), (30.0, ("norm",)), (30.0, ("hidden",)), (100.0, ("norm", "hidden"))]
    models = [study.planted(factor, where) for factor, where in cases]
    base = study.loss(study.weights, lambda _: exact)
    print(f"loss as stored: {base:.5f} nats a token; differences below:\n")
    titles = [f"x{factor:g} {' and '.join(where)}" if where else "no outliers" for factor, where in cases]
    print("| rounding | " + " | ".join(titles) + " |\n|---|" + "---|" * len(cases))
    for way in WAYS:
        losses = [study.loss(weights, lambda _, way=way: way) - base for weights in models]  # type: ignore[misc]
        print(f"| {way.name} | " + " | ".join(f"{loss:+.5f}" for loss in losses) + " |", flush=True)
    q8, q4 = WAYS[3], WAYS[-1]
    mixed = [
        study.loss(weights, lambda name: q8 if tensor_format("q4", name, "matrix") == "q8" else q4) - base
        for weights in models
    ]
    print("| q4 with down and head in q8 (q4) | " + " | ".join(f"{loss:+.5f}" for loss in mixed) + " |")


if __name__ == "__main__":
    main()
