"""The writer of model files, read back with a parser written from docs/format.md alone, and by the C++."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from pygpt import _core
from pygpt.architecture import IMPLIED, Architecture, format_value
from pygpt.dtypes import DTYPES, tensor_format
from pygpt.errors import Error, InvalidRequestError, ModelFileError
from pygpt.file import Contents, write

SMALL = Architecture(
    n_layer=2,
    n_head=3,
    head_dim=10,
    d_model=30,
    d_ff=37,
    context_length=7,
    vocab_size=19,
    padded_vocab_size=21,
    activation="gelu",
    attention_scale=10**-0.5,
    tied_head=False,
    qkv_bias=True,
    proj_bias=True,
    mlp_bias=True,
    norm_bias=True,
    head_bias=True,
    start_token=3,
    stop_tokens=(1, 2),
)


def contents(a: Architecture = SMALL, dtype: str = "f32", seed: int = 0) -> Contents:
    rng = np.random.default_rng(seed)
    specs = _core.tensor_specs(a.to_config())
    weights = {name: rng.standard_normal((rows, cols), np.float32) for name, _, rows, cols in specs}
    defaults = {"top_k_ties": True, "temperature": 0.8, "top_k": 200}
    blobs = {"provenance.json": b'{"family": "test"}', "tokenizer.json": b"x" * 65, "chat.json": b""}
    return Contents(architecture=a, dtype=dtype, weights=weights.__getitem__, defaults=defaults, blobs=blobs)


def written(path: Path, what: Contents) -> bytes:
    path.touch()
    write(path, what)
    return path.read_bytes()


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4: reflected polynomial 0x82F63B78, bit by bit by table."""
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def aligned(n: int) -> int:
    return (n + 63) // 64 * 64


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_file_is_what_docs_format_md_says(dtype: str, tmp_path: Path) -> None:
    what = contents(dtype=dtype)
    data = written(tmp_path / "m.pygpt", what)
    end = data.index(b"\nend ") + 1
    lines = data[:end].decode("ascii").split("\n")[:-1]
    assert data[end : end + 13] == f"end {crc32c(data[:end]):08x}\n".encode()
    assert lines[0] == "pygpt 1"
    words = [line.split(" ") for line in lines[1:]]
    keys = [field.name for field in fields(Architecture) if field.name not in IMPLIED]
    assert [w[1] for w in words if w[0] == "config"] == keys
    defaults = ["default temperature 0.8", "default top_k 200", "default top_k_ties true"]
    assert [line for line in lines if line.startswith("default")] == defaults
    assert [w[1] for w in words if w[0] == "blob"] == ["tokenizer.json", "chat.json", "provenance.json"]
    specs = [(w[1], int(w[3]), int(w[4])) for w in words if w[0] == "tensor"]
    assert specs == [(name, rows, cols) for name, _, rows, cols in _core.tensor_specs(SMALL.to_config())]
    kinds = {name: kind for name, kind, _, _ in _core.tensor_specs(SMALL.to_config())}
    for word in (w for w in words if w[0] == "tensor"):
        assert word[2] == tensor_format(dtype, word[1], kinds[word[1]])
    order = [w[0] for w in words]
    assert order == sorted(order, key=["config", "default", "blob", "tensor"].index)

    start = aligned(end + 13)
    assert not any(data[end + 13 : start])
    position = 0
    for kind, name, *rest in (w for w in words if w[0] in ("blob", "tensor")):
        offset, size, crc = int(rest[-3]), int(rest[-2]), rest[-1]
        assert offset == aligned(position)
        assert not any(data[start + position : start + offset])
        part = data[start + offset : start + offset + size]
        assert crc == f"{crc32c(part):08x}"
        if kind == "blob":
            assert part == what.blobs[name]
        elif int(rest[1]) == 1:  # a vector: f32, as it is
            assert rest[0] == "f32"
            np.testing.assert_array_equal(np.frombuffer(part, "<f4"), what.weights(name)[0])
        position = offset + size
    assert len(data) == start + position


def test_panels_lie_as_the_table_of_formats_says(tmp_path: Path) -> None:
    what = contents(dtype="f32")
    written(tmp_path / "m.pygpt", what)
    info = next(t for t in _core.ModelFile(str(tmp_path / "m.pygpt")).tensors if t.name == "h.0.mlp.up")
    data = (tmp_path / "m.pygpt").read_bytes()
    start = aligned(data.index(b"\nend ") + 14)
    panels = np.frombuffer(data[start + info.offset :][: info.bytes], "<f4").reshape(
        3, 30, 16
    )  # 37 rows, [k][16]
    rows = panels.transpose(0, 2, 1).reshape(48, 30)
    np.testing.assert_array_equal(rows[:37], what.weights("h.0.mlp.up"))
    assert not rows[37:].any()


