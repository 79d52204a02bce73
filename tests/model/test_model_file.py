"""Bad model files, row by row of the project's table: each is refused with its code, and none does harm."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import CASES, WPE, Bend, Parts, other_format
from odd_models import write_model

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.errors import ModelFileError, NumericalError, OutOfMemory
from pygpt.file import Contents, write

MAP = pytest.mark.parametrize("mmap", [True, False])
BENDS = pytest.mark.parametrize
Verify = str


def open_file(path: Path, mmap: bool = True, verify: Verify = "full") -> _core.ModelFile:
    return _core.ModelFile(str(path), mmap=mmap, verify=verify)  # type: ignore[arg-type]


def refused(path: Path, mmap: bool = True, verify: Verify = "full") -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        open_file(path, mmap, verify)
    assert caught.value.path == str(path)
    assert caught.value.section
    return caught.value


def rows(*names: str) -> pytest.MarkDecorator:
    """The cases of some rows of the corpus."""
    chosen = [case for case in CASES if case[0] in names]
    return pytest.mark.parametrize(
        ("code", "bend"), [case[2:] for case in chosen], ids=[f"{case[0]}-{case[1]}" for case in chosen]
    )


def check(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> ModelFileError:
    path = tmp_path / "bad.pygpt"
    path.write_bytes(bend(parts))
    for mmap in (True, False):
        for verify in ("header", "full"):
            error = refused(path, mmap, verify)
            assert error.code == code, str(error)
    return error


@rows("A1")
def test_A1_an_empty_file_is_too_short(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


def test_A2_a_file_cut_anywhere_is_refused(good: Path, parts: Parts, tmp_path: Path) -> None:
    whole = good.read_bytes()
    start = len(whole) - len(parts.data)
    bounds = [start + int(line.split()[5]) for line in parts.lines if line.startswith("tensor ")]
    lengths = {
        *range(start + 64),
        *(bound + shift for bound in bounds for shift in (-1, 0, 1)),
        len(whole) - 1,
    }
    path = tmp_path / "cut.pygpt"
    path.write_bytes(whole)
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        assert refused(path, length % 2 == 0).code == ("too_short" if length < 6 else "truncated"), length


@rows("A3")
def test_A3_bytes_behind_the_last_tensor_are_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


@BENDS(
    ("beginning", "says"),
    [
        (b"PK\x03\x04", "pygpt export"),
        (b"\x80\x02}q\x01", "pygpt export"),
        (b"\x80\x05\x95", "pickle"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x40\x01\0\0\0\0\0\0{", "safetensors"),
        (b"\x7fELF", "program"),
        (b"<!DOCTYPE html>", "web page"),
        (b"<!doctype html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"{}", "pygpt export"),
        (b"\0\0\0\0\0\0\0\0\0\0\0", "pygpt export"),
    ],
)
def test_A4_other_files_are_called_what_they_are(
    beginning: bytes, says: str, parts: Parts, tmp_path: Path
) -> None:
    error = check("not_a_pygpt_file", *other_format(beginning), parts, tmp_path)
    assert says in str(error)


@rows("A5")
def test_A5_a_file_damaged_by_text_mode_is_told_so(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    assert "damaged by text-mode transfer" in str(check(code, bend, parts, tmp_path))


@rows("A6")
def test_A6_another_version_is_refused_with_both_versions(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    error = check(code, bend, parts, tmp_path)
    if code == "unsupported_version":
        assert parts.lines[0].split()[1] in str(error)
        assert "reads version 1" in str(error)


@rows("A7")
def test_A7_an_unknown_misplaced_repeated_or_missing_line_is_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


def test_A7_the_error_names_the_line_and_the_version(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "bad.pygpt"
    place = parts.place(WPE)
    path.write_bytes(parts.inserted(WPE, "surprise 1 2"))
    error = refused(path)
    assert error.section == f"header line {place + 1}"
    assert error.offset == len("\n".join(parts.lines[:place])) + 1
    assert '"surprise" is unknown to version 1' in str(error)


@rows("A8")
def test_A8_the_caps_hold_and_the_end_line_is_checked(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


@rows("A9")
def test_A9_bytes_and_numbers_outside_the_grammar_are_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


@BENDS(
    "line",
    [
        "config n_layer 1",
        "default top_k 1",
        "blob chat.json 0 0 00000000",
        "tensor x f32 1 1 0 4 00000000",
        "x",
    ],
)
def test_A10_a_million_lines_cost_no_memory_and_no_time(line: str, parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "flood.pygpt"
    kept = [each for each in parts.lines if not each.startswith(line.split()[0])]
    kept = kept[: kept.index(next((e for e in kept if e.startswith("tensor ")), kept[-1]))]
    with path.open("w") as file:
        file.write("\n".join(kept) + "\n")
        for _ in range(1000):
            file.write(f"{line}\n" * 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)  # in some milliseconds, of a file of up to 30 MB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB


def test_A10_a_million_digits_and_a_long_name_are_refused(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "long.pygpt"
    path.write_bytes(parts.with_word(WPE, 5, "9" * 1_000_000))
    assert refused(path).code == "invalid_header"
    path.write_bytes(parts.with_word(WPE, 5, 0))
    path.write_bytes(parts.with_word("tensor wte", 1, "n" * 10_000))
    assert refused(path).code == "invalid_header"


@rows("A11")
def test_A11_a_product_that_wraps_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A12")
def test_A12_a_sum_that_wraps_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A13")
def test_A13_a_rounding_up_that_wraps_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A14")
def test_A14_an_impossible_shape_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A15")
def test_A15_sections_that_overlap_or_are_out_of_order_are_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


@rows("A16")
def test_A16_a_hole_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A17")
def test_A17_a_misaligned_offset_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A18")
def test_A18_a_section_past_the_end_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


@rows("A19")
def test_A19_an_unknown_format_or_a_wrong_size_is_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


@rows("A20")
def test_A20_missing_and_unexpected_tensors_are_refused(
    code: str, bend: Bend, parts: Parts, tmp_path: Path
) -> None:
    check(code, bend, parts, tmp_path)


def test_A20_the_first_five_names_are_listed_and_the_rest_is_counted(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "bad.pygpt"
    names = sorted(line.split()[1] for line in parts.lines if line.startswith("tensor h.1."))
    parts.lines = [line for line in parts.lines if not line.startswith("tensor h.1.")]
    path.write_bytes(parts.bytes())
    error = refused(path)
    assert f"missing: {', '.join(names[:5])}, ... ({len(names)} in all); unexpected: none" in str(error)
    path.write_bytes(parts.inserted("tensor ln_f.gain", "tensor wte.weight f32 1 1 0 4 00000000"))
    assert "unexpected: wte.weight" in str(refused(path))


@rows("A21")
def test_A21_a_config_that_lies_is_refused(code: str, bend: Bend, parts: Parts, tmp_path: Path) -> None:
    check(code, bend, parts, tmp_path)


def test_A22_a_cache_that_does_not_fit_is_refused_with_both_figures(tmp_path: Path) -> None:
    path = tmp_path / "wide.pygpt"
    write_model(
        path,
        n_layer=8,
        n_head=64,
        head_dim=1024,
        d_model=1,
        d_ff=1,
        context_length=1 << 20,
        vocab_size=2,
        biases=False,
    )
    with pytest.raises(OutOfMemory, match=r"needs 4194304 MiB .* available: pass a smaller max_context"):
        _core.Engine(open_file(path))
    engine = _core.Engine(open_file(path), max_context=32)
    assert engine.info["context_length"] == 32
    engine.close()


def test_A23_every_flipped_bit_is_detected(good: Path, parts: Parts, tmp_path: Path) -> None:
    """Each byte of the header and each section's first, middle and last byte, and 1000 others."""
    whole = good.read_bytes()
    start = len(whole) - len(parts.data)
    places = set(range(start)) | set(np.random.default_rng(0).integers(0, len(whole), 1000).tolist())
    for line in parts.lines:
        if line.startswith(("blob ", "tensor ")):
            offset, size = (int(word) for word in line.split()[-3:-1])
            places |= {start + offset + place for place in (0, size // 2, size - 1)}
    assert len(places) > 2000
    path = tmp_path / "flipped.pygpt"
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as file:
        for place in places:
            bit = 1 << place % 8
            os.pwrite(file.fileno(), bytes([whole[place] ^ bit]), place)
            refused(path, mmap=place % 3 == 0)
            if place < start:
                refused(path, verify="header")
            os.pwrite(file.fileno(), whole[place : place + 1], place)
    open_file(path)


def test_A23_flipped_weights_do_not_crash_an_engine(good: Path, parts: Parts, tmp_path: Path) -> None:
    whole = bytearray(good.read_bytes())
    start = len(whole) - len(parts.data)
    first = start + int(parts.words("tensor wte")[5])
    rng = np.random.default_rng(1)
    path = tmp_path / "flipped.pygpt"
    for _ in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(first, len(whole), 200):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        file = open_file(path, verify="off")
        with pytest.raises(ModelFileError, match="checksum"):
            file.verify()
        engine = _core.Engine(file, threads=2)
        ticket = engine.submit([_core.Request(prompt=[1, 2, 3], max_tokens=4)])
        events = ticket.poll(60, until_done=True)
        assert events[0].finish_reason in ("length", "error")
        engine.close()


@BENDS("value", [np.nan, np.inf, -np.inf, 3e38])
def test_A24_weights_that_give_no_number_are_a_numerical_error(value: float, tmp_path: Path) -> None:
    path = tmp_path / "nan.pygpt"
    write_model(path, change=lambda _name, weights: np.full_like(weights, value))
    engine = _core.Engine(open_file(path), threads=2)
    (event,) = engine.submit([_core.Request(prompt=[1, 2], max_tokens=5)]).poll(60, until_done=True)
    assert (event.finish_reason, event.error, event.token_ids) == ("error", "numerical", [])
    engine.close()
    with pygpt.Engine(path) as opened, pytest.raises(NumericalError):
        opened.generate([1, 2], max_tokens=5)


@BENDS("value", [1e-40, 0.0, 1e30])
def test_A24_weights_that_are_odd_but_finite_load(value: float, tmp_path: Path) -> None:
    path = tmp_path / "odd.pygpt"
    write_model(path, change=lambda name, weights: np.full_like(weights, value) if name == "wpe" else weights)
    engine = _core.Engine(open_file(path))
    (event,) = engine.submit([_core.Request(prompt=[1], max_tokens=5)]).poll(60, until_done=True)
    assert event.finish_reason == "length"
    engine.close()


def test_A25_ids_in_the_padding_of_the_vocabulary_are_never_sampled(tmp_path: Path) -> None:
    """The padded rows of the head are by far the likeliest, or no numbers at all."""
    for value in (1e4, np.nan):

        def change(name: str, weights: np.ndarray, value: float = value) -> np.ndarray:
            if name in ("head", "head.bias"):
                weights.reshape(-1, 13)[:, 11:] = value if name == "head.bias" else 0
            return weights

        path = tmp_path / "padded.pygpt"
        write_model(path, vocab_size=11, padded_vocab_size=13, change=change)
        engine = _core.Engine(open_file(path))
        asked = [
            _core.Request(prompt=[1], max_tokens=7, temperature=t, seed=s)
            for t in (0.0, 5.0)
            for s in range(20)
        ]
        for event in engine.submit(asked).poll(60, until_done=True):
            assert event.finish_reason == "length"
            assert all(0 <= token < 11 for token in event.token_ids)
        (event,) = engine.submit([_core.Request(prompt=[1], max_tokens=0, logits=True)]).poll(
            60, until_done=True
        )
        assert event.logits is not None
        assert event.logits.shape == (1, 11)
        engine.close()


def tokenizer_of(vocabulary: dict[str, int]) -> bytes:
    return pygpt.Tokenizer.from_characters(sorted(vocabulary, key=vocabulary.__getitem__)).to_json().encode()


def test_A25_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.pygpt"
    letters = {letter: i for i, letter in enumerate("abcdefghijkl")}
    write_model(path, vocab_size=12, blobs={"tokenizer.json": tokenizer_of(letters)})
    pygpt.Engine(path).close()
    write_model(path, vocab_size=11, padded_vocab_size=12, blobs={"tokenizer.json": tokenizer_of(letters)})
    with pytest.raises(ModelFileError) as caught:
        pygpt.Engine(path)
    assert caught.value.code == "invalid_tokenizer"


@BENDS(
    "blob",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"model": {}}',
        b"\xff\xfe",
        b"\0" * 100,
        b'{"version": "1.0", "model": {"type": "BPE"}}',
    ],
    ids=["empty", "torn", "null", "list", "no_model", "not_utf8", "zeros", "half"],
)
def test_A26_a_tokenizer_that_is_none_is_refused(blob: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pygpt"
    write_model(path, blobs={"tokenizer.json": blob})
    with pytest.raises(ModelFileError) as caught:
        pygpt.Engine(path)
    assert caught.value.code == "invalid_tokenizer"


@MAP
def test_A27_paths_that_are_no_file_are_clean_errors(
    mmap: bool, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero"), Path("/dev/full"), Path("/dev/null")):
        start = time.perf_counter()
        assert refused(path, mmap).code == "not_a_file"
        assert time.perf_counter() - start < 1
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        server.bind("socket")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("loop", "dangling", "missing", "socket", "x" * 5000):
        with pytest.raises(OSError, match=name[:4] if name != "x" * 5000 else "long") as caught:
            open_file(tmp_path / name, mmap)
        assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "missing", mmap)
    with pytest.raises(ValueError, match="NUL"):
        _core.ModelFile(f"{good}\0.txt")


@MAP
def test_A27_names_of_any_bytes_open(mmap: bool, good: Path, tmp_path: Path) -> None:
    for name in (b"new\nline", b"\xff\xfe", "gr\u00fc\u00dfe \U0001f98a".encode(), b" ", b"-v"):
        path = os.path.join(os.fsencode(tmp_path), name)
        shutil.copy(os.fsencode(good), path)
        file = _core.ModelFile(path, mmap=mmap, verify="full")
        assert file.path.encode("utf-8", "strict")
        _core.ModelFile(os.fsdecode(path), mmap=mmap)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_A27_a_file_without_permission_is_a_PermissionError(good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(good, tmp_path / "secret.pygpt"))
    path.chmod(0)
    with pytest.raises(PermissionError):
        open_file(path)


@MAP
def test_A28_a_file_that_was_read_may_be_truncated(mmap: bool, good: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(good, tmp_path / "model.pygpt"))
    file = open_file(path, mmap)  # small files are always read
    before = file.tensor("wte")
    os.truncate(path, 0)
    file.verify()
    np.testing.assert_array_equal(file.tensor("wte"), before)


def test_A28_truncating_a_mapped_file_is_the_documented_way_to_crash(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pygpt"
    path.touch()
    config = Architecture.from_config(open_file(good).config)
    large = replace(config, vocab_size=1, padded_vocab_size=(65 << 20) // 4 // config.d_model)
    shapes = {name: (rows, cols) for name, _, rows, cols in _core.tensor_specs(large.to_config())}
    contents = Contents(
        architecture=large, dtype="f32", weights=lambda name: np.zeros(shapes[name], np.float32)
    )
    write(path, contents)
    code = "import os, sys; from pygpt import _core; file = _core.ModelFile(sys.argv[1]); "
    code += "os.truncate(sys.argv[1], 0); file.verify()"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, capture_output=True, timeout=60
    )
    assert ended.returncode == -signal.SIGBUS


@MAP
def test_A29_replacing_an_open_file_changes_nothing_for_who_has_it(
    mmap: bool, good: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(good, tmp_path / "model.pygpt"))
    file = open_file(path, mmap)
    engine = _core.Engine(file, threads=1)
    asked = _core.Request(prompt=[1, 2], max_tokens=6, seed=4)

    def tokens() -> list[int]:
        return engine.submit([asked]).poll(60, until_done=True)[0].token_ids

    before = tokens()
    write_model(tmp_path / "other.pygpt", seed=9)
    os.replace(tmp_path / "other.pygpt", path)
    assert tokens() == before
    file.verify()
    assert open_file(path).config != file.config
    engine.close()


SHIM = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
/* Every read is short; by the environment every second is interrupted, or those past byte 100 fail. */
ssize_t pread(int descriptor, void* memory, size_t count, off_t offset) {
  static int calls = 0;
  const char* fault = getenv("FAULT");
  if (*fault == 'i' && calls++ % 2 == 0) { errno = EINTR; return -1; }
  if (*fault == 'e' && offset >= 100) { errno = EIO; return -1; }
  if (*fault == 'z' && offset >= 100) return 0;
  return syscall(SYS_pread64, descriptor, memory, count > 100 ? 100 : count, offset);
}
"""


@pytest.fixture(scope="module")
def read_with_faults(tmp_path_factory: pytest.TempPathFactory, good: Path) -> Callable[[str], str]:
    """Opens the good file in a process whose reads have a fault; returns what it prints."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler and Linux are needed to stand before the system's pread")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True, timeout=60
    )
    code = textwrap.dedent("""
        import sys
        from pygpt import _core, errors
        try:
            _core.ModelFile(sys.argv[1], mmap=False, verify="full")
            print("opened")
        except errors.ModelFileError as error:
            print(error.code, error.offset)
    """)

    def read(fault: str) -> str:
        environment = os.environ | {"LD_PRELOAD": str(folder / "shim.so"), "FAULT": fault}
        command = [sys.executable, "-c", code, str(good)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, env=environment
        ).stdout.strip()

    return read


