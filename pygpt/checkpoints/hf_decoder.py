"""The decoder that Llama and its relatives in transformers share: names, shapes, and what config.json says.

RMS norm, grouped heads, rotary positions, a gate. What a family has of its own, its file says as a `Variant`.
Source: https://github.com/huggingface/transformers, models/*/modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pygpt.architecture import Architecture, layer_pattern
from pygpt.checkpoints import chat_files, hf_original, lora, vocabulary
from pygpt.checkpoints.base import (
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    Array,
    Family,
    Imported,
    Options,
    Read,
    Source,
)
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.checkpoints.decoder_parts import joined
from pygpt.checkpoints.hf_config import Fields, config_fields
from pygpt.checkpoints.hf_generation import generation
from pygpt.checkpoints.hf_rope import rope

_BLOCK = "model.layers.{i}."
# Our names (docs/format.md) and theirs, where one tensor is one tensor.
NAMES = {
    "wte": "model.embed_tokens.weight",
    "h.{i}.ln_1.gain": _BLOCK + "input_layernorm.weight",
    "h.{i}.attn.q_norm.gain": _BLOCK + "self_attn.q_norm.weight",
    "h.{i}.attn.k_norm.gain": _BLOCK + "self_attn.k_norm.weight",
    "h.{i}.attn.proj": _BLOCK + "self_attn.o_proj.weight",
    "h.{i}.attn.proj.bias": _BLOCK + "self_attn.o_proj.bias",
    "h.{i}.ln_2.gain": _BLOCK + "post_attention_layernorm.weight",
    "h.{i}.mlp.down": _BLOCK + "mlp.down_proj.weight",
    "h.{i}.mlp.down.bias": _BLOCK + "mlp.down_proj.bias",
    "ln_f.gain": "model.norm.weight",
    "head": "lm_head.weight",
}
_QKV = tuple(f"{_BLOCK}self_attn.{part}_proj" for part in "qkv")
_GATE_UP = tuple(f"{_BLOCK}mlp.{part}_proj" for part in ("gate", "up"))
_QK_NORMS = tuple(theirs for ours, theirs in NAMES.items() if "_norm" in ours)
_ALWAYS = (
    *(theirs for theirs in NAMES.values() if theirs.endswith("weight") and theirs not in _QK_NORMS),
    *(f"{name}.weight" for name in _QKV + _GATE_UP),
)
_HEAD = NAMES["head"]
_BUFFER = _BLOCK + "self_attn.rotary_emb.inv_freq"  # of older versions; follows from the config

NULL_SAYS_OFF = ("sliding_window",)  # everywhere else, null is as good as nothing

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What a family has of its own, as the values of docs/format.md.

    Attributes:
        windows: the layers with a window.
        turns: the layers with rotary positions.
    """

    qkv_bias: bool = False
    proj_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str = "none"
    window: int | None = None
    windows: tuple[bool, ...] = ()
    turns: tuple[bool, ...] = ()

    def required(self) -> tuple[str, ...]:
        """The names of its tensors."""
        names = list(_ALWAYS)
        names += _QK_NORMS if self.qk_norm != "none" else ()
        names += (f"{name}.bias" for name in _QKV if self.qkv_bias)
        names += (NAMES["h.{i}.attn.proj.bias"],) if self.proj_bias else ()
        names += (f"{name}.bias" for name in _GATE_UP if self.mlp_bias)
        names += (NAMES["h.{i}.mlp.down.bias"],) if self.mlp_bias else ()
        return tuple(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """One of the families.

    Attributes:
        model_type: its word in config.json, and behind "hf_" in provenance.json.
        variant: what config.json says of what is its own, for this many layers.
        defaults: its own of the values that config.json may leave out.
    """

    title: str
    model_type: str
    variant: Callable[[Fields, int], Variant]
    shape: Variant = field(default_factory=Variant)  # whose names messages are about
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def family(self) -> Family:
        """How it is recognised and read."""
        optional = (_HEAD, _BUFFER)
        return Family(
            self.title,
            self.shape.required(),
            optional,
            self.recognise,
            self.read,
            told_by=f"self_attn.q_proj.weight and mlp.gate_proj.weight; model_type {self.model_type}",
            beside="config.json, tokenizer.json, chat template, generation_config.json",
        )

    def recognise(self, source: Source) -> bool:
        """By the names of its attention and its gate, and by config.json."""
        fields = config_fields(source)
        return has_names(source) and fields is not None and fields.get("model_type") == self.model_type

    def read(self, source: Source, options: Options) -> Imported:
        """A checkpoint of this family, tied or not.

        Raises:
            ModelFileError: config.json is missing, damaged, or says that it computes otherwise; tensors are
                missing or do not fit.
            InvalidRequestError: an argument does not fit the checkpoint.
        """
        options.refuse_width_scale(self.title)
        fields = self._fields(source)
        n_layer = fields.integer("num_hidden_layers", most=MAX_LAYERS)
        options.check_heads(fields.integer("num_attention_heads", most=MAX_HEADS))
        variant = self.variant(fields, n_layer)
        # An adapter on a tied head changes the head alone.
        tied = fields.boolean("tie_word_embeddings") and not lora.is_changed(source.tensors.get(_HEAD))
        required = tuple(name for name in variant.required() if name != _HEAD or not tied)
        check_names(source, required, (_HEAD, _BUFFER), n_layer)
        directories = (source.directory,) if source.directory else ()
        tokenizer, notes = vocabulary.found(options, *directories)
        chat, chat_notes = chat_files.found(tokenizer, *directories)
        rows = _embedding_rows(source, fields)
        size = vocabulary.fitted(tokenizer, rows, source, padded=True) if tokenizer else rows
        spoken = generation(source, fields, size)
        a = replace(
            _architecture(fields, variant),
            vocab_size=size,
            padded_vocab_size=rows,
            tied_head=tied,
            start_token=spoken.start_token,
            stop_tokens=spoken.stop_tokens,
        )
        positions = rope(fields, a.head_dim, a.context_length, 10000.0)
        a = replace(a, rope_theta=positions.theta, rope_frequencies=positions.frequencies is not None)
        made = joined(source, a, _QKV, _GATE_UP)
        if positions.frequencies is not None:
            made["rope_frequencies"] = _constant(positions.frequencies)
        return Imported(
            architecture=a,
            tensors=canonical_tensors(source, a, NAMES, made),
            provenance={"family": f"hf_{self.model_type}", "rope_type": positions.kind},
            source_dtype=source.dtype(),
            tokenizer=tokenizer,
            defaults=spoken.defaults,
            blobs=chat,
            original_logits=hf_original.original_logits(source, options),
            notes=notes + chat_notes,
            files=(*vocabulary.files(*directories), *chat_files.files(*directories)),
        )

    def _fields(self, source: Source) -> Fields:
        fields = config_fields(source)
        if fields is None:
            message = "config.json is not beside these weights; heads, positions and norms are known from it"
            raise source.error("missing_config", message)
        given = {key: value for key, value in fields.items() if value is not None or key in NULL_SAYS_OFF}
        return Fields(source, {**self.defaults, **given})


def has_names(source: Source) -> bool:
    """Whether this is the decoder, of whichever family."""
    return all(f"{name.format(i=0)}.weight" in source.tensors for name in (_QKV[0], _GATE_UP[0]))


def windows(fields: Fields, n_layer: int, usual: Callable[[int], bool]) -> Variant:
    """The sliding windows of a config.json with use_sliding_window: layer_types says where, else `usual`.

    In transformers and here, a row sees `sliding_window` positions, its own among them.
    """
    types = fields.layers("layer_types", n_layer, ("full_attention", "sliding_attention"))
    layers = tuple(kind == "sliding_attention" for kind in types) if types else None
    if not fields.boolean("use_sliding_window") or fields.values.get("sliding_window") is None:
        if layers and any(layers):
            raise fields.error("layer_types has sliding_attention, but there is no sliding window in use")
        return Variant()
    layers = layers or tuple(usual(layer) for layer in range(n_layer))
    return Variant(window=fields.integer("sliding_window"), windows=layers)


def _embedding_rows(source: Source, fields: Fields) -> int:
    rows = source.matrix_shape(NAMES["wte"])[0]
    if fields.integer("vocab_size", rows) != rows:
        said = fields.values["vocab_size"]
        raise fields.error(f"vocab_size is {said}, but the embedding has {rows} rows", "contradiction")
    return rows


def _architecture(fields: Fields, variant: Variant) -> Architecture:
    """All but the vocabulary and the rotary positions' frequencies."""
    width, n_head = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", width // n_head, MAX_HEAD_DIM)
    context_length = fields.integer("max_position_embeddings")
    activation = fields.values.get("hidden_act", "silu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise fields.unsupported(f"hidden_act is {activation!r}; there are {', '.join(_ACTIVATIONS)}")
    window = variant.window if variant.window and any(variant.windows) else 0
    window = window if window < context_length else 0  # it would end nothing
    return Architecture(
        n_layer=fields.integer("num_hidden_layers"),
        n_head=n_head,
        n_kv_head=fields.integer("num_key_value_heads", n_head),
        head_dim=head_dim,
        d_model=width,
        d_ff=fields.integer("intermediate_size"),
        context_length=context_length,
        vocab_size=0,
        padded_vocab_size=0,
        norm="rms_norm",
        norm_epsilon=fields.real("rms_norm_eps", 1e-6),
        position="rotary",
        rope_layers=layer_pattern(variant.turns),
        activation=_ACTIVATIONS[activation],
        gate=True,
        attention_scale=head_dim**-0.5,
        qk_norm=variant.qk_norm,
        window=window,
        window_layers=layer_pattern(variant.windows) if window else "",
        tied_head=False,
        qkv_bias=variant.qkv_bias,
        proj_bias=variant.proj_bias,
        mlp_bias=variant.mlp_bias,
        norm_bias=False,
        head_bias=False,
    )


def _constant(values: Array) -> Callable[[int], Read]:
    """The reader of what was computed, not stored."""
    return lambda _: lambda: values
