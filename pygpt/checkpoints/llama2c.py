"""llama2.c: `out/ckpt.pt` of its train.py, and the .bin files of its export.py.

Source: https://github.com/karpathy/llama2.c, model.py, train.py, export.py and run.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pygpt.architecture import Architecture
from pygpt.checkpoints import torch_file, vocabulary
from pygpt.checkpoints.base import MAX_HEADS, Array, Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.checkpoints.decoder_parts import joined
from pygpt.checkpoints.hf_config import Fields

# Our names (docs/format.md) and theirs, where one tensor is one tensor.
NAMES = {
    "wte": "tok_embeddings.weight",
    "h.{i}.ln_1.gain": "layers.{i}.attention_norm.weight",
    "h.{i}.attn.proj": "layers.{i}.attention.wo.weight",
    "h.{i}.ln_2.gain": "layers.{i}.ffn_norm.weight",
    "h.{i}.mlp.down": "layers.{i}.feed_forward.w2.weight",
    "ln_f.gain": "norm.weight",
    "head": "output.weight",
}
_QKV = tuple(f"layers.{{i}}.attention.w{part}" for part in "qkv")
_GATE_UP = ("layers.{i}.feed_forward.w1", "layers.{i}.feed_forward.w3")
_HEAD = NAMES["head"]
_REQUIRED = (
    *(theirs for theirs in NAMES.values() if theirs != _HEAD),
    *(f"{name}.weight" for name in _QKV + _GATE_UP),
)
_TABLES = ("freqs_cos", "freqs_sin")  # of the rotary positions; they follow from the rest

THETA = 10000.0
# The ids of Llama's sentencepiece vocabularies. Texts are separated by BOS: run.c ends one there.
BOS, EOS = 1, 2


def recognise(source: Source) -> bool:
    """By Meta's names, which Llama's first checkpoints have too."""
    return NAMES["wte"] in source.tensors and "layers.0.attention.wq.weight" in source.tensors


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of train.py or a file of export.py.

    Raises:
        ModelFileError: nothing records the heads; tensors are missing or do not fit.
        InvalidRequestError: an argument does not fit the checkpoint.
    """
    options.refuse_width_scale("llama2.c")
    fields = _model_args(source)
    n_layer = source.count("layers")
    tied = _is_tied(source)
    check_names(source, _REQUIRED + (() if tied else (_HEAD,)), (_HEAD, *_TABLES), n_layer)
    tokenizer = vocabulary.given(options)
    notes: tuple[str, ...] = ()
    if tokenizer is None and not vocabulary.refused(options):
        notes = ("no tokenizer: llama2.c keeps it in a file of sentencepiece; tokenizer= adds one",)
    rows, width = source.matrix_shape(NAMES["wte"])
    n_head = fields.integer("n_heads", most=MAX_HEADS)
    options.check_heads(n_head)
    _check_recorded(fields, n_layers=n_layer, dim=width, vocab_size=rows)
    if width % (2 * n_head):
        raise fields.error(f"n_heads is {n_head}, which does not divide a width of {width} into pairs")
    head_dim = width // n_head
    a = Architecture(
        n_layer=n_layer,
        n_head=n_head,
        n_kv_head=fields.integer("n_kv_heads", n_head, MAX_HEADS),
        head_dim=head_dim,
        d_model=width,
        d_ff=source.matrix_shape("layers.0.feed_forward.w1.weight")[0],
        context_length=fields.integer("max_seq_len"),
        vocab_size=vocabulary.fitted(tokenizer, rows, source, padded=True) if tokenizer else rows,
        padded_vocab_size=rows,
        norm="rms_norm",
        norm_epsilon=fields.real("norm_eps", 1e-5),
        position="rotary",
        rope_theta=THETA,
        activation="silu",
        gate=True,
        attention_scale=head_dim**-0.5,
        tied_head=tied,
        qkv_bias=False,
        proj_bias=False,
        mlp_bias=False,
        norm_bias=False,
        head_bias=False,
        start_token=BOS if rows > EOS else None,
        stop_tokens=(BOS, EOS) if rows > EOS else (),
    )
    return Imported(
        architecture=a,
        tensors=canonical_tensors(source, a, NAMES, joined(source, a, _QKV, _GATE_UP, half_split)),
        provenance={"family": "llama2c"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
    )


def half_split(rows: Array) -> Array:
    """Rows of q or k [heads, head_dim, width]: pairs lie side by side there, half a head apart here."""
    heads, head_dim, width = rows.shape
    split: Array = rows.reshape(heads, head_dim // 2, 2, width).swapaxes(1, 2).reshape(rows.shape)
    return split


def _model_args(source: Source) -> Fields:
    recorded: Any = source.extras.get("model_args")
    if recorded is None and hasattr(source.module, "params"):
        recorded = vars(source.module.params)  # the live Transformer's ModelArgs has the same fields
    if not isinstance(recorded, Mapping):
        raise source.error(
            "missing_config",
            "has Meta's names and no model_args: heads and context are recorded nowhere; export the ckpt.pt "
            "that llama2.c's train.py saved, or the same model in Hugging Face's form",
        )
    return Fields(source, recorded, "model_args")


def _check_recorded(fields: Fields, **found: int) -> None:
    for key, value in found.items():
        if fields.integer(key, value) != value:
            said = fields.values[key]
            raise fields.error(f"{key} is {said}, but the tensors have {value}", "contradiction")


def _is_tied(source: Source) -> bool:
    """Whether the head is the embedding: absent, one storage, or a copy of it."""
    if _HEAD not in source.tensors:
        return True
    return source.same(NAMES["wte"], _HEAD)


FAMILY = Family(
    "llama2.c",
    _REQUIRED,
    (_HEAD, *_TABLES),
    recognise,
    read,
    told_by="tok_embeddings.weight and layers.0.attention.wq.weight; a .bin of version 0, 1 or 2",
    beside="nothing; --tokenizer, for its own sentencepiece file is not read",
)
