"""What a checkpoint does not record, asked of a text."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "checkpoints"))
from families import GPTLanguageModel, LectureConfig, NanoGPT, NanoGPTConfig, randomise
from nanochat import Config, random_nanochat, save_nanochat

import pygpt
from pygpt.calibration import settle
from pygpt.checkpoints.base import Options, Unrecorded
from pygpt.checkpoints.recognise import read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError
from pygpt.exporter import export_with_report

CHARS = "abcdefghijklmnopqrstuvwxyz"


def lecture(scale: str) -> GPTLanguageModel:
    """A model whose text shows which scale it was sampled with: scores of attention are large."""
    model = GPTLanguageModel(
        LectureConfig(vocab_size=len(CHARS), n_embd=32, n_head=4, n_layer=1, scale=scale)
    )
    randomise(model)
    with torch.no_grad():
        for head in model.blocks[0].sa.heads:
            head.query.weight.mul_(3)
        model.blocks[0].sa.proj.weight.mul_(3)
        model.lm_head.weight.mul_(2)
    return model


def text_by(model: torch.nn.Module, path: Path, context: int) -> str:
    """Text sampled from the model, a full context and the token behind it at a time: random weights, unlike
    trained ones, know well at which position a text began."""
    pygpt.export(model, path, dtype="f32", chars=CHARS, attention_scale=_scale(model), verify=False)
    with pygpt.Engine(path) as engine:
        texts = []
        for i in range(40):
            start = CHARS[i % len(CHARS)]
            outs = engine.generate(start, n=8, max_tokens=context, seed=i, temperature=1.0)
            texts += [start + out.text for out in outs]
        return "".join(texts)


def _scale(model: torch.nn.Module) -> str | None:
    """ "width" for the lecture's code as the video shows it."""
    if not isinstance(model, GPTLanguageModel):
        return None
    return "width" if model.blocks[0].sa.heads[0].scale == 32**-0.5 else "head"


@pytest.mark.parametrize("scale", ["head", "width"])
def test_the_text_of_a_model_tells_its_scale(scale: str, tmp_path: Path) -> None:
    model = lecture(scale)
    text = text_by(model, tmp_path / "m.pygpt", 13)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    options = Options(chars=CHARS, calibrate=text)
    done = export_with_report(tmp_path / "model.pt", tmp_path / "c.pygpt", "f32", options)
    assert done.notes == ()
    assert f"attention_scale is {scale} by the text" in done.assumptions[0]
    assert "standard error" in done.assumptions[0]
    expected = (8 if scale == "head" else 32) ** -0.5
    with pygpt.Engine(tmp_path / "c.pygpt") as engine:
        assert engine.info["config"]["attention_scale"] == pytest.approx(expected)
        assert engine.info["provenance"]["calibrated"]["attention_scale"] == scale


@pytest.mark.parametrize(("gen", "cap"), [("g3a", 15), ("g3b", 20)])
def test_the_text_of_a_nanochat_tells_its_soft_cap(gen: str, cap: int, tmp_path: Path) -> None:
    config = Config(sequence_len=17, vocab_size=len(CHARS), n_layer=1)
    model = random_nanochat(gen, config, rows=32)
    with torch.no_grad():  # only the last token matters much, so that every run may go on where one ended
        model.transformer["h"][0].attn.c_proj.weight.mul_(0.1)
        model.lm_head.weight.mul_(4)  # far into the bend
    source = save_nanochat(model, tmp_path / "d1")
    path = pygpt.export(source, tmp_path / "m.pygpt", dtype="f32", chars=CHARS, nanochat_gen=gen)
    text = "a"
    with pygpt.Engine(path) as engine:
        for i in range(300):
            text += engine.generate(text[-1], max_tokens=16, seed=i, temperature=1.0).text
    options = Options(chars=CHARS, calibrate=text)
    done = export_with_report(source, tmp_path / "c.pygpt", "f32", options)
    assert f"logit_cap is {cap} ({gen}) by the text" in done.assumptions[0]
    with pygpt.Engine(tmp_path / "c.pygpt") as engine:
        assert engine.info["config"]["logit_cap"] == cap
        assert engine.info["provenance"]["generation"] == "g3a or g3b"
        assert engine.info["provenance"]["calibrated"]["logit_cap"] == f"{cap} ({gen})"


def test_a_nanochat_of_another_generation_has_nothing_to_calibrate(tmp_path: Path) -> None:
    source = save_nanochat(random_nanochat("g4", Config(vocab_size=len(CHARS)), rows=32), tmp_path / "d3")
    assert read(source, Options(chars=CHARS, calibrate="abc")).unrecorded == ()


def test_a_text_that_tells_nothing_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = NanoGPT(NanoGPTConfig(vocab_size=len(CHARS)))
    randomise(model)
    torch.save({"model": model.state_dict(), "model_args": vars(model.config)}, tmp_path / "ckpt.pt")
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog".replace(" ", "") * 30)
    arguments = ["--chars", CHARS, "--calibrate", str(tmp_path / "text.txt")]
    assert main(["export", str(tmp_path / "ckpt.pt"), *arguments]) == 2
    assert "does not tell activation" in capsys.readouterr().err
    assert not (tmp_path / "ckpt.pygpt").exists()


def test_the_variant_that_the_model_was_sampled_with_wins_whatever_the_default(tmp_path: Path) -> None:
    model = NanoGPT(NanoGPTConfig(vocab_size=len(CHARS), n_layer=1))
    randomise(model)
    with torch.no_grad():
        model.transformer["h"][0].mlp.c_proj.weight.mul_(5)
        model.lm_head.weight.mul_(2)
    text = text_by(model, tmp_path / "m.pygpt", 17)
    imported = read(model, Options(chars=CHARS))
    for names in (("relu", "gelu", "silu"), ("gelu", "silu", "relu")):
        asked = Unrecorded("activation", {name: {"activation": name} for name in names})
        settled = settle(replace(imported, unrecorded=(asked,)), text)
        assert settled.architecture.activation == "gelu"


def test_without_a_text_the_default_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = NanoGPT(NanoGPTConfig())
    torch.save({"model": model.state_dict(), "model_args": vars(model.config)}, tmp_path / "ckpt.pt")
    assert main(["export", str(tmp_path / "ckpt.pt"), "--tokenizer", "none"]) == 0
    said = capsys.readouterr().err
    assert "does not record its activation: taken as gelu" in said
    assert "gelu_tanh" in said
    with pygpt.Engine(tmp_path / "ckpt.pygpt") as engine:
        assert engine.info["provenance"]["assumed"] == {"activation": "gelu"}


def test_where_everything_is_recorded_a_text_decides_nothing() -> None:
    model = lecture("head")
    imported = read(model, Options(chars=CHARS, attention_scale="head"))
    assert "nothing to calibrate" in settle(imported, "abc").assumptions[0]
    assert settle(imported, None).assumptions == ()


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("abc", {"chars": CHARS}, "at least 40"),
        ("ABC" * 100, {"chars": CHARS}, "calibrate"),
        ("abc" * 100, {"tokenizer": "none"}, "tokenizer"),
        ("missing.txt", {"chars": CHARS}, "no file"),
    ],
)
def test_a_text_that_cannot_be_used_is_an_error_that_says_why(
    text: str, options: dict[str, str], says: str
) -> None:
    imported = read(lecture("head"), Options(**options))
    with pytest.raises(InvalidRequestError, match=says) as caught:
        settle(imported, text)
    assert caught.value.param == "calibrate"
