"""`pygpt.export` from end to end, on the real core."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pygpt
from pygpt import _core, fidelity
from pygpt.checkpoints.base import Options
from pygpt.dtypes import DTYPES
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.exporter import export, export_with_report
from pygpt.file import Contents, write
from pygpt.model import Model
from pygpt.parity import ParityError, engine_logits, replay
from pygpt.tokenizer import Tokenizer

CHARS = "\n abcdefghijklmnopqrstuvwxyz"
TOKENIZER = Tokenizer.from_characters(CHARS)


def make(seed: int = 0, **changes: Any) -> Model:
    torch.manual_seed(seed)
    model = Model(**({"context_length": 12, "d_model": 36, "h": 3, "n_layers": 2, "n_vocab": 28} | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_engine_computes_what_the_module_does(dtype: str, tmp_path: Path) -> None:
    model = make()
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype=dtype, tokenizer=TOKENIZER)
    assert path == tmp_path / "m.pygpt"
    file = _core.ModelFile(str(path), verify="full")
    ids = list(range(12))
    with torch.no_grad():
        theirs = model(torch.tensor([ids]))[0].numpy()
    ours, _ = engine_logits(file, ids)
    tolerance = {"f32": 1e-6, "f16": 2e-3, "bf16": 2e-2, "q8": 0.06, "q4": 0.25, "q4_pure": 0.25}[dtype]
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def test_the_report_tells_the_format_s_loss_from_the_engine_s_error(tmp_path: Path) -> None:
    done = export_with_report(make(), tmp_path / "m.pygpt", "bf16", Options(tokenizer=TOKENIZER))
    assert done.report is not None
    assert done.report.passed
    assert done.report.method == "the original PyTorch module in float64"
    assert done.report.stored.max_rel < 1e-5 < done.report.original.max_rel


@pytest.mark.parametrize(
    ("dtype", "tied", "stored"),
    [
        ("q8", False, {"q8"}),
        ("q8", True, {"q8"}),
        ("q4", False, {"q4", "q8"}),
        ("q4", True, {"q4", "q8"}),
        ("q4_pure", False, {"q4"}),
        ("q4_pure", True, {"q4"}),
    ],
)
def test_matrices_are_quantised_tables_are_f16_and_q4_is_a_mixture(
    dtype: str, tied: bool, stored: set[str], tmp_path: Path
) -> None:
    model = make(tie_weights=tied)
    done = export_with_report(model, tmp_path / "m.pygpt", dtype, Options(tokenizer=TOKENIZER))
    assert done.dtype == dtype
    assert done.report is not None
    assert done.report.passed
    assert done.report.dtype == dtype
    tensors = _core.ModelFile(str(tmp_path / "m.pygpt")).tensors
    assert {each.format for each in tensors if each.kind == "table"} == {"f16"}
    assert {each.format for each in tensors if each.kind == "matrix"} == stored
    assert [each.name for each in tensors if each.format == "q8"] == (
        [] if dtype == "q4_pure" else
        [each.name for each in tensors if each.kind == "matrix"] if dtype == "q8" else
        ["wte", "h.0.mlp.down", "h.1.mlp.down"] if tied else ["h.0.mlp.down", "h.1.mlp.down", "head"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.float32, "f16"), (torch.float16, "f16"), (torch.bfloat16, "bf16"), (torch.float64, "f16")],
)
def test_auto_is_bf16_for_bf16_and_f16_for_the_rest(dtype: torch.dtype, stored: str, tmp_path: Path) -> None:
    export(make().to(dtype), tmp_path / "m.pygpt", tokenizer=TOKENIZER)
    formats = {tensor.format for tensor in _core.ModelFile(str(tmp_path / "m.pygpt")).tensors}
    assert formats == {stored, "f32"}  # f32: the vectors


def test_the_file_lies_beside_its_source(tmp_path: Path) -> None:
    torch.save(make().state_dict(), tmp_path / "model.v1.pt")
    options: dict[str, Any] = {"n_head": 3, "tokenizer": TOKENIZER}
    assert export(tmp_path / "model.v1.pt", **options) == tmp_path / "model.v1.pygpt"
    (tmp_path / "run.1").mkdir()
    (tmp_path / "model.v1.pt").rename(tmp_path / "run.1" / "model.pt")
    assert export(str(tmp_path / "run.1"), **options) == tmp_path / "run.1.pygpt"
    with pytest.raises(InvalidRequestError, match="path"):
        export(make())


def test_what_to_know_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no tokenizer"):
        export(make(), tmp_path / "m.pygpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(make(), tmp_path / "m.pygpt", tokenizer=TOKENIZER)


def test_the_blobs_say_where_the_model_comes_from(tmp_path: Path) -> None:
    torch.save(make().bfloat16().state_dict(), tmp_path / "secret-directory.pt")
    (tmp_path / "t.json").write_text(TOKENIZER.to_json(), "utf-8")
    export(tmp_path / "secret-directory.pt", n_head=3, tokenizer=tmp_path / "t.json")
    file = _core.ModelFile(str(tmp_path / "secret-directory.pygpt"))
    facts = json.loads(file.blob("provenance.json"))
    assert facts["family"] == "pygpt"
    assert facts["source"] == "secret-directory.pt"
    assert facts["dtype"] == "bf16"
    assert facts["library"].startswith("pygpt ")
    assert str(tmp_path).encode() not in (tmp_path / "secret-directory.pygpt").read_bytes()
    assert Tokenizer.from_json(file.blob("tokenizer.json").decode()).encode("ab") == [2, 3]


@pytest.mark.parametrize("dtype", ["auto", *DTYPES])
def test_B13_exporting_twice_gives_the_same_bytes(dtype: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.save(make().state_dict(), tmp_path / name / "model.pt")
        export(tmp_path / name / "model.pt", n_head=3, tokenizer=TOKENIZER, dtype=dtype)
    first, second = ((tmp_path / name / "model.pygpt").read_bytes() for name in ("a", "b"))
    assert first == second


def test_A29_an_engine_keeps_its_file_when_it_is_exported_over(tmp_path: Path) -> None:
    export(make(0), tmp_path / "m.pygpt", tokenizer=TOKENIZER)
    file = _core.ModelFile(str(tmp_path / "m.pygpt"))
    before, _ = engine_logits(file, [1, 2, 3])
    export(make(1), tmp_path / "m.pygpt", tokenizer=TOKENIZER)
    after, _ = engine_logits(file, [1, 2, 3])
    np.testing.assert_array_equal(before, after)
    new, _ = engine_logits(_core.ModelFile(str(tmp_path / "m.pygpt")), [1, 2, 3])
    assert np.abs(new - before).max() > 1e-3


@pytest.mark.parametrize("dtype", ["q8_0", "int8", "f8", "", "F16", "q8_pure"])
def test_a_dtype_that_is_not_there_is_an_error_that_lists_those_that_are(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"auto, f32, f16, bf16, q8, q4, q4_pure$") as caught:
        export(make(), tmp_path / "m.pygpt", dtype=dtype)
    assert caught.value.param == "dtype"


def test_a_value_beyond_f16_names_the_tensor_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "m.pygpt").write_bytes(b"old")
    model = make()
    with torch.no_grad():
        model.blocks[1].ffn.up.weight[5, 6] = 1e5
    with pytest.raises(InvalidRequestError, match=r"h\.1\.mlp\.up.*bf16"):
        export(model, tmp_path / "m.pygpt", dtype="f16")
    assert (tmp_path / "m.pygpt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.pygpt"]


def test_A24_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.blocks[0].attn.proj.weight[0, 0] = float("nan")
    with pytest.raises(ModelFileError, match="NaN or infinity") as caught:
        export(model, tmp_path / "m.pygpt", dtype="f32")
    assert caught.value.section == "blocks.0.attn.proj.weight"
    assert os.listdir(tmp_path) == []


def test_a_module_that_computes_something_else_is_not_exported(tmp_path: Path) -> None:
    model = make()
    model.blocks[1].ffn.activation = torch.tanh
    with pytest.raises(ParityError, match="something else than its family"):
        export(model, tmp_path / "m.pygpt")
    assert os.listdir(tmp_path) == []


def test_a_module_that_does_not_run_in_float64_is_answered_for_by_the_reference(tmp_path: Path) -> None:
    model = make()
    model.forward = lambda _: 1 / 0  # type: ignore[method-assign,assignment]
    done = export_with_report(model, tmp_path / "m.pygpt", "f32", Options(tokenizer=TOKENIZER))
    assert done.report is not None
    assert "ZeroDivisionError" in done.report.method


def test_an_export_whose_replay_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(make(0), tmp_path / "m.pygpt", tokenizer=TOKENIZER)
    old = (tmp_path / "m.pygpt").read_bytes()

    def wrong(*args: Any, **kwargs: Any) -> Any:
        """The engine's logits with one of them off."""
        logits, info = engine_logits(*args, **kwargs)
        logits[-1, logits[-1].argmax()] += 0.1
        return logits, info

    monkeypatch.setattr("pygpt.parity.engine_logits", wrong)
    with pytest.raises(ParityError, match=r"was not written.*every block agrees") as caught:
        export(make(1), tmp_path / "m.pygpt", tokenizer=TOKENIZER)
    assert caught.value.report is not None
    assert not caught.value.report.stored.passed
    assert (tmp_path / "m.pygpt").read_bytes() == old
    assert os.listdir(tmp_path) == ["m.pygpt"]