def test_the_core_reads_back_what_was_written(tmp_path: Path) -> None:
    what = contents()
    written(tmp_path / "m.pygpt", what)
    file = _core.ModelFile(str(tmp_path / "m.pygpt"), verify="full")
    assert Architecture.from_config(file.config).to_config() == SMALL.to_config()
    assert file.defaults == {"temperature": pytest.approx(0.8), "top_k": 200, "top_k_ties": True}
    assert file.blob("tokenizer.json") == b"x" * 65
    for tensor in file.tensors:
        np.testing.assert_array_equal(file.tensor(tensor.name), what.weights(tensor.name))


@pytest.mark.parametrize("dtype", DTYPES)
def test_B13_the_same_contents_give_the_same_bytes(dtype: str, tmp_path: Path) -> None:
    first = written(tmp_path / "a.pygpt", contents(dtype=dtype))
    assert written(tmp_path / "b.pygpt", contents(dtype=dtype)) == first


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_B15_reading_and_writing_again_gives_the_same_bytes(dtype: str, tmp_path: Path) -> None:
    first = written(tmp_path / "a.pygpt", contents(dtype=dtype))
    file = _core.ModelFile(str(tmp_path / "a.pygpt"))
    again = Contents(
        architecture=Architecture.from_config(file.config),
        dtype=dtype,
        weights=file.tensor,
        defaults=file.defaults,
        blobs={name: file.blob(name) for name in file.blobs},
    )
    assert written(tmp_path / "b.pygpt", again) == first


@pytest.mark.parametrize("dtype", DTYPES)
def test_B15_the_bytes_of_a_tensor_are_its_values(dtype: str, tmp_path: Path) -> None:
    written(tmp_path / "a.pygpt", contents(dtype=dtype))
    file = _core.ModelFile(str(tmp_path / "a.pygpt"))
    for tensor in file.tensors:
        kind = "vector" if tensor.rows == 1 and tensor.format == "f32" else tensor.kind
        back = _core.unpack(file.packed(tensor.name), kind, tensor.format, tensor.rows, tensor.cols)
        np.testing.assert_array_equal(back, file.tensor(tensor.name))
    with pytest.raises(Error, match=r"no tensor h\.99\.mlp\.up"):
        file.packed("h.99.mlp.up")


def test_B14_writing_needs_the_memory_of_a_tensor_not_of_the_model(tmp_path: Path) -> None:
    a = replace(SMALL, n_layer=24, d_ff=20_000)
    largest = 20_000 * 30 * 4
    (tmp_path / "m.pygpt").touch()
    weights = Contents(
        architecture=a,
        dtype="f32",
        weights=lambda name: np.zeros(shapes[name], np.float32),
    )
    shapes = {name: (rows, cols) for name, _, rows, cols in _core.tensor_specs(a.to_config())}
    tracemalloc.start()
    try:
        write(tmp_path / "m.pygpt", weights)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "m.pygpt").stat().st_size > 40 * largest
    assert peak < 4 * largest  # one as it is, one packed, and what lies around


def test_a_value_that_does_not_fit_names_the_tensor_and_the_way_out(tmp_path: Path) -> None:
    what = contents(dtype="f16")
    what.weights("h.1.mlp.down")[3, 4] = 70_000.0
    with pytest.raises(
        InvalidRequestError, match=r'h\.1\.mlp\.down has values of up to 70000.*dtype="bf16"'
    ) as caught:
        written(tmp_path / "m.pygpt", what)
    assert caught.value.param == "dtype"


@pytest.mark.parametrize("dtype", ["q8", "q4", "q4_pure"])
def test_a_value_that_cannot_be_quantised_names_the_tensor_and_the_way_out(
    dtype: str, tmp_path: Path
) -> None:
    what = contents(dtype=dtype)
    what.weights("h.1.attn.proj")[3, 4] = 4e6
    with pytest.raises(
        InvalidRequestError, match=r'h\.1\.attn\.proj has values of up to 4e\+06.*dtype="bf16"'
    ) as caught:
        written(tmp_path / "m.pygpt", what)
    assert caught.value.param == "dtype"


def test_an_impossible_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        written(tmp_path / "m.pygpt", replace(contents(), architecture=replace(SMALL, n_head=0)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "0.00001"),
        (1.0, "1"),
        (0.8, "0.8"),
        (64**-0.5, "0.125"),
        (1e-12, "0.000000000001"),
        (20**-0.5, "0.2236068"),
        (True, "true"),
        (False, "false"),
        (None, "none"),
        ((), "none"),
        ((50256, 0), "50256,0"),
        (7, "7"),
    ],
)
def test_values_are_written_without_exponents_and_as_short_as_binary32_allows(
    value: object, text: str
) -> None:
    assert format_value(value) == text  # type: ignore[arg-type]


def test_every_real_comes_back_as_the_same_binary32() -> None:
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal(2000)) * 10.0 ** rng.integers(-12, 3, 2000)
    for value in values:
        text = format_value(float(value))
        assert np.float32(float(text)) == np.float32(value)
        assert len(text) <= 64
        assert set(text) <= set("0123456789.")
