"""Hugging Face's NanoChatForCausalLM: the first generation of nanochat, in the names of transformers.

Source: https://github.com/huggingface/transformers, modeling_nanochat.py and configuration_nanochat.py.
"""

from __future__ import annotations

from pygpt.architecture import Architecture
from pygpt.checkpoints import chat_files, hf_original, vocabulary
from pygpt.checkpoints.base import MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.checkpoints.decoder_parts import joined
from pygpt.checkpoints.hf_config import Fields, config_fields
from pygpt.checkpoints.hf_generation import generation
from pygpt.checkpoints.hf_rope import rope
from pygpt.checkpoints.nanochat import constant_norms, halves_swapped

# Our names (docs/format.md) and theirs; no norm has weights.
NAMES = {
    "wte": "model.embed_tokens.weight",
    "h.{i}.attn.proj": "model.layers.{i}.self_attn.o_proj.weight",
    "h.{i}.mlp.up": "model.layers.{i}.mlp.fc1.weight",
    "h.{i}.mlp.down": "model.layers.{i}.mlp.fc2.weight",
    "head": "lm_head.weight",
}
_QKV = tuple(f"model.layers.{{i}}.self_attn.{part}_proj" for part in "qkv")
_REQUIRED = (*NAMES.values(), *(f"{name}.weight" for name in _QKV))
_BUFFER = "model.rotary_emb.inv_freq"


def recognise(source: Source) -> bool:
    """By the names of its attention and of its MLP, and by config.json."""
    fields = config_fields(source)
    named = all(name.format(i=0) in source.tensors for name in (_QKV[0] + ".weight", NAMES["h.{i}.mlp.up"]))
    return named and fields is not None and fields.get("model_type") == "nanochat"


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of NanoChatForCausalLM, a directory or the live module.

    Raises:
        ModelFileError: config.json is damaged or says that it computes otherwise; tensors are missing or do
            not fit.
        InvalidRequestError: an argument does not fit the checkpoint.
    """
    options.refuse_width_scale("nanochat")
    values = {key: value for key, value in (config_fields(source) or {}).items() if value is not None}
    fields = Fields(source, values)
    n_layer = fields.integer("num_hidden_layers", most=MAX_LAYERS)
    options.check_heads(fields.integer("num_attention_heads", most=MAX_HEADS))
    check_names(source, _REQUIRED, (_BUFFER,), n_layer)
    directories = (source.directory,) if source.directory else ()
    tokenizer, notes = vocabulary.found(options, *directories)
    chat, chat_notes = chat_files.found(tokenizer, *directories)
    rows = source.matrix_shape(NAMES["wte"])[0]
    size = vocabulary.fitted(tokenizer, rows, source, padded=True) if tokenizer else rows
    spoken = generation(source, fields, size)
    a = _architecture(fields, rows, size, spoken.start_token, spoken.stop_tokens)
    qkv = joined(source, a, _QKV, (), halves_swapped)["attn.qkv"]
    return Imported(
        architecture=a,
        tensors=canonical_tensors(source, a, NAMES, constant_norms(a, 1.0) | {"attn.qkv": qkv}),
        provenance={"family": "hf_nanochat"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        defaults=spoken.defaults,
        blobs=chat,
        original_logits=hf_original.original_logits(source, options),
        notes=notes + chat_notes,
        files=(*vocabulary.files(*directories), *chat_files.files(*directories)),
    )


def _architecture(
    fields: Fields, rows: int, size: int, start: int | None, stops: tuple[int, ...]
) -> Architecture:
    if fields.values.get("hidden_act", "relu2") != "relu2":
        raise fields.unsupported(f"hidden_act is {fields.values['hidden_act']!r}; there is relu2")
    if fields.boolean("attention_bias") or fields.boolean("tie_word_embeddings"):
        raise fields.unsupported("attention_bias or tie_word_embeddings is true, which is not supported")
    width, n_head = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", width // n_head, MAX_HEAD_DIM)
    context_length = fields.integer("max_position_embeddings")
    positions = rope(fields, head_dim, context_length, 10000.0)
    if positions.frequencies is not None:
        raise fields.unsupported(f"rope_type is {positions.kind!r}, which is not supported here; default is")
    return Architecture(
        n_layer=fields.integer("num_hidden_layers"),
        n_head=n_head,
        n_kv_head=fields.integer("num_key_value_heads", n_head),
        head_dim=head_dim,
        d_model=width,
        d_ff=fields.integer("intermediate_size"),
        context_length=context_length,
        vocab_size=size,
        padded_vocab_size=rows,
        norm="rms_norm",
        norm_epsilon=fields.real("rms_norm_eps", 1e-6),
        position="rotary",
        rope_theta=positions.theta,
        activation="relu_squared",
        attention_scale=head_dim**-0.5,
        qk_norm="after_rotary",
        tied_head=False,
        qkv_bias=False,
        proj_bias=False,
        mlp_bias=False,
        norm_bias=False,
        head_bias=False,
        embedding_norm=True,
        logit_cap=fields.real("final_logit_softcapping")
        if "final_logit_softcapping" in fields.values
        else 0.0,
        start_token=start,
        stop_tokens=stops,
    )


FAMILY = Family(
    "Hugging Face's nanochat",
    _REQUIRED,
    (_BUFFER,),
    recognise,
    read,
    told_by="model.layers.0.mlp.fc1.weight and model_type nanochat",
    beside="config.json, tokenizer.json, chat template, generation_config.json",
)
