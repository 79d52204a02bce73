"""minGPT: the bare state_dict `model.pt` that its examples save, with `config.json` beside it.

Source: https://github.com/karpathy/minGPT, mingpt/model.py and projects/chargpt/chargpt.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pygpt.checkpoints import gpt2_layout, torch_file
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors
from pygpt.checkpoints.loading import config_beside

# Heads of what GPT.get_default_config calls model_type.
_HEADS = {
    "openai-gpt": 12, "gpt2": 12, "gpt2-medium": 16, "gpt2-large": 20, "gpt2-xl": 25, "gopher-44m": 16,
    "gpt-mini": 6, "gpt-micro": 4, "gpt-nano": 3,
}  # fmt: skip


def recognise(source: Source) -> bool:
    """By nanoGPT's names, and a head that is not the embedding; nanoGPT's untied ones have model_args."""
    return (
        gpt2_layout.has_linear_layers(source)
        and gpt2_layout.HEAD in source.tensors
        and not isinstance(source.extras.get("model_args"), Mapping)
        and not gpt2_layout.is_tied(source)
    )


def read(source: Source, options: Options) -> Imported:
    """A state_dict of minGPT's GPT, or a live one: always with biases, NewGELU (tanh), an untied head.

    Raises:
        ModelFileError: tensors are missing or do not fit, or contradict config.json.
        InvalidRequestError: the number of heads or the vocabulary is recorded nowhere and not given.
    """
    options.refuse_width_scale("minGPT")
    config = _config(source)
    gpt2_layout.check_layout(source, bias=True)
    tokenizer, notes = gpt2_layout.given_vocabulary(source, options, "minGPT")
    rows = source.matrix_shape(gpt2_layout.NAMES["wte"])[0]
    architecture = gpt2_layout.architecture(
        source,
        n_head=gpt2_layout.recorded_heads(source, options, _recorded_heads(config)),
        bias=True,
        tied=False,
        activation="gelu_tanh",
        vocab_size=gpt2_layout.vocabulary_size(source, options, tokenizer, rows),
        tokenizer=tokenizer,
    )
    source.check_recorded(
        "config.json",
        config,
        n_layer=architecture.n_layer,
        n_embd=architecture.d_model,
        block_size=architecture.context_length,
        vocab_size=rows,
    )
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, gpt2_layout.NAMES),
        provenance={"family": "mingpt"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
        files=(source.directory / "config.json",) if source.directory else (),
    )


def _config(source: Source) -> Mapping[str, Any]:
    """The section `model` of the config.json that setup_logging writes beside model.pt; empty without one."""
    section = config_beside(source).get("model")
    return section if isinstance(section, Mapping) else {}


def _recorded_heads(config: Mapping[str, Any]) -> object:
    """n_head, which is null in the file where model_type decides."""
    kind = config.get("model_type")
    return config.get("n_head") or (_HEADS.get(kind) if isinstance(kind, str) else None)


FAMILY = Family(
    "minGPT",
    (*gpt2_layout.REQUIRED, *gpt2_layout.BIASES, gpt2_layout.HEAD),
    (gpt2_layout.MASK,),
    recognise,
    read,
    told_by="nanoGPT's names in a bare state_dict, lm_head.weight apart from the embedding",
    beside="config.json, else --n-head; --text, --chars or --tokenizer",
)
