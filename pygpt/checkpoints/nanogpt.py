"""nanoGPT: `out/ckpt.pt`, with the meta.pkl of its data directory where it was trained on characters.

Source: https://github.com/karpathy/nanoGPT, model.py, train.py and sample.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygpt.architecture import Architecture
from pygpt.checkpoints import torch_file, vocabulary
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs.
NAMES = {
    "wte": "transformer.wte.weight",
    "wpe": "transformer.wpe.weight",
    "h.{i}.ln_1.gain": "transformer.h.{i}.ln_1.weight",
    "h.{i}.ln_1.bias": "transformer.h.{i}.ln_1.bias",
    "h.{i}.attn.qkv": "transformer.h.{i}.attn.c_attn.weight",
    "h.{i}.attn.qkv.bias": "transformer.h.{i}.attn.c_attn.bias",
    "h.{i}.attn.proj": "transformer.h.{i}.attn.c_proj.weight",
    "h.{i}.attn.proj.bias": "transformer.h.{i}.attn.c_proj.bias",
    "h.{i}.ln_2.gain": "transformer.h.{i}.ln_2.weight",
    "h.{i}.ln_2.bias": "transformer.h.{i}.ln_2.bias",
    "h.{i}.mlp.up": "transformer.h.{i}.mlp.c_fc.weight",
    "h.{i}.mlp.up.bias": "transformer.h.{i}.mlp.c_fc.bias",
    "h.{i}.mlp.down": "transformer.h.{i}.mlp.c_proj.weight",
    "h.{i}.mlp.down.bias": "transformer.h.{i}.mlp.c_proj.bias",
    "ln_f.gain": "transformer.ln_f.weight",
    "ln_f.bias": "transformer.ln_f.bias",
    "head": "lm_head.weight",
}
_BIASES = tuple(theirs for ours, theirs in NAMES.items() if ours.endswith(".bias"))
_HEAD = NAMES["head"]  # absent, or the embedding's storage once more, where the head is tied
_REQUIRED = tuple(theirs for theirs in NAMES.values() if theirs not in (*_BIASES, _HEAD))
_MASK = "transformer.h.{i}.attn.bias"  # the causal mask, [1, 1, T, T], where torch had no fused attention

# sample.py; its top-k keeps every logit that ties with the k-th.
DEFAULTS = {"temperature": 0.8, "top_k": 200, "top_k_ties": True}

# The BPE of GPT-2, which train.py assumes where no meta.pkl is: 50257 tokens, padded to a multiple of 64.
GPT2_TOKENS, GPT2_ROWS = 50257, 50304
GPT2_NEWLINE, GPT2_END_OF_TEXT = 198, 50256


def recognise(source: Source) -> bool:
    """By c_attn stored as [3C, C]: Hugging Face's GPT-2 has the same names and stores [C, 3C]."""
    name = "transformer.h.0.attn.c_attn.weight"
    if name not in source.tensors:
        return False
    shape = source.shape(name)
    return len(shape) == 2 and shape[0] == 3 * shape[1]


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of nanoGPT's train.py, a bare state_dict of its GPT, or a live GPT.

    Raises:
        ModelFileError: tensors are missing or do not fit, or it is a relative of nanoGPT that computes
            otherwise.
        InvalidRequestError: the number of heads or the vocabulary is recorded nowhere and not given.
    """
    options.refuse_width_scale("nanoGPT")
    args = _model_args(source)
    bias = _has_bias(source, args)
    n_layer = source.count("transformer.h")
    _check_names(source, bias, n_layer)
    tied = _is_tied(source)
    if not tied and not args:
        raise source.error(
            "unsupported_family",
            "has nanoGPT's names but a head of its own and no model_args: minGPT, which has another GELU, "
            "is not supported yet",
        )
    tokenizer, notes = _tokenizer(source, options)
    architecture = _architecture(source, options, args, bias, tied, tokenizer)
    if "bias" not in args and args:
        notes += (
            "of a nanoGPT before 2023-01-27: biases are taken to be on and GELU exact, as sample.py does",
        )
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, NAMES),
        provenance={"family": "nanogpt"} | _trained(source),
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        defaults=DEFAULTS,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
        files=tuple(_meta_places(source)),
    )


def _model_args(source: Source) -> Mapping[str, Any]:
    recorded = source.extras.get("model_args")
    if recorded is None and hasattr(source.module, "config"):
        recorded = vars(source.module.config)  # the live GPT's GPTConfig has the same fields
    return recorded if isinstance(recorded, Mapping) else {}


def _has_bias(source: Source, args: Mapping[str, Any]) -> bool:
    if args:
        return bool(args.get("bias", True))  # the key came on 2023-01-27; before, biases were always there
    return "transformer.ln_f.bias" in source.tensors


def _check_names(source: Source, bias: bool, n_layer: int) -> None:
    """Check the names. The mask of attention is known by its four dimensions, and never taken for a bias."""
    for name, tensor in source.tensors.items():
        if name.endswith(".attn.bias") and len(tensor.shape) != 4:
            raise source.error("wrong_shape", "expected the causal mask, [1, 1, T, T]", name)
    check_names(source, _REQUIRED + (_BIASES if bias else ()), (_HEAD, _MASK), n_layer)


def _is_tied(source: Source) -> bool:
    """Whether the head is the embedding: one storage or a copy of it. Before 2023-01-14 it was not."""
    if "lm_head.weight" not in source.tensors:
        return True
    return source.same("transformer.wte.weight", "lm_head.weight")


def _architecture(
    source: Source,
    options: Options,
    args: Mapping[str, Any],
    bias: bool,
    tied: bool,
    tokenizer: Tokenizer | None,
) -> Architecture:
    rows, width = source.matrix_shape("transformer.wte.weight")
    n_head = _n_head(source, options, args, width)
    size = GPT2_TOKENS if rows == GPT2_ROWS else rows
    if tokenizer:
        size = vocabulary.fitted(tokenizer, rows, source, padded=options.tokenizer is not None)
    is_gpt2 = size == GPT2_TOKENS
    return Architecture(
        n_layer=source.count("transformer.h"),
        n_head=n_head,
        head_dim=width // n_head,
        d_model=width,
        d_ff=source.matrix_shape("transformer.h.0.mlp.c_fc.weight")[0],
        context_length=source.matrix_shape("transformer.wpe.weight")[0],
        vocab_size=size,
        padded_vocab_size=rows,
        activation="gelu",  # nn.GELU(), exact, since 2023-05-17
        attention_scale=(width // n_head) ** -0.5,
        tied_head=tied,
        qkv_bias=bias,
        proj_bias=bias,
        mlp_bias=bias,
        norm_bias=bias,
        head_bias=False,
        start_token=vocabulary.newline(tokenizer) if tokenizer else GPT2_NEWLINE if is_gpt2 else None,
        stop_tokens=(GPT2_END_OF_TEXT,) if is_gpt2 else (),
    )


def _n_head(source: Source, options: Options, args: Mapping[str, Any], width: int) -> int:
    recorded = args.get("n_head", options.n_head)
    if recorded is None:
        raise InvalidRequestError(
            "n_head", f"{source.name} does not record the number of heads, and no shape shows it"
        )
    options.check_heads(recorded)
    if type(recorded) is not int or recorded < 1 or width % recorded:
        raise InvalidRequestError("n_head", f"{recorded!r} heads do not divide a width of {width}")
    return recorded


def _tokenizer(source: Source, options: Options) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The vocabulary, and a line where there is none."""
    tokenizer = vocabulary.given(options)
    if tokenizer is not None:
        return tokenizer, ()
    if vocabulary.refused(options):
        return None, ()
    places = _meta_places(source)
    for place in places:
        if place.is_file():
            return vocabulary.from_meta(place), ()
    rows = source.matrix_shape("transformer.wte.weight")[0]
    if rows in (GPT2_TOKENS, GPT2_ROWS):
        line = "no tokenizer: the model's is GPT-2's, which the checkpoint does not hold; tokenizer= adds one"
        return None, (line,)
    looked = ", ".join(str(place) for place in places) or "nothing (no directory to look in)"
    raise InvalidRequestError(
        "meta",
        f"the vocabulary of {rows} tokens is not in the checkpoint; looked for {looked}. Pass meta=, text= "
        '(the training text), chars= (its characters), tokenizer=, or tokenizer="none" for token ids only',
    )