def test_a_tensor_that_changes_on_its_way_to_the_file_is_traced_to_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaging(path: Path, contents: Contents, progress: Any = None) -> None:
        def weights(name: str) -> np.ndarray:
            return contents.weights(name) * np.float32(1.5 if name == "h.1.attn.qkv" else 1)

        write(path, replace(contents, weights=weights), progress)

    monkeypatch.setattr("pygpt.exporter.write", damaging)
    message = r"not what was exported.*h\.1 is the first block whose output differs: 0\.\d+ of .* budget of 0"
    with pytest.raises(ParityError, match=message):
        export(make(), tmp_path / "m.pygpt", dtype="f32", tokenizer=TOKENIZER)
    assert os.listdir(tmp_path) == []


def test_a_block_that_overflows_in_the_engine_is_named(tmp_path: Path) -> None:
    """What float64 computes and binary32 cannot."""
    model = make()
    block = model.get_submodule("blocks.1")
    with torch.no_grad():
        block.get_parameter("ln_2.weight").mul_(1e6)
        block.get_parameter("ffn.up.weight").mul_(1e37)
        block.get_parameter("ffn.down.weight").mul_(1e-36)
    with pytest.raises(ParityError, match=r"not finite; h\.1 is the first block whose output is not finite"):
        export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer=TOKENIZER)
    assert os.listdir(tmp_path) == []


