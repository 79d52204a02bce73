"""build-nanogpt ("Let's reproduce GPT-2"): `log/model_19072.pt`.

Source: https://github.com/karpathy/build-nanogpt, train_gpt2.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pygpt.checkpoints import gpt2_layout, torch_file
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors


def recognise(source: Source) -> bool:
    """By nanoGPT's names and a GPTConfig without dropout: in the checkpoint a dataclass beside `step`, where
    nanoGPT has a dict model_args."""
    fields = _config(source)
    return gpt2_layout.has_linear_layers(source) and "n_head" in fields and "dropout" not in fields


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of train_gpt2.py or its live GPT: always with biases, tanh GELU, a tied head.

    Raises:
        ModelFileError: tensors are missing or do not fit, or contradict the config.
        InvalidRequestError: a vocabulary that is not GPT-2's must be given.
    """
    options.refuse_width_scale("build-nanogpt")
    config = _config(source)
    gpt2_layout.check_layout(source, bias=True)
    tokenizer, notes = gpt2_layout.given_vocabulary(source, options, "build-nanogpt")
    rows = source.matrix_shape(gpt2_layout.NAMES["wte"])[0]
    architecture = gpt2_layout.architecture(
        source,
        n_head=gpt2_layout.recorded_heads(source, options, config["n_head"]),
        bias=True,
        tied=gpt2_layout.is_tied(source),
        activation=gpt2_layout.live_gelu(source) or "gelu_tanh",
        vocab_size=gpt2_layout.vocabulary_size(source, options, tokenizer, rows),
        tokenizer=tokenizer,
    )
    source.check_recorded(
        "config",
        config,
        n_layer=architecture.n_layer,
        n_embd=architecture.d_model,
        block_size=architecture.context_length,
        vocab_size=rows,
    )
    step = source.extras.get("step")
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, gpt2_layout.NAMES),
        provenance={"family": "build_nanogpt"} | ({"step": step} if type(step) is int else {}),
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
    )


def _config(source: Source) -> Mapping[str, Any]:
    """The fields of the dataclass GPTConfig, in the checkpoint or of a live module; empty without one."""
    config = source.extras.get("config", getattr(source.module, "config", None))
    return vars(config) if hasattr(config, "__dict__") and not isinstance(config, type) else {}


FAMILY = Family(
    "build-nanogpt",
    (*gpt2_layout.REQUIRED, *gpt2_layout.BIASES),
    (gpt2_layout.HEAD, gpt2_layout.MASK),
    recognise,
    read,
    told_by="nanoGPT's names, with config (a pickled dataclass, never run) in place of model_args",
    beside="nothing; --tokenizer adds GPT-2's BPE",
)
