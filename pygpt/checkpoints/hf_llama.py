"""Hugging Face's LlamaForCausalLM: a directory of config.json, safetensors and tokenizer.json, or the module.

Source: https://github.com/huggingface/transformers, modeling_llama.py and configuration_llama.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pygpt.architecture import Architecture
from pygpt.checkpoints import chat_files, torch_file, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names, head_by_head, panel_by_panel
from pygpt.kinds import MAX_FLOAT32, shown
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs, where one tensor is one tensor.
NAMES = {
    "wte": "model.embed_tokens.weight",
    "h.{i}.ln_1.gain": "model.layers.{i}.input_layernorm.weight",
    "h.{i}.attn.proj": "model.layers.{i}.self_attn.o_proj.weight",
    "h.{i}.ln_2.gain": "model.layers.{i}.post_attention_layernorm.weight",
    "h.{i}.mlp.down": "model.layers.{i}.mlp.down_proj.weight",
    "ln_f.gain": "model.norm.weight",
    "head": "lm_head.weight",
}
_QKV = tuple(f"model.layers.{{i}}.self_attn.{part}_proj.weight" for part in "qkv")
_GATE, _UP = (f"model.layers.{{i}}.mlp.{part}_proj.weight" for part in ("gate", "up"))
_HEAD = NAMES["head"]
_REQUIRED = (*(theirs for theirs in NAMES.values() if theirs != _HEAD), *_QKV, _GATE, _UP)
_BUFFER = "model.layers.{i}.self_attn.rotary_emb.inv_freq"  # of older versions; follows from the config

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_MAX_STOPS = 16  # docs/format.md


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What config.json says, checked."""

    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int
    d_model: int
    d_ff: int
    context_length: int
    norm_epsilon: float
    rope_theta: float
    activation: str
    tied: bool
    start_token: int | None
    stop_tokens: tuple[int, ...]


def recognise(source: Source) -> bool:
    """By the names of its attention and its gate. Relatives (Qwen, Mistral) share them: config.json tells
    which it is."""
    return all(name.format(i=0) in source.tensors for name in (_QKV[0], _GATE))


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of LlamaForCausalLM, tied or not, with any number of heads of k and v.

    Raises:
        ModelFileError: config.json is missing, damaged, or says that it computes otherwise; tensors are
            missing or do not fit.
        InvalidRequestError: an argument does not fit the checkpoint.
    """
    options.refuse_width_scale("Llama")
    config = _config(source)
    options.check_heads(config.n_head)
    check_names(source, _REQUIRED + (() if config.tied else (_HEAD,)), (_HEAD, _BUFFER), config.n_layer)
    directories = () if source.directory is None else (source.directory,)
    tokenizer, notes = vocabulary.found(options, *directories)
    chat, chat_notes = chat_files.found(tokenizer, *directories)
    architecture = _architecture(source, config, tokenizer)
    made = {"attn.qkv": _qkv_reader(source, architecture), "mlp.up": _up_reader(source, architecture)}
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, NAMES, made),
        provenance={"family": "hf_llama"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        blobs=chat,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes + chat_notes,
        files=vocabulary.files(*directories) + chat_files.files(*directories),
    )


def _config(source: Source) -> _Config:
    fields = _fields(source)
    _refuse_relatives(source, fields)
    width = _integer(source, fields, "hidden_size")
    n_head = _integer(source, fields, "num_attention_heads")
    stops = fields.get("eos_token_id")
    start = fields.get("bos_token_id")
    activation = fields.get("hidden_act", "silu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise source.error("unsupported_family", f"hidden_act is {activation!r}; there are {known}", "config")
    return _Config(
        n_layer=_integer(source, fields, "num_hidden_layers"),
        n_head=n_head,
        n_kv_head=_integer(source, fields, "num_key_value_heads", n_head),
        head_dim=_integer(source, fields, "head_dim", width // n_head),
        d_model=width,
        d_ff=_integer(source, fields, "intermediate_size"),
        context_length=_integer(source, fields, "max_position_embeddings", 2048),
        norm_epsilon=_real(source, fields, "rms_norm_eps", 1e-6),
        rope_theta=_theta(source, fields),
        activation=_ACTIVATIONS[activation],
        tied=bool(fields.get("tie_word_embeddings", False)),
        start_token=start if type(start) is int else None,
        stop_tokens=tuple(stops if isinstance(stops, list) else () if stops is None else (stops,)),
    )


def _fields(source: Source) -> Mapping[str, Any]:
    """The fields of config.json, wherever the source has them."""
    to_dict = getattr(getattr(source.module, "config", None), "to_dict", None)
    fields: Any = source.extras if "hidden_size" in source.extras else source.extras.get("config")
    if callable(to_dict):
        fields = to_dict()
    if not isinstance(fields, Mapping):
        message = (
            "config.json is not beside these weights; heads, rotary positions and norms are known from it"
        )
        raise source.error("missing_config", message)
    return fields


def _refuse_relatives(source: Source, fields: Mapping[str, Any]) -> None:
    """What has Llama's names and computes otherwise."""
    kind = fields.get("model_type", "llama")
    if kind != "llama":
        message = f"model_type is {kind!r}, which is not supported yet; llama is"
        raise source.error("unsupported_family", message, "config")
    for key in ("attention_bias", "mlp_bias"):
        if fields.get(key):
            message = f"{key} is true: a Llama with biases is not supported yet"
            raise source.error("unsupported_family", message, "config")


