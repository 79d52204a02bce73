"""Text sources, their errors, the split and the batches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pygpt.errors import InvalidRequestError
from pygpt.train.data import load_text, pieces, split, window_starts, windows


def test_a_file_is_read_without_mark_and_with_unix_lines(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\nline\rkept\n")
    assert load_text(file) == "naïve\nline\rkept\n"


def test_a_folder_is_its_text_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.md").write_text("third")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "a.TXT~").write_text("a backup")
    (tmp_path / "aa.rst").write_text("second")
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe\x00")
    assert load_text(str(tmp_path)) == "first\nsecond\nthird"


def test_python_docs_is_english_of_some_length() -> None:
    text = load_text("python-docs")
    assert len(text) > 100_000
    assert "statement" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"good \xff bad", r"byte 0xFF at offset 5"),
        ("é".encode("latin-1"), r"byte 0xE9 at offset 0 .*iconv"),
    ],
)
def test_I12_a_bad_file_is_refused_with_the_reason(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "text"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message) as caught:
        load_text(file)
    assert caught.value.param == "text"
    assert str(file) in str(caught.value)


def test_I12_a_folder_without_text_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(InvalidRequestError, match=r"no \.txt, .* below the folder"):
        load_text(tmp_path)


def test_the_last_tenth_is_held_back() -> None:
    train, validation = split(torch.arange(1000), 64)
    assert train.tolist() == list(range(900))
    assert validation.tolist() == list(range(900, 1000))


def test_of_a_large_text_less_than_a_tenth_is_held_back() -> None:
    ids = np.empty(100 << 20, np.uint8)  # never touched
    train, validation = split(ids, 64)
    assert (len(train), len(validation)) == (96 << 20, 4 << 20)


@pytest.mark.parametrize("length", [0, 1, 7, 70])
def test_I12_text_too_short_for_the_context_is_refused_with_the_length_needed(length: int) -> None:
    with pytest.raises(
        InvalidRequestError, match=rf"{length} tokens are too few for a context of 7.*least 71 "
    ):
        split(torch.arange(length), 7)
    split(torch.arange(71), 7)


def test_a_shorter_context_is_advised_where_there_is_one() -> None:
    with pytest.raises(InvalidRequestError, match=r"at least 71 tokens, or a context_length of at most 6$"):
        split(torch.arange(70), 7)
    with pytest.raises(InvalidRequestError, match=r"at least 71 tokens$"):
        split(torch.arange(10), 7)


def test_I12_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidRequestError, match="neither a file nor a folder"):
            load_text(source)


@pytest.mark.parametrize("size", [3, 4, 7, 64, 1 << 20])
@pytest.mark.parametrize("content", ["naïve\r\nzwei\r\n\r\ndrei", "ohne Zeilen: äöü€𝄞" * 9, "\r\r\nx\r"])
def test_pieces_of_any_size_are_the_whole_text(tmp_path: Path, content: str, size: int) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\xef\xbb\xbf" + content.encode())
    parts = list(pieces(file, size))
    assert "".join(parts) == content.replace("\r\n", "\n")
    assert all(parts)


def test_I12_a_byte_that_is_no_text_is_found_at_its_offset_in_any_piece(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"a line\n" * 10 + b"bad: \xff")
    with pytest.raises(InvalidRequestError, match="0xFF at offset 75"):
        list(pieces(file, 16))


def test_a_batch_is_windows_and_their_successors() -> None:
    ids = torch.arange(100, 120)
    x, y = windows(ids, window_starts(20, 4, 500, 1, 0), 4)
    assert x.shape == y.shape == (500, 4)
    assert torch.equal(y, x + 1)
    assert torch.equal(x, x[:, :1] + torch.arange(4))
    assert x.min() == 100  # the first window occurs,
    assert y.max() == 119  # and the last


def test_windows_are_the_same_of_a_tensor_and_of_small_integers() -> None:
    starts = window_starts(99, 8, 4, 3, 7)
    of_tensor, _ = windows(torch.arange(99), starts, 8)
    of_array, _ = windows(np.arange(99, dtype=np.uint16), starts, 8)
    assert torch.equal(of_tensor, of_array)
    assert of_array.dtype == torch.int64


def test_where_windows_begin_follows_from_seed_and_step() -> None:
    def starts(seed: int, step: int) -> list[int]:
        return window_starts(1000, 8, 4, seed, step).tolist()

    assert starts(1, 5) == starts(1, 5)
    assert starts(1, 5) != starts(1, 6)
    assert starts(1, 5) != starts(2, 5)
    assert starts(5, 1) != starts(1, 5)
