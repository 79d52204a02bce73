"""Byte-pair vocabularies as tokenizers of the `tokenizers` library: tiktoken's ranks, GPT-2's vocabulary and
merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from pygpt.checkpoints.split_pattern import for_oniguruma
from pygpt.errors import InvalidRequestError
from pygpt.kinds import shown
from pygpt.tokenizer import MAX_VOCAB_SIZE, Tokenizer, library_faults, written_bytes

# Of transformers' Qwen2Tokenizer: words with one leading character that is no letter, single digits.
_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def from_ranks(ranks: Mapping[bytes, int], pattern: str, special_tokens: Mapping[str, int]) -> Tokenizer:
    """The tokenizer that tiktoken.Encoding makes of the same: encodings and decodings are equal.

    tiktoken merges the pair whose bytes together have the lowest rank, the leftmost first. Inside a token,
    the merges before its last are those of the token by itself, so one pair makes it wherever it stands, and
    a list of merges says the same as the ranks. A token that no merges lead to is a word, looked up whole.

    Raises:
        InvalidRequestError: ranks that are none, a byte without a token, an id twice, or a pattern that pygpt
            does not translate.
    """
    _check(ranks, special_tokens)
    pairs = sorted(((rank, _parts(ranks, token)) for token, rank in ranks.items() if len(token) > 1))
    merges = [(written_bytes(parts[0]), written_bytes(parts[1])) for _, parts in pairs if len(parts) == 2]
    vocabulary = {written_bytes(token): rank for token, rank in ranks.items()}
    words = _split(for_oniguruma(pattern))
    if sorted(ranks.values()) + sorted(special_tokens.values()) != list(
        range(len(ranks) + len(special_tokens))
    ):
        vocabulary |= _unreachable(special_tokens, vocabulary, words)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, special_tokens)
    return Tokenizer(tokenizer)


def from_merges(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special_tokens: Mapping[str, int],
    *,
    kind: str = "gpt2",
    add_prefix_space: bool = False,
) -> Tokenizer:
    """The tokenizer of a vocab.json and a merges.txt, in characters that stand for bytes.

    Args:
        kind: how texts are split: "gpt2" or "qwen2".

    Raises:
        InvalidRequestError: the merges do not fit the vocabulary.
    """
    with library_faults("tokenizer", "its merges do not fit its vocabulary"):
        model = models.BPE(dict(vocabulary), list(merges))
    tokenizer = tokenizers.Tokenizer(model)
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = _split(_QWEN2_PATTERN)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, special_tokens)
    return Tokenizer(tokenizer)


def _unreachable(
    special_tokens: Mapping[str, int], vocabulary: Mapping[str, int], words: pre_tokenizers.PreTokenizer
) -> Mapping[str, int]:
    """Special tokens as entries of the vocabulary, where any id may stand, since their ids leave gaps: to new
    tokens the library gives the ids behind its last. No text may lead to them.

    Raises:
        InvalidRequestError: the token is a word of its own, or in the vocabulary under another id.
    """
    for token in special_tokens:
        if token in vocabulary or len(words.pre_tokenize_str(token)) < 2:
            message = f"its special token {shown(token)} could come from a text"
            raise InvalidRequestError("tokenizer", message)
    return special_tokens


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    with library_faults("tokenizer", "its split pattern is none"):
        words = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _check(ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]) -> None:
    """Hold everything to its type and every id to its range: it comes from a file."""
    for tokens, kind in ((ranks, bytes), (special_tokens, str)):
        for token, rank in tokens.items():
            if type(token) is not kind or not token:
                raise InvalidRequestError("tokenizer", f"{shown(token)} is no token of {kind.__name__}")
            if type(rank) is not int or not 0 <= rank < MAX_VOCAB_SIZE:
                raise InvalidRequestError("tokenizer", f"the token {shown(token)} has the id {shown(rank)}")
    ids = sorted([*ranks.values(), *special_tokens.values()])
    twice = next((left for left, right in pairwise(ids) if left == right), None)
    if twice is not None:
        raise InvalidRequestError("tokenizer", f"two of its tokens have the id {twice}")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise InvalidRequestError(
            "tokenizer", f"has no token for {len(missing)} of the 256 bytes, 0x{missing[0]:02x} first"
        )
    longest = max(ranks, key=len)
    if len(longest) > _LONGEST_TOKEN:
        raise InvalidRequestError("tokenizer", f"has a token of {len(longest)} bytes")


_LONGEST_TOKEN = 1024  # bytes; of known vocabularies 128. Finding its parts takes the square of it


def _parts(ranks: Mapping[bytes, int], token: bytes) -> list[bytes]:
    """The token as merges of lower ranks leave it: two parts where a merge makes it."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        candidates = [ranks.get(left + right, MAX_VOCAB_SIZE) for left, right in pairwise(parts)]
        best = min(candidates)
        if best >= ranks[token]:
            break
        place = candidates.index(best)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _add(tokenizer: tokenizers.Tokenizer, special_tokens: Mapping[str, int]) -> None:
    """Give the tokenizer its special tokens, in the order of ids: it numbers what is new to it from its size
    on."""
    tokens = sorted(special_tokens, key=special_tokens.__getitem__)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    for token in tokens:
        found = tokenizer.token_to_id(token)
        if found != special_tokens[token]:
            message = f"its special token {shown(token)} has the id {special_tokens[token]}, not {found}"
            raise InvalidRequestError("tokenizer", message)
