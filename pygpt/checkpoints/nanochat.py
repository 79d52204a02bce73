"""nanochat: model_000700.pt of its checkpoint directories, with meta_000700.json beside it, or the live GPT.

Source: https://github.com/karpathy/nanochat, nanochat/gpt.py and nanochat/checkpoint_manager.py. Its model
has changed ever since its first day (2025-10-13), and a checkpoint does not say which one it is of:
nanochat_generations.py tells them apart by their tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pygpt.architecture import Architecture, layer_pattern
from pygpt.checkpoints import chat_files, nanochat_files, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.checkpoints.decoder_parts import joined
from pygpt.checkpoints.nanochat_generations import (
    GENERATIONS,
    RESID_LAMBDAS,
    SMEAR_GATE,
    Generation,
    either,
    generations_of,
)
from pygpt.kinds import shown
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs; what is made of several of theirs, or of none, is in `_made`.
NAMES = {
    "wte": "transformer.wte.weight",
    "h.{i}.attn.proj": "transformer.h.{i}.attn.c_proj.weight",
    "h.{i}.attn.value_embed": "value_embeds.{i}.weight",
    "h.{i}.mlp.up": "transformer.h.{i}.mlp.c_fc.weight",
    "h.{i}.mlp.down": "transformer.h.{i}.mlp.c_proj.weight",
    "smear.lambda": "smear_lambda",
    "backout.lambda": "backout_lambda",
    "head": "lm_head.weight",
}
_QKV = tuple(f"transformer.h.{{i}}.attn.c_{part}" for part in "qkv")
_LAMBDAS = (RESID_LAMBDAS, "x0_lambdas")
_GATE = "transformer.h.{i}.attn.ve_gate.weight"
_VALUES = NAMES["h.{i}.attn.value_embed"]
_OPTIONAL = (_VALUES, NAMES["smear.lambda"], NAMES["backout.lambda"], *_LAMBDAS, SMEAR_GATE, _GATE)
_REQUIRED = (
    *(name for name in NAMES.values() if name not in _OPTIONAL),
    *(f"{name}.weight" for name in _QKV),
)

Make = Callable[[int], Read]  # from a block to the reader of one of its tensors

EPSILON = float(np.finfo(np.float32).eps)  # F.rms_norm's where none is given
DEFAULTS = {"temperature": 0.6, "top_k": 50}  # chat_cli.py

# The last ids of its vocabulary.
SPECIAL_TOKENS = (
    "<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>",
    "<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>",
)  # fmt: skip


def recognise(source: Source) -> bool:
    """By its names for q, k and v."""
    return f"{_QKV[0].format(i=0)}.weight" in source.tensors


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of nanochat's base, mid, SFT or RL training, of any generation but two of some days.

    Raises:
        ModelFileError: meta.json is missing or says something else than the tensors; tensors are missing or
            do not fit; it is of a generation that pygpt does not know.
        InvalidRequestError: the generation cannot be told and is not given, or another one is given.
    """
    options.refuse_width_scale("nanochat")
    names = generations_of(source, options.nanochat_gen, several=options.calibrate is not None)
    name, generation = " or ".join(names), GENERATIONS[names[0]]
    n_layer = source.count("transformer.h")
    check_names(source, _REQUIRED, _OPTIONAL, n_layer)
    for i in range(n_layer):
        if _VALUES.format(i=i) in source.tensors:
            source.shape(_GATE.format(i=i))
    places = _tokenizer_places(source)
    tokenizer, notes = vocabulary.found(options, *places)
    architecture = _architecture(source, options, _recorded(source), generation, tokenizer)
    if "chosen_of" in source.extras:
        notes += (f"of {source.extras['chosen_of']} took {source.name}, nanochat's generation {name}",)
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, NAMES, _made(source, architecture, generation.gain)),
        provenance={"family": "nanochat", "generation": name} | _trained(source),
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        defaults=DEFAULTS,
        blobs=_chat(tokenizer),
        notes=notes,
        unrecorded=either(names),
        files=vocabulary.files(*places),
    )


