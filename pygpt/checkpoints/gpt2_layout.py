"""GPT-2's tensors by the names that nanoGPT gave them, which five families share.

What differs (the GELU, what is recorded and where) each family says itself.
"""

from __future__ import annotations

from pygpt.architecture import Architecture
from pygpt.checkpoints import vocabulary
from pygpt.checkpoints.base import Options, Source, Unrecorded
from pygpt.checkpoints.canonical import check_names
from pygpt.errors import InvalidRequestError
from pygpt.kinds import shown
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
BIASES = tuple(theirs for ours, theirs in NAMES.items() if ours.endswith(".bias"))
HEAD = NAMES["head"]  # absent, or the embedding's storage once more, where the head is tied
REQUIRED = tuple(theirs for theirs in NAMES.values() if theirs not in (*BIASES, HEAD))
MASK = "transformer.h.{i}.attn.bias"  # the causal mask, [1, 1, T, T], where torch had no fused attention
OPTIONAL = (*BIASES, HEAD, MASK)
_C_ATTN = NAMES["h.{i}.attn.qkv"].format(i=0)

# The BPE of GPT-2: 50257 tokens, often padded to a multiple of 64.
GPT2_TOKENS, GPT2_ROWS = 50257, 50304
GPT2_NEWLINE, GPT2_END_OF_TEXT = 198, 50256
NO_GPT2_TOKENIZER = (
    "no tokenizer: the model's is GPT-2's, which the checkpoint does not hold; tokenizer= adds one"
)


def has_linear_layers(source: Source) -> bool:
    """Whether c_attn is stored as [3C, C], as torch's Linear does; Hugging Face's GPT-2 has [C, 3C]."""
    shape = source.tensors[_C_ATTN].shape if _C_ATTN in source.tensors else ()
    return len(shape) == 2 and shape[0] == 3 * shape[1]


def has_biases(source: Source) -> bool:
    """Whether its layers have biases: all of them do, or none."""
    return NAMES["ln_f.bias"] in source.tensors


def is_tied(source: Source) -> bool:
    """Whether the head is the embedding: absent, one storage, or a copy of it."""
    return HEAD not in source.tensors or source.same(NAMES["wte"], HEAD)


def check_layout(source: Source, bias: bool) -> None:
    """Hold the names to the layout. The mask is known by its four dimensions, and never taken for a bias.

    Raises:
        ModelFileError: a tensor is missing, is none of GPT-2's, or the mask is of another shape.
    """
    for name, tensor in source.tensors.items():
        if name.endswith(".attn.bias") and len(tensor.shape) != 4:
            raise source.error("wrong_shape", "expected the causal mask, [1, 1, T, T]", name)
    n_layer = source.count("transformer.h")
    check_names(source, REQUIRED + (BIASES if bias else ()), (HEAD, MASK), n_layer)


def recorded_heads(source: Source, options: Options, recorded: object) -> int:
    """The number of heads: what the checkpoint records, else a live module's, else the caller's.

    Raises:
        InvalidRequestError: nothing records it and it is not given, or what is given does not fit.
        ModelFileError: what is recorded does not fit the width.
    """
    width = source.matrix_shape(NAMES["wte"])[1]
    return heads_of_width(source, options, recorded, width)


def heads_of_width(source: Source, options: Options, recorded: object, width: int) -> int:
    """The same for a width."""
    recorded = live_heads(source) if recorded is None else recorded
    found = options.n_head if recorded is None else recorded
    if found is None:
        raise InvalidRequestError(
            "n_head",
            f"{source.name} does not record the number of heads, and no shape shows it; "
            f"a divisor of {width}, as in --n-head or n_head=",
        )
    if type(found) is not int or found < 1 or width % found:
        message = f"{shown(found)} heads do not divide a width of {width}"
        if recorded is None:
            raise InvalidRequestError("n_head", message)
        raise source.error("contradiction", message, "n_head")
    options.check_heads(found)
    return found


def live_heads(source: Source) -> int | None:
    """The number of heads that the attention of a live module keeps, by the names that people give it."""
    for module in source.module.modules() if source.module is not None else ():
        for name in ("n_head", "num_heads"):
            if type(getattr(module, name, None)) is int:
                return int(getattr(module, name))
    return None


def live_gelu(source: Source) -> str | None:
    """Which GELU a live module has, where that can be seen: nn.GELU says it, minGPT's NewGELU is named so."""
    for module in source.module.modules() if source.module is not None else ():
        if type(module).__name__ in ("NewGELU", "NewGELUActivation"):
            return "gelu_tanh"
        if type(module).__name__ == "GELU" and hasattr(module, "approximate"):
            return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    return None


def either_gelu(default: str) -> Unrecorded:
    """What to ask a text about, where nothing records the GELU."""
    names = (default, *(each for each in ("gelu", "gelu_tanh") if each != default))
    return Unrecorded("activation", {name: {"activation": name} for name in names})


def vocabulary_size(source: Source, options: Options, tokenizer: Tokenizer | None, rows: int) -> int:
    """How many of the embedding's rows are tokens: the tokenizer's, GPT-2's where padded as usual, or all.

    Raises:
        ModelFileError: the vocabulary given is not this model's.
    """
    if tokenizer:
        return vocabulary.fitted(tokenizer, rows, source, padded=options.tokenizer is not None)
    return GPT2_TOKENS if rows == GPT2_ROWS else rows


def architecture(
    source: Source,
    *,
    n_head: int,
    bias: bool,
    tied: bool,
    activation: str,
    vocab_size: int,
    tokenizer: Tokenizer | None,
) -> Architecture:
    """The architecture that the shapes and these facts make."""
    rows, width = source.matrix_shape(NAMES["wte"])
    is_gpt2 = vocab_size == GPT2_TOKENS
    return Architecture(
        n_layer=source.count("transformer.h"),
        n_head=n_head,
        head_dim=width // n_head,
        d_model=width,
        d_ff=source.matrix_shape("transformer.h.0.mlp.c_fc.weight")[0],
        context_length=source.matrix_shape(NAMES["wpe"])[0],
        vocab_size=vocab_size,
        padded_vocab_size=rows,
        activation=activation,
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


def given_vocabulary(
    source: Source, options: Options, family: str, embedding: str = NAMES["wte"]
) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The vocabulary of a family whose checkpoints say nothing about it, and a line where there is none.

    Raises:
        InvalidRequestError: it is not GPT-2's, and not given.
    """
    tokenizer = vocabulary.given(options)
    if tokenizer is not None or vocabulary.refused(options):
        return tokenizer, ()
    rows = source.matrix_shape(embedding)[0]
    if rows in (GPT2_TOKENS, GPT2_ROWS):
        return None, (NO_GPT2_TOKENIZER,)
    raise InvalidRequestError(
        "text",
        f"{family} does not record the vocabulary of its {rows} tokens: pass text= (the training text), "
        'chars= (its characters), meta=, tokenizer=, or tokenizer="none" for token ids only',
    )