def test_a_format_that_loses_too_much_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pygpt.parity.UNIT_ROUNDOFF", {"f32": 2.0**-24, "f16": 0.0, "bf16": 1e-9})
    with pytest.raises(ParityError, match=r'bf16 loses too much.*Use dtype="f32"'):
        export(make(), tmp_path / "m.pygpt", dtype="bf16", tokenizer=TOKENIZER)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["q8", "q4"])
def test_a_dtype_of_bytes_that_loses_too_much_is_refused(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pygpt.parity.QUANTISATION_NOISE", {"q8": -0.01, "q4": -0.01})
    with pytest.raises(ParityError, match=rf'{dtype} loses too much.*Use dtype="f32"'):
        export(make(), tmp_path / "m.pygpt", dtype=dtype, tokenizer=TOKENIZER)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["q8", "q4"])
def test_an_outlier_that_cannot_be_quantised_names_the_tensor(dtype: str, tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.blocks[1].ffn.up.weight[5, 6] = 4e6
    with pytest.raises(InvalidRequestError, match=r"h\.1\.mlp\.up.*bf16"):
        export(model, tmp_path / "m.pygpt", dtype=dtype)
    assert os.listdir(tmp_path) == []


def test_verify_false_writes_known_answers_but_does_not_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "replay", lambda *_: pytest.fail("it replayed"))
    export(make(), tmp_path / "m.pygpt", tokenizer=TOKENIZER, verify=False)
    report = replay(_core.ModelFile(str(tmp_path / "m.pygpt")))
    assert report is not None
    assert report.passed