@BENDS(
    ("fault", "says"),
    [("short", "opened"), ("interrupted", "opened"), ("eio", "unreadable 100"), ("zero", "truncated 100")],
)
def test_A30_short_and_interrupted_reads_go_on_and_a_failing_one_says_where(
    fault: str, says: str, read_with_faults: Callable[[str], str]
) -> None:
    assert read_with_faults(fault) == says


def test_A32_whoever_reads_a_file_refuses_it_for_the_same_reason(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.pygpt"
    start = good.read_bytes()
    for row, name, code, bend in CASES:
        path.write_bytes(bend(Parts.of(start)))
        assert refused(path).code == code, (row, name)
        with pytest.raises(ModelFileError) as caught:
            pygpt.Engine(path)
        assert caught.value.code == code, (row, name)
    pygpt.Engine(good).close()


def test_A34_no_check_is_left_out_of_a_release_build() -> None:
    source = Path(__file__).parents[2] / "csrc"
    for file in source.rglob("*"):
        if file.suffix in (".h", ".cpp", ".cu", ".cuh"):
            assert not re.search(
                r"(?<!static_)\bassert\s*\(|\bNDEBUG\b|<cassert>", file.read_text("utf-8")
            ), file


def test_a_good_file_says_what_it_holds(good: Path) -> None:
    file = open_file(good)
    assert file.config["n_layer"] == 2
    assert file.config["stop_tokens"] == []
    assert file.bytes == good.stat().st_size
    names = [tensor.name for tensor in file.tensors]
    assert names[:2] == ["wte", "wpe"]
    assert len(names) == 2 + 2 * 12 + 2 + 2
    for tensor in file.tensors:
        weights = file.tensor(tensor.name)
        assert weights.shape == (tensor.rows, tensor.cols)
        assert weights.dtype == np.float32
        assert np.isfinite(weights).all()
    with pytest.raises(KeyError):
        file.blob("chat.json")
    with pytest.raises(pygpt.Error, match="no tensor"):
        file.tensor("nothing")