def _meta_places(source: Source) -> list[Path]:
    """Where meta.pkl may lie: beside the checkpoint, in ./data/<dataset> or out_dir/../data/<dataset>."""
    if source.path is None:
        return []
    directory = source.path if source.path.is_dir() else source.path.parent
    places = [directory / "meta.pkl"]
    config = source.extras.get("config")
    dataset = config.get("dataset") if isinstance(config, Mapping) else None
    if isinstance(dataset, str) and dataset and Path(dataset).name == dataset and "\0" not in dataset:
        places += [
            Path("data") / dataset / "meta.pkl",
            directory.absolute().parent / "data" / dataset / "meta.pkl",
        ]
    return places


def _trained(source: Source) -> dict[str, Any]:
    """What the checkpoint records about its training, as plain numbers."""
    facts: dict[str, Any] = {}
    for key, kind in (("iter_num", int), ("best_val_loss", float)):
        if key in source.extras:
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # something else by that name
                number = kind(source.extras[key])
                facts[key] = number if abs(number) < math.inf else None  # JSON has no NaN and no infinity
    config = source.extras.get("config")
    if isinstance(config, Mapping) and isinstance(config.get("dataset"), str):
        facts["dataset"] = config["dataset"]
    return facts


FAMILY = Family("nanoGPT", _REQUIRED, (*_BIASES, _HEAD, _MASK), recognise, read)
