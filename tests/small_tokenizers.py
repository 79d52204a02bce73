"""Small vocabularies of several kinds, and texts that tokenizers get wrong."""

from __future__ import annotations

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from pygpt.tokenizer import written_bytes

# The patterns of tiktoken's encodings (openai_public.py) and of nanochat (tokenizer.py).
NANOCHAT = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
OLD_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {"nanochat": NANOCHAT, "cl100k": CL100K, "gpt2": GPT2, "old_gpt2": OLD_GPT2, "o200k": O200K}

NASTY = [
    "", " ", "\n", "\r\n", "\x00", "a\x00b\x00", "\ufeffbom", "tail   ", "   head", "a  b   c    d",
    "\t\t x \t",
    "line\n\n\n  line\r\n\r\n", " \n \n ", "\u00a0nbsp\u2003em\u3000wide\u2028sep\u0085nel",
    "\N{GRINNING FACE}", "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}",
    "\N{THUMBS UP SIGN}\U0001f3fd\U0001f1e9\U0001f1ea",
    "e\u0301\u0302\u0303 \u00e9 \u1e9e\u00df\u017f 'S '\u017f 'LL 'll 'Ve",
    "\u4e2d\u6587\u5b57\u7b26 \u30ab\u30bf\u30ab\u30ca",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eesrever\u202c",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "1 12 123 1234 12345 3.14159 \u0661\u0662\u0663 \u00bd\u00b2", "don't I'll we've DON'T",
    "x=1;y+=2//z**3!=4",
    "<|endoftext|>", "<|bos|><|end|>", "<|end", "end|>", "<|<|end|>|>", " <|end|> ", "</s><s>[INST]",
    "\ud7ff\ue000\ufffd\uffff\U0010ffff", "zqzqzq d\u00e9j\u00e0 vu", "the quick brown fox " * 50,
]  # fmt: skip
LONG = [piece * 100_000 for piece in ("a", "^", " ", "1", "_", "\n")] + [
    "\N{GRINNING FACE}" * 20_000,
    "ab" * 50_000,
]


def trained(text: str, splitter: pre_tokenizers.PreTokenizer, size: int) -> tokenizers.Tokenizer:
    """A byte-level BPE of so many tokens, trained by the library."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def small_ranks(text: str, size: int = 600) -> dict[bytes, int]:
    """tiktoken's ranks of a small vocabulary, with three tokens that no merges lead to."""
    vocabulary = trained(text, pre_tokenizers.ByteLevel(add_prefix_space=False), size).get_vocab()
    byte_of = {written_bytes(bytes([byte])): byte for byte in range(256)}
    ranks = {bytes(byte_of[c] for c in token): index for token, index in vocabulary.items()}
    for word in (b"zqzqzq", " d\u00e9j\u00e0".encode(), b"\xff\xfe\xfd"):
        ranks[word] = len(ranks)
    return ranks


def hf_tokenizer(
    kind: str, text: str, special_tokens: tuple[str, ...], size: int = 600
) -> tokenizers.Tokenizer:
    """A tokenizer of the shape that a family on the Hugging Face hub has; special tokens have the last ids.

    Sources: the tokenizer.json of Llama-3, Qwen2 and SmolLM2.
    """
    words = {
        kind: rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        for kind, digits in (("llama3", r"\p{N}{1,3}"), ("qwen", r"\p{N}"))
    }
    if kind == "smollm":
        steps = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    else:
        steps = [
            pre_tokenizers.Split(Regex(words[kind]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    tokenizer = trained(text, pre_tokenizers.Sequence(steps), size)
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(
        [AddedToken(each, special=True, normalized=False) for each in special_tokens]
    )
    return tokenizer