def test_a_checkpoint_is_never_replaced_by_its_export(tmp_path: Path) -> None:
    torch.save(make().state_dict(), tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(InvalidRequestError, match="the checkpoint itself"):
        export(tmp_path / "model.pt", tmp_path / "model.pt", n_head=3)
    assert (tmp_path / "model.pt").read_bytes() == before


def test_a_source_that_is_missing_says_so_first(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere/model\.pt"):
        export(tmp_path / "nowhere" / "model.pt")


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    news: list[tuple[str, int, int]] = []
    export(make(), tmp_path / "m.pygpt", tokenizer=TOKENIZER, progress=lambda *what: news.append(what))
    assert {what for what, _, _ in news} == {"known answers", "writing"}
    assert news[-1][1] == news[-1][2] > 0


def test_B8_ctrl_c_leaves_the_old_file(tmp_path: Path) -> None:
    save_file(make().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "model.pygpt").write_bytes(b"old")
    code = """
import sys, time, pygpt
sys.modules["torch"] = None  # not needed, and slow to import
def slow(what, done, total):
    if what == "writing":
        print("writing", flush=True)
        time.sleep(0.02)
pygpt.export(sys.argv[1], n_head=3, progress=slow)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.safetensors")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT  # Python's way of dying of KeyboardInterrupt
    assert (tmp_path / "model.pygpt").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["model.pygpt", "model.safetensors"]


@pytest.mark.parametrize("seed", range(20))
def test_f32_is_within_1e_4_of_pytorch_on_odd_shapes(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    heads, head_dim = int(rng.integers(1, 5)), int(rng.integers(16, 81))
    model = make(
        seed,
        context_length=int(rng.integers(7, 301)),
        d_model=heads * head_dim,
        h=heads,
        n_layers=int(rng.integers(1, 3)),
        n_vocab=int(rng.integers(11, 5001)) if seed % 4 == 0 else int(rng.integers(11, 300)),
        activation=("relu", "gelu", "gelu_tanh")[seed % 3],
        bias=bool(seed % 2),
        tie_weights=bool(seed // 2 % 2),
    )
    path = export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer="none")
    T, V = model.config.context_length, model.config.n_vocab  # noqa: N806
    ids = rng.integers(0, V, T).tolist()
    with torch.no_grad():
        theirs = model(torch.tensor([ids]))[0].numpy()
    ours, _ = engine_logits(_core.ModelFile(str(path)), ids)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def training_directory(path: Path) -> Path:
    """A training directory with every file that export reads."""
    from pygpt.train import checkpoint

    path.mkdir()
    model = make()
    checkpoint.save_description(path, model.config, TOKENIZER)
    checkpoint.save_weights(path, model)
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}", "utf-8")
    (path / "chat.json").write_text("{}", "utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "chat.json"]
)
def test_no_file_that_export_reads_from_a_directory_is_replaced(name: str, tmp_path: Path) -> None:
    run = training_directory(tmp_path / "run")
    before = (run / name).read_bytes()
    with pytest.raises(InvalidRequestError, match=f"{name} is read by this export") as caught:
        export(run, run / name)
    assert caught.value.param == "path"
    assert (run / name).read_bytes() == before


@pytest.mark.parametrize("option", ["text", "meta", "tokenizer"])
def test_no_file_that_an_option_names_is_replaced(option: str, tmp_path: Path) -> None:
    torch.save(make().state_dict(), tmp_path / "model.pt")
    given = tmp_path / "given"
    characters = dict(enumerate(CHARS))
    content = {
        "text": CHARS.encode(),
        "meta": pickle.dumps({"itos": characters}),
        "tokenizer": TOKENIZER.to_json().encode(),
    }[option]
    given.write_bytes(content)
    (tmp_path / "link.pygpt").hardlink_to(given)
    with pytest.raises(InvalidRequestError, match="is read by this export"):
        export(tmp_path / "model.pt", tmp_path / "link.pygpt", n_head=3, **{option: str(given)})
    assert given.read_bytes() == content


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-6])
def test_a_head_that_was_initialised_to_zero_is_no_failure(scale: float, dtype: str, tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.head.weight.mul_(scale)
        assert model.head.bias is not None
        model.head.bias.mul_(scale)
    done = export_with_report(model, tmp_path / "m.pygpt", dtype, Options(tokenizer=TOKENIZER))
    assert done.report is not None
    assert done.report.passed


@pytest.mark.parametrize(
    ("name", "content", "section"),
    [
        ("chat.json", "{garbage", "blob chat.json"),
        ("chat.json", "[]", "blob chat.json"),
        ("chat_template.jinja", "{% if", "blob chat_template.jinja"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_chat_that_cannot_be_opened_is_not_exported(
    name: str, content: str, section: str, verify: bool, tmp_path: Path
) -> None:
    run = training_directory(tmp_path / "run")
    (run / name).write_text(content, "utf-8")
    with pytest.raises(ModelFileError) as caught:
        export(run, tmp_path / "m.pygpt", verify=verify)
    assert caught.value.section == section
    assert caught.value.path == str(run)
    assert ".tmp-" not in str(caught.value)
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("value", [0, -4, 1025, "3", 3.0, True, [3]], ids=str)
def test_a_number_of_heads_that_is_none_is_named(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="must be an integer from 1 to 1024") as caught:
        export(make().state_dict(), tmp_path / "m.pygpt", n_head=value, tokenizer=TOKENIZER)
    assert caught.value.param == "n_head"


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="5 heads do not divide a width of 36") as caught:
        export(make().state_dict(), tmp_path / "m.pygpt", n_head=5, tokenizer=TOKENIZER)
    assert caught.value.param == "n_head"


def test_an_integer_of_numpy_will_do_for_the_heads(tmp_path: Path) -> None:
    heads: Any = np.int64(3)
    assert export(make().state_dict(), tmp_path / "m.pygpt", n_head=heads, tokenizer=TOKENIZER).is_file()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("chars", [1, 2]),
        ("chars", 5),
        ("chars", b"ab"),
        ("chars", {"a", "b"}),
        ("text", 5),
        ("text", b"input.txt"),
        ("text", "/"),
        ("text", "."),
        ("meta", 5),
        ("meta", b"meta.pkl"),
        ("tokenizer", b"t.json"),
        ("attention_scale", 5),
        ("attention_scale", ["head"]),
    ],
    ids=str,
)
def test_an_option_of_another_type_is_named(option: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        export(make().state_dict(), tmp_path / "m.pygpt", n_head=3, **{option: value})
    assert caught.value.param == option


@pytest.mark.parametrize("path", [5, b"m.pygpt", "a\0b", ""], ids=str)
def test_a_target_that_is_no_path_is_named(path: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        export(make(), path, tokenizer=TOKENIZER)
    assert caught.value.param == "path"


def test_logits_beyond_binary32_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    with pytest.raises(ParityError, match="not finite"):
        export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer=TOKENIZER, verify=False)
    assert os.listdir(tmp_path) == []


def test_parity_error_is_importable_from_the_top() -> None:
    assert pygpt.ParityError is ParityError
    assert "ParityError" in pygpt.__all__


@pytest.mark.parametrize("defaults", [{"temperature": -1}, {"top_p": 1.5}, {"top_k": -5}], ids=str)
def test_defaults_that_no_request_may_have_are_not_exported(
    defaults: dict[str, float], tmp_path: Path
) -> None:
    run = training_directory(tmp_path / "run")
    config = json.loads((run / "config.json").read_text("utf-8"))
    (run / "config.json").write_text(json.dumps(config | {"defaults": defaults}), "utf-8")
    with pytest.raises(ModelFileError, match=f"{next(iter(defaults))} is ") as caught:
        export(run, tmp_path / "m.pygpt")
    assert caught.value.path == str(run)
    assert ".tmp-" not in str(caught.value)
    assert os.listdir(tmp_path) == ["run"]