def _recorded(source: Source) -> Mapping[str, Any]:
    """The model_config of meta.json, or the live GPT's."""
    if hasattr(source.module, "config"):
        fields: Mapping[str, Any] = vars(source.module.config)
        return fields
    meta = source.extras.get("meta")
    recorded = meta.get("model_config") if isinstance(meta, Mapping) else None
    if not isinstance(recorded, Mapping):
        message = "meta_<step>.json is not beside this model_<step>.pt: it records sequence_len and n_head"
        raise source.error("missing_config", message)
    return recorded


def _architecture(
    source: Source,
    options: Options,
    recorded: Mapping[str, Any],
    generation: Generation,
    tokenizer: Tokenizer | None,
) -> Architecture:
    rows, width = source.matrix_shape(NAMES["wte"])
    n_layer = source.count("transformer.h")
    for key, found in (("n_layer", n_layer), ("n_embd", width)):
        if recorded.get(key) != found:
            message = f"{key} is {shown(recorded.get(key))}, but the tensors have {found}"
            raise source.error("contradiction", message, "model_config")
    n_head, length, size = (
        _integer(source, recorded, key) for key in ("n_head", "sequence_len", "vocab_size")
    )
    options.check_heads(n_head)
    n_kv_head = _integer(source, recorded, "n_kv_head", n_head)
    if width % n_head or n_head % n_kv_head or size > rows:
        message = f"{n_head} heads ({n_kv_head} of k and v), {size} tokens; the embedding is {rows} x {width}"
        raise source.error("contradiction", message, "model_config")
    if tokenizer:
        size = vocabulary.fitted(tokenizer, size, source, padded=True)
    gated = [_GATE.format(i=i) in source.tensors for i in range(n_layer)]
    gate = source.matrix_shape(_GATE.format(i=gated.index(True)))[1] if any(gated) else 0
    window, window_layers = _windows(source, recorded, generation, n_layer, length)
    start, stops = _special_ids(size, tokenizer)
    return Architecture(
        n_layer=n_layer,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=width // n_head,
        d_model=width,
        d_ff=source.matrix_shape(NAMES["h.{i}.mlp.up"].format(i=0))[0],
        context_length=length,
        vocab_size=size,
        padded_vocab_size=rows,
        norm="rms_norm",
        norm_epsilon=EPSILON,
        position="rotary",
        rope_theta=generation.rope_theta,
        activation="relu_squared",
        attention_scale=(width // n_head) ** -0.5,
        qk_norm="after_rotary",
        window=window,
        window_layers=window_layers,
        tied_head=False,
        qkv_bias=False,
        proj_bias=False,
        mlp_bias=False,
        norm_bias=False,
        head_bias=False,
        embedding_norm=True,
        smear_width=source.matrix_shape(SMEAR_GATE)[1] if SMEAR_GATE in source.tensors else 0,
        layer_lambdas=any(name in source.tensors for name in _LAMBDAS),
        value_gate_width=gate,
        value_gate_scale=generation.value_gate_scale if gate else 0.0,
        value_layers=layer_pattern(gated) if gate else "",
        backout_layer=n_layer // 2 if SMEAR_GATE in source.tensors else None,
        logit_cap=generation.logit_cap,
        start_token=start,
        stop_tokens=stops,
    )


def _integer(source: Source, recorded: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = recorded.get(key, default)
    if type(value) is not int or value < 1:
        raise source.error("damaged", f"{key} is {shown(value)}", "model_config")
    return value


def _windows(
    source: Source, recorded: Mapping[str, Any], generation: Generation, n_layer: int, length: int
) -> tuple[int, str]:
    """`window` and `window_layers`: S and L of window_pattern for the layers in turn, L for the last one.

    Keys up to the window's size back are seen, and so is the row's own: one more than the size.
    """
    pattern = recorded.get("window_pattern", "L")
    if not isinstance(pattern, str) or not pattern or set(pattern.upper()) - {"S", "L"}:
        raise source.error("damaged", f"window_pattern is {shown(pattern)}", "model_config")
    short = [pattern[i % len(pattern)].upper() == "S" for i in range(n_layer - 1)] + [False]
    if any(short) and not generation.share:
        message = f"window_pattern is {shown(pattern)}, but the tensors are of a generation without windows"
        raise source.error("contradiction", message, "model_config")
    window = generation.short_window(length) + 1 if any(short) else 0
    return (window, layer_pattern(short)) if 0 < window < length else (0, "")


def _made(source: Source, a: Architecture, gain: float) -> dict[str, Make]:
    """Readers of what is no tensor there, for `canonical_tensors`."""

    def flat(name: str, rows: int, cols: int) -> Make:
        def reader(layer: int) -> Read:
            read = source.reader(name.format(i=layer), rows, cols)
            return lambda: read().reshape(1, -1)

        return reader

    def lambdas(layer: int) -> Read:
        # Those that are missing are patched as nanochat patches checkpoints from before there were any.
        values = (
            source.reader(name, a.n_layer)()[layer] if name in source.tensors else patch
            for name, patch in zip(_LAMBDAS, (1.0, 0.0), strict=True)
        )
        both = np.array([list(values)], np.float32)
        return lambda: both

    return {
        **constant_norms(a, gain),
        "attn.qkv": joined(source, a, _QKV, (), halves_swapped)["attn.qkv"],
        "attn.value_gate": flat(_GATE, a.n_kv_head, a.value_gate_width),
        "smear.gate": flat(SMEAR_GATE, 1, a.smear_width),
        "lambdas": lambdas,
    }


def constant_norms(a: Architecture, gain: float) -> dict[str, Make]:
    """Norms without weights are norms with weights of 1; those of q and k multiply by `gain`."""

    def constant(value: float, width: int) -> Make:
        return lambda _: lambda: np.full((1, width), value, np.float32)

    of_stream = {
        name: constant(1.0, a.d_model) for name in ("ln_e.gain", "ln_1.gain", "ln_2.gain", "ln_f.gain")
    }
    return of_stream | {f"attn.{part}_norm.gain": constant(gain, a.head_dim) for part in "qk"}


def halves_swapped(rows: Array) -> Array:
    """Rows of q or k [heads, head_dim, width] that turn the other way round than ours.

    nanochat turns pairs (a, b) by -position * theta: that is (b, a) turned by position * theta.
    """
    return np.roll(rows, rows.shape[1] // 2, axis=1)


def _special_ids(size: int, tokenizer: Tokenizer | None) -> tuple[int | None, tuple[int, ...]]:
    """What a text begins with, <|bos|>, and what ends one: <|assistant_end|>, and <|bos|> of the next."""
    laid_out = zip(SPECIAL_TOKENS, range(size - len(SPECIAL_TOKENS), size), strict=True)
    ids = tokenizer.special_tokens if tokenizer else {token: i for token, i in laid_out if i >= 0}
    bos = ids.get("<|bos|>")
    ends = (ids.get("<|assistant_end|>"), bos)
    return bos, tuple(sorted(each for each in ends if each is not None))


def _chat(tokenizer: Tokenizer | None) -> dict[str, bytes]:
    """nanochat's rendering of chats, where the tokenizer has its special tokens."""
    if tokenizer is None or not set(SPECIAL_TOKENS) <= tokenizer.special_tokens.keys():
        return {}
    return chat_files.described(chat_files.NANOCHAT, tokenizer)


def _tokenizer_places(source: Source) -> tuple[Path, ...]:
    """The tokenizer of the base directory that the checkpoint lies in."""
    return (nanochat_files.tokenizer_directory(source.path),) if source.path else ()


def _trained(source: Source) -> dict[str, Any]:
    """What meta.json records about the training, as plain numbers."""
    meta = source.extras.get("meta")
    facts = {key: meta.get(key) for key in ("step", "val_bpb")} if isinstance(meta, Mapping) else {}
    return {
        key: value
        for key, value in facts.items()
        if type(value) is int or (type(value) is float and np.isfinite(value))
    }


FAMILY = Family(
    "nanochat",
    _REQUIRED,
    _OPTIONAL,
    recognise,
    read,
    told_by="transformer.h.0.attn.c_q.weight; the generation by its gates and lambdas (--nanochat-gen)",
    beside="meta_STEP.json, tokenizer/tokenizer.pkl of the base directory",
)
