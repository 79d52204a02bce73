"""nanoGPT: `out/ckpt.pt`, with the meta.pkl of its data directory where it was trained on characters.

Source: https://github.com/karpathy/nanoGPT, model.py, train.py and sample.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pygpt.checkpoints import gpt2_layout, torch_file, vocabulary
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

# sample.py; its top-k keeps every logit that ties with the k-th.
DEFAULTS = {"temperature": 0.8, "top_k": 200, "top_k_ties": True}


def recognise(source: Source) -> bool:
    """By c_attn stored as [3C, C]; its relatives minGPT and build-nanogpt were asked before."""
    return gpt2_layout.has_linear_layers(source)


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of nanoGPT's train.py, a bare state_dict of its GPT, or a live GPT.

    Raises:
        ModelFileError: tensors are missing or do not fit, or contradict model_args.
        InvalidRequestError: the number of heads or the vocabulary is recorded nowhere and not given.
    """
    options.refuse_width_scale("nanoGPT")
    options = _with_tokenizer_beside(source, options)
    args = model_args(source)
    bias = bool(args.get("bias", True)) if args else gpt2_layout.has_biases(source)
    gpt2_layout.check_layout(source, bias)
    tokenizer, notes = _tokenizer(source, options)
    seen = gpt2_layout.live_gelu(source)
    architecture = gpt2_layout.architecture(
        source,
        n_head=gpt2_layout.recorded_heads(source, options, args.get("n_head")),
        bias=bias,
        tied=gpt2_layout.is_tied(source),
        activation=seen or "gelu",  # nn.GELU(), exact, since 2023-05-17
        vocab_size=gpt2_layout.vocabulary_size(
            source, options, tokenizer, source.matrix_shape(gpt2_layout.NAMES["wte"])[0]
        ),
        tokenizer=tokenizer,
    )
    source.check_recorded(
        "model_args",
        args,
        n_layer=architecture.n_layer,
        n_embd=architecture.d_model,
        block_size=architecture.context_length,
        vocab_size=architecture.padded_vocab_size,
    )
    if "bias" not in args and args:  # the key came on 2023-01-27; before, biases were always there
        notes += (
            "of a nanoGPT before 2023-01-27: biases are taken to be on and GELU exact, as sample.py does",
        )
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, gpt2_layout.NAMES),
        provenance={"family": "nanogpt"} | _trained(source),
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        defaults=DEFAULTS,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
        unrecorded=() if seen else (gpt2_layout.either_gelu("gelu"),),
        files=(*_meta_places(source), *(vocabulary.files(source.directory) if source.directory else ())),
    )


def model_args(source: Source) -> Mapping[str, Any]:
    """The fields of GPTConfig that train.py records, or those of a live GPT's; empty if there are none."""
    recorded = source.extras.get("model_args")
    if recorded is None and hasattr(source.module, "config"):
        recorded = vars(source.module.config)
    return recorded if isinstance(recorded, Mapping) else {}


def _with_tokenizer_beside(source: Source, options: Options) -> Options:
    """The tokenizer's files beside the checkpoint are as good as given, where no vocabulary is and no
    meta.pkl is found."""
    given = (options.tokenizer, options.text, options.chars, options.meta)
    metas = any(place.is_file() for place in _meta_places(source))
    if source.directory is None or metas or any(each is not None for each in given):
        return options
    return replace(options, tokenizer=vocabulary.found(options, source.directory)[0])


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
    rows = source.matrix_shape(gpt2_layout.NAMES["wte"])[0]
    if rows in (gpt2_layout.GPT2_TOKENS, gpt2_layout.GPT2_ROWS):  # train.py's, where there is no meta.pkl
        return None, (gpt2_layout.NO_GPT2_TOKENIZER,)
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


FAMILY = Family(
    "nanoGPT",
    gpt2_layout.REQUIRED,
    gpt2_layout.OPTIONAL,
    recognise,
    read,
    told_by="transformer.h.0.attn.c_attn.weight as [3C, C]; model_args, or a bare state_dict (--n-head)",
    beside="meta.pkl of characters (beside it, data/DATASET/, --meta), tokenizer.json, or --text",
)
