"""Model files that no exporter writes, made by bending a good one.

After each bend the header's checksum is made right again, so that the check that should see the fault is the
one that does. A case is an entry of CASES: the row of the project's table of bad files, what is bent, the
`code` that must come of it, and how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pygpt import _core

MOST = 2**63 - 1


@dataclass
class Parts:
    """A model file: its header's lines without `end`, and its data."""

    lines: list[str]
    data: bytes
    encoding: str = field(default="latin-1")  # a character is a byte

    @classmethod
    def of(cls, file: bytes) -> Parts:
        """The parts of a good file."""
        end = file.index(b"\nend ") + 1
        header = end + len("end 01234567\n")
        return cls(file[: end - 1].decode("latin-1").split("\n"), file[-(-header // 64) * 64 :])

    def text(self) -> bytes:
        """The header above its last line."""
        return "".join(f"{line}\n" for line in self.lines).encode(self.encoding)

    def bytes(self) -> bytes:
        """The file, with a header checksum that is right."""
        header = self.text() + b"end %08x\n" % _core.crc32c(self.text())
        return header.ljust(-(-len(header) // 64) * 64, b"\0") + self.data

    def place(self, beginning: str) -> int:
        """The index of the line that begins with these words."""
        return next(i for i, line in enumerate(self.lines) if f"{line} ".startswith(f"{beginning} "))

    def words(self, beginning: str) -> list[str]:
        return self.lines[self.place(beginning)].split(" ")

    def replaced(self, beginning: str, line: str) -> bytes:
        self.lines[self.place(beginning)] = line
        return self.bytes()

    def with_word(self, beginning: str, index: int, word: object) -> bytes:
        words = self.words(beginning)
        words[index] = str(word)
        return self.replaced(beginning, " ".join(words))

    def inserted(self, before: str, *lines: str) -> bytes:
        place = self.place(before)
        self.lines[place:place] = lines
        return self.bytes()

    def without(self, beginning: str) -> bytes:
        del self.lines[self.place(beginning)]
        return self.bytes()


Bend = Callable[[Parts], bytes]
Case = tuple[str, str, str, Bend]  # row, what, code, how

WPE, LAST = "tensor wpe", "tensor head.bias"


def word(beginning: str, index: int, value: object) -> Bend:
    return lambda parts: parts.with_word(beginning, index, value)


def instead(beginning: str, line: str) -> Bend:
    return lambda parts: parts.replaced(beginning, line)


def before(beginning: str, *lines: str) -> Bend:
    return lambda parts: parts.inserted(beginning, *lines)


def moved(beginning: str, by: int) -> Bend:
    """The section's offset, shifted."""
    index = 2 if beginning.startswith("blob") else 5
    return lambda parts: parts.with_word(beginning, index, int(parts.words(beginning)[index]) + by)


def other_format(*beginning: bytes) -> list[Bend]:
    return [lambda parts, start=start: start + parts.bytes()[100:] for start in beginning]


def with_end(end: bytes) -> Bend:
    """The file with another last line of its header."""

    def bend(parts: Parts) -> bytes:
        header = parts.text() + end
        return header.ljust(-(-len(header) // 64) * 64, b"\0") + parts.data

    return bend


def rows_and_cols(rows: int, cols: int) -> Bend:
    def bend(parts: Parts) -> bytes:
        parts.with_word(WPE, 3, rows)
        return parts.with_word(WPE, 4, cols)

    return bend


def swapped(a: str, b: str) -> Bend:
    def bend(parts: Parts) -> bytes:
        i, j = parts.place(a), parts.place(b)
        parts.lines[i], parts.lines[j] = parts.lines[j], parts.lines[i]
        return parts.bytes()

    return bend


def cut_and_consistent(parts: Parts) -> bytes:
    """One byte less than the header says."""
    parts.data = parts.data[:-1]
    return parts.bytes()


def padded_with(byte: bytes) -> Bend:
    """One byte of the padding behind the header, or behind the first blob, is not zero."""

    def bend(parts: Parts) -> bytes:
        end = int(parts.words("blob")[2]) + int(parts.words("blob")[3])
        assert end % 64, "the blob ends on a boundary: choose another"
        parts.data = parts.data[:end] + byte + parts.data[end + 1 :]
        return parts.bytes()

    return bend


def _cases() -> list[Case]:
    cases: list[Case] = []

    def add(row: str, code: str, **bends: Bend) -> None:
        cases.extend((row, what, code, bend) for what, bend in bends.items())

    def each(row: str, code: str, what: str, values: list[str], bend: Callable[[str], Bend]) -> None:
        cases.extend((row, f"{what}={value[:30]}", code, bend(value)) for value in values)

    add("A1", "too_short", empty=lambda _: b"")
    add(
        "A3",
        "length_mismatch",
        one_byte=lambda p: p.bytes() + b"x",
        zeros=lambda p: p.bytes() + bytes(1 << 20),
    )
    add("A5", "invalid_header", crlf=lambda p: p.bytes().replace(b"\n", b"\r\n"))
    each(
        "A6",
        "unsupported_version",
        "version",
        ["0", "2", "65535", str(MOST)],
        lambda v: instead("pygpt 1", f"pygpt {v}"),
    )
    each(
        "A6",
        "invalid_header",
        "version",
        ["01", "-1", "1.0", "one", "1 2"],
        lambda v: instead("pygpt 1", f"pygpt {v}"),
    )

    for place in ("config n_layer", "config d_ff", "blob tokenizer.json", "tensor wte", LAST):
        add("A7", "invalid_header", **{f"unknown_line_before_{place}": before(place, "surprise 1 2")})
    add(
        "A7",
        "invalid_config",
        unknown_key=before("config d_ff", "config n_experts 8"),
        repeated_key=before("config d_ff", "config d_model 24"),
        missing_key=lambda p: p.without("config d_ff"),
        first_key_missing=lambda p: p.without("config n_layer"),
        last_key_missing=lambda p: p.without("config stop_tokens"),
        out_of_order=swapped("config d_ff", "config d_model"),
    )
    add(
        "A7",
        "invalid_header",
        config_after_its_group=before("tensor wte", "config n_layer 2"),
        default_after_its_group=before("tensor wte", "default top_p 0.5"),
        blob_after_its_group=before(WPE, "blob chat.json 0 0 00000000"),
        second_first_line=before("config n_layer", "pygpt 1"),
        unknown_default=before("blob tokenizer.json", "default heat 1"),
        repeated_default=before("blob tokenizer.json", "default top_k 1", "default top_k 1"),
        impossible_default=before("blob tokenizer.json", "default top_p 0"),
        unknown_blob=before("blob provenance.json", "blob secrets 0 0 00000000"),
        repeated_blob=before("blob provenance.json", "blob tokenizer.json 0 0 00000000"),
        two_words=instead("config d_ff", "config d_ff"),
        four_words=instead("config d_ff", "config d_ff 96 1"),
    )

    add(
        "A8",
        "invalid_header",
        no_end=lambda p: (
            p.text() + b"".join(b"tensor x%06d f16 1 1 0 2 00000000\n" % i for i in range(40_000))
        ),
        long_line=before("tensor wte", "x" * 512),
        long_first_line=lambda p: b"pygpt 1" + b"1" * 600 + p.bytes(),
        end_without_checksum=with_end(b"end\n"),
        end_with_more=with_end(b"end 00000000 1\n"),
    )
    add("A8", "truncated", mid_line=lambda p: p.text()[:-5])
    add(
        "A8",
        "checksum",
        wrong=with_end(b"end 00000000\n"),
        upper_case=with_end(b"end ABCDEF01\n"),
        short=with_end(b"end 12\n"),
    )

    bad_lines = [
        "default\ttop_k 1", " default top_k 1", "default top_k 1 ", "default  top_k 1", "default top\0_k 1",
        "default top_k \xe9", "default top_k 1\x7f", "",
    ]  # fmt: skip
    each("A9", "invalid_header", "line", bad_lines, lambda v: before("blob tokenizer.json", v))
    add("A9", "invalid_header", byte_order_mark=lambda p: b"\xef\xbb\xbf" + p.bytes())
    numbers = ["064", "+64", "6e1", "nan", "0x40", "-64", "64.0", "", str(MOST + 1)]
    for index, what in ((5, "offset"), (6, "bytes")):
        each("A9", "invalid_header", what, [n for n in numbers if n], lambda v, i=index: word(WPE, i, v))
    each("A9", "invalid_config", "config", [*numbers[:6], str(MOST + 1)], lambda v: word("config d_ff", 2, v))
    each("A9", "invalid_header", "checksum", ["ABCDEF01", "1234567", "0x123456"], lambda v: word(WPE, 7, v))

    wraps = [(2**32, 2**32), (2**42 + 1, 2**22), (MOST, 2), (MOST, MOST)]
    cases.extend(("A11", f"{r}x{c}", "size_overflow", rows_and_cols(r, c)) for r, c in wraps)
    for value in (MOST, MOST - 63, MOST - 127):
        cases.append(("A12", f"tensor_at={value}", "size_overflow", word(WPE, 5, value)))
        cases.append(("A12", f"blob_at={value}", "size_overflow", word("blob tokenizer.json", 2, value)))
    for value in (MOST, MOST - 63):
        cases.append(("A13", f"blob_of={value}", "size_overflow", word("blob tokenizer.json", 3, value)))
    dimensions = ["0", "-1", "1.5", "12a", "+8", "08", "8 1 1 1", str(MOST + 1)]
    each("A14", "invalid_shape", "rows", dimensions, lambda v: word(WPE, 3, v))
    each("A14", "invalid_shape", "cols", dimensions, lambda v: word(WPE, 4, v))
    add("A14", "invalid_shape", not_the_configs=word(WPE, 3, 9), config_changed=word("config d_ff", 2, 97))
    add("A14", "invalid_header", a_million=word(WPE, 3, "1 " * 1_000_000 + "1"))

    add(
        "A15",
        "overlap",
        overlapping=moved(WPE, -64),
        identical=word("blob provenance.json", 2, 0),
        descending=word(WPE, 5, 0),
    )
    add("A15", "tensor_set", order=swapped("tensor wte", WPE))
    add(
        "A16",
        "hole",
        gap=moved(WPE, 64),
        wide_gap=moved(WPE, 1 << 20),
        before_the_first=moved("blob tokenizer.json", 64),
    )
    add("A16", "hole", not_zero=padded_with(b"P"))
    add("A17", "misaligned", by_1=moved(WPE, 1), by_63=moved(WPE, 63), by_minus_1=moved(WPE, -1))
    add("A18", "truncated", one_byte=cut_and_consistent, a_tebibyte=word("blob tokenizer.json", 3, 1 << 40))

    each(
        "A19", "invalid_dtype", "format", ["f64", "F16", "fp16", "int8", "q4_pure"], lambda v: word(WPE, 2, v)
    )
    each("A19", "invalid_dtype", "table", ["q8", "q4"], lambda v: word(WPE, 2, v))
    add(
        "A19",
        "invalid_dtype",
        vector=word("tensor ln_f.gain", 2, "f16"),
        bytes=word("tensor ln_f.gain", 2, "q8"),
    )
    add(
        "A19",
        "size_mismatch",
        other_format=word(WPE, 2, "f32"),
        matrix_in_bytes=word("tensor h.0.mlp.up", 2, "q8"),
        matrix_in_half_bytes=word("tensor h.0.mlp.up", 2, "q4"),
        size=word(LAST, 6, 45),
        none=word(LAST, 6, 0),
    )

    add(
        "A20",
        "tensor_set",
        missing=lambda p: p.without(WPE),
        extra=before("tensor ln_f.gain", "tensor extra f32 1 1 0 4 00000000"),
        duplicate=before("tensor ln_f.gain", "tensor wpe f32 1 1 0 4 00000000"),
        renamed=word("tensor wte", 1, "wte.weight"),
    )

    sizes = [
        "n_layer",
        "n_head",
        "head_dim",
        "d_model",
        "d_ff",
        "context_length",
        "vocab_size",
        "padded_vocab_size",
    ]
    for key in sizes:
        values = ["-1", "1.5", "1000000000", str(MOST), "none"]
        values += ["0"] if key != "n_layer" else []  # a bigram has no layers
        each("A21", "invalid_config", key, values, lambda v, k=key: word(f"config {k}", 2, v))
    lies = {
        "norm": ["batch_norm", "none"], "position": ["rotary", "absolute"], "activation": ["swish", "ReLU"],
        "tied_head": ["1", "True"], "norm_epsilon": ["-1", "2", "1e-5", "nan"],
        "attention_scale": ["0", "-1", "1001", "inf"], "padded_vocab_size": ["10"],
        "start_token": ["11", "-1", "x"], "stop_tokens": ["11", "1,,2", "1,", "0," * 16 + "0"],
    }  # fmt: skip
    for key, values in lies.items():
        each("A21", "invalid_config", key, values, lambda v, k=key: word(f"config {k}", 2, v))
    # Lines that may be left out: what their absence means, what contradicts another line, a wrong place.
    extra = {
        ("head_dim", "n_kv_head"): ["2", "3", "4", "0", "-1", "none", str(MOST)],
        ("activation", "rope_theta"): ["10000", "0", "-1", "nan", "none"],
        ("attention_scale", "gate"): ["false", "1", "none"],
        ("d_model", "n_kv_head"): ["1"],
        ("activation", "rope_frequencies"): ["true", "false", "1"],
        ("activation", "rope_layers"): ["10", "1", "2", "none", "1" * 300],
        ("tied_head", "qk_norm"): ["after_rotary", "none", "rms_norm"],
        ("tied_head", "window"): [str(MOST), "0", "-1", "none", "16777216"],
        ("tied_head", "window_layers"): ["10", "1", "2"],
        ("start_token", "embedding_norm"): ["false", "1", "none"],
        ("start_token", "smear_width"): ["0", "-1", "none", "131072", str(MOST)],
        ("start_token", "layer_lambdas"): ["false", "yes"],
        ("start_token", "value_layers"): ["none", "1", "0", "2", "10"],
        ("start_token", "value_gate_width"): ["4", "0"],
        ("start_token", "value_gate_scale"): ["2", "0"],
        ("start_token", "backout_layer"): ["none", "-1", "4096", str(MOST)],
        ("start_token", "logit_cap"): ["0", "-1", "1e3", "nan", "none"],
    }
    for (next_key, key), values in extra.items():
        each(
            "A21",
            "invalid_config",
            f"{key} before {next_key}",
            values,
            lambda v, n=next_key, k=key: before(f"config {n}", f"config {k} {v}"),
        )
    # Lines that say something else than their absence, of tensors that are not these.
    for next_key, line in (("head_dim", "config n_kv_head 1"), ("attention_scale", "config gate true")):
        add("A17", "invalid_shape", **{line.split()[1]: before(f"config {next_key}", line)})
    add("A20", "tensor_set", qk_norm=before("config tied_head", "config qk_norm before_rotary"))
    # Of tensors that are not there.
    for line in ("embedding_norm true", "smear_width 4", "layer_lambdas true", "backout_layer 0"):
        add("A20", "tensor_set", **{line.split()[0]: before("config start_token", f"config {line}")})
    return cases


CASES = _cases()
