"""Which family a checkpoint is of: what is said of each, and of what is none."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import GPTLanguageModel, LectureConfig, NanoGPT, NanoGPTConfig, prefixed
from gpt2 import GPT2Config, GPT2LMHeadModel, save_gpt2

from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import FAMILIES, read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError

GIVEN = Options(tokenizer="none", n_head=3)


def test_every_family_says_how_it_is_recognised_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["export", "--list-families"])
    assert leaving.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for family in FAMILIES:
        assert family.told_by, family.title
        assert family.beside, family.title
        assert family.title in out.splitlines()
    assert max(map(len, out.splitlines())) <= 110
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text("utf-8")
    for family in FAMILIES:
        assert f"| {family.title} |" in page


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "module.module._orig_mod.",
        "_orig_mod._orig_mod.", "module._fsdp_wrapped_module.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_B11_prefixes_in_any_order_and_repetition_are_stripped(prefix: str, wrapper: str) -> None:
    lecture = GPTLanguageModel(LectureConfig()).state_dict()
    gpt2 = GPT2LMHeadModel(GPT2Config(n_head=3)).state_dict()
    for state, family in ((lecture, "lecture"), (gpt2, "hf_gpt2")):
        assert read({wrapper: prefixed(state, prefix)}, GIVEN).provenance["family"] == family


@pytest.mark.parametrize("gen", ["g3a", "g9"])
def test_a_generation_of_nanochat_is_refused_where_the_family_has_none(gen: str) -> None:
    options = replace(GIVEN, nanochat_gen=gen)
    for module in (GPTLanguageModel(LectureConfig()), NanoGPT(NanoGPTConfig())):
        with pytest.raises(InvalidRequestError, match="is for nanochat's own checkpoints") as caught:
            read(module.state_dict(), options)
        assert caught.value.param == "nanochat_gen"


def test_the_nearest_family_is_told_by_likeness_of_names() -> None:
    state = NanoGPT(NanoGPTConfig()).state_dict()
    renamed = {
        name.replace("c_attn", "qkv_attn").replace("wte", "tok"): value for name, value in state.items()
    }
    with pytest.raises(ModelFileError) as caught:
        read(renamed, GIVEN)
    said = str(caught.value)
    assert "nearest is nanoGPT" in said
    assert "transformer.h.*.attn.c_attn.weight (is it transformer.h.*.attn.qkv_attn.weight?)" in said
    assert "--list-families" in said


def test_names_without_end_are_compared_in_a_moment(tmp_path: Path) -> None:
    state = {
        f"layer_{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}.{'x' * 5000}{i}.w": torch.zeros(1)
        for i in range(600)
    }
    torch.save(state, tmp_path / "m.pt")
    start = time.process_time()
    with pytest.raises(ModelFileError, match="nearest") as caught:
        read(tmp_path / "m.pt", GIVEN)
    assert time.process_time() - start < 10  # it takes one second; without its limits minutes
    assert len(str(caught.value)) < 3000
    deep = {"a." * 20_000 + "w": torch.zeros(1)}
    with pytest.raises(ModelFileError, match="nearest"):
        read(deep, GIVEN)


def test_B13_a_checkpoint_exported_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = NanoGPT(NanoGPTConfig())
    torch.save({"model": model.state_dict(), "model_args": vars(model.config)}, tmp_path / "ckpt.pt")
    files = [tmp_path / name for name in ("one.pygpt", "two.pygpt")]
    for file in files:
        assert main(["export", str(tmp_path / "ckpt.pt"), "-o", str(file), "--tokenizer", "none"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (
        main(["export", str(files[0]), "-o", str(tmp_path / "three.pygpt")]) == 3
    )  # a model file is no checkpoint


class _Runs:
    """Pickles as a call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("place", ["model", "config", "model_args", "top"])
def test_B9_the_command_refuses_a_pickle_with_code_and_writes_nothing(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = _Runs(tmp_path / "ran")
    held = {"model": dict(NanoGPT(NanoGPTConfig()).state_dict()), "model_args": {}, "config": {}}
    if place == "model":
        held["model"]["transformer.wte.weight"] = evil
    elif place != "top":
        held[place] = evil
    torch.save(evil if place == "top" else held, tmp_path / "m.pt")
    assert main(["export", str(tmp_path / "m.pt"), "--tokenizer", "none"]) == 3
    assert "run its code" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


MEASURED = """
import resource, sys
sys.modules["torch"] = None  # safetensors are read without it
from pygpt.checkpoints.base import Options
import pygpt.calibration, pygpt.checkpoints.recognise, pygpt.fidelity
from pygpt.exporter import export_with_report
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export_with_report(sys.argv[1], sys.argv[2], "f16", Options(tokenizer="none"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_B14_an_export_needs_no_more_memory_than_its_source_and_one_tensor(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=12, n_embd=384, n_head=6, n_inner=None, vocab_size=501, n_positions=32)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    save_gpt2(model, tmp_path / "m")
    source = (tmp_path / "m" / "model.safetensors").stat().st_size
    largest = 4 * 4 * 384 * 384
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "m"), str(tmp_path / "m.pygpt")],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < source + largest


def test_a_state_dict_without_any_family_s_names_says_what_it_lacks() -> None:
    with pytest.raises(ModelFileError, match="missing: ") as caught:
        read({"encoder.weight": torch.zeros(2, 2), "decoder.weight": torch.zeros(2, 2)}, Options())
    assert caught.value.code == "unknown_family"