def _theta(source: Source, fields: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies; newer versions keep it in rope_parameters."""
    parameters = fields.get("rope_parameters") or {}
    for key in ("rope_scaling", "rope_parameters"):
        scaling = fields.get(key) or {}
        if not isinstance(scaling, Mapping):
            raise source.error("damaged", f"{key} is no object", "config")
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind != "default":
            message = f"{key} is {kind!r}: scaled rotary positions are not supported yet, plain ones are"
            raise source.error("unsupported_family", message, "config")
    both = {
        **{key: fields[key] for key in ("rope_theta", "partial_rotary_factor") if key in fields},
        **parameters,
    }
    if both.get("partial_rotary_factor", 1.0) != 1.0:
        raise source.error(
            "unsupported_family", "partial_rotary_factor is not 1, not supported yet", "config"
        )
    return _real(source, both, "rope_theta", 10000.0)


def _integer(source: Source, fields: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = fields.get(key)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        raise source.error("damaged", f"{key} is {value!r}", "config")
    return value


def _real(source: Source, fields: Mapping[str, Any], key: str, default: float) -> float:
    value = fields.get(key)
    value = default if value is None else value
    if type(value) not in (int, float) or not 0 < value < MAX_FLOAT32:
        raise source.error("damaged", f"{key} is {shown(value)}", "config")
    return float(value)


def _architecture(source: Source, config: _Config, tokenizer: Tokenizer | None) -> Architecture:
    rows = source.matrix_shape(NAMES["wte"])[0]
    size = vocabulary.fitted(tokenizer, rows, source, padded=True) if tokenizer else rows
    start = config.start_token
    for key, ids in (
        ("eos_token_id", config.stop_tokens),
        ("bos_token_id", () if start is None else (start,)),
    ):
        if len(ids) > _MAX_STOPS or not all(type(i) is int and 0 <= i < size for i in ids):
            raise source.error("damaged", f"{key} is {list(ids)}, the vocabulary has {size} tokens", "config")
    return Architecture(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_kv_head=config.n_kv_head,
        head_dim=config.head_dim,
        d_model=config.d_model,
        d_ff=config.d_ff,
        context_length=config.context_length,
        vocab_size=size,
        padded_vocab_size=rows,
        norm="rms_norm",
        norm_epsilon=config.norm_epsilon,
        position="rotary",
        rope_theta=config.rope_theta,
        activation=config.activation,
        gate=True,
        attention_scale=config.head_dim**-0.5,
        tied_head=config.tied,
        qkv_bias=False,
        proj_bias=False,
        mlp_bias=False,
        norm_bias=False,
        head_bias=False,
        start_token=start,
        stop_tokens=config.stop_tokens,
    )


def _qkv_reader(source: Source, a: Architecture) -> Callable[[int], Read]:
    """From a block to the reader of its `attn.qkv`."""

    def reader(layer: int) -> Read:
        heads = (a.n_head, a.n_kv_head, a.n_kv_head)
        parts = [
            source.reader(name.format(i=layer), count * a.head_dim, a.d_model)
            for name, count in zip(_QKV, heads, strict=True)
        ]

        def rows() -> Array:
            q, k, v = (read().reshape(-1, a.head_dim, a.d_model) for read in parts)
            return head_by_head(q, k, v)

        return rows

    return reader


def _up_reader(source: Source, a: Architecture) -> Callable[[int], Read]:
    """From a block to the reader of its `mlp.up`."""

    def reader(layer: int) -> Read:
        gate, up = (source.reader(name.format(i=layer), a.d_ff, a.d_model) for name in (_GATE, _UP))
        return lambda: panel_by_panel(gate(), up())

    return reader


FAMILY = Family(
    "Hugging Face's Llama",
    _REQUIRED,
    (_HEAD, _BUFFER),
    recognise,
    read,
    told_by="model.layers.0.self_attn.q_proj.weight and mlp.gate_proj.weight",
    beside="config.json, tokenizer.json",
)
