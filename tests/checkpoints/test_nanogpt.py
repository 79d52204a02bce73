"""nanoGPT checkpoints: every logit equals an independent PyTorch forward; what is recorded is kept."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import NanoGPT, NanoGPTConfig, all_logits, prefixed, randomise

from pygpt.checkpoints.base import Imported, Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.reference import forward
from pygpt.tokenizer import Tokenizer

IDS_ONLY = Options(tokenizer="none")
CHARS = "\n !abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def make(config: NanoGPTConfig, **kwargs: bool) -> NanoGPT:
    model = NanoGPT(config, **kwargs)
    randomise(model)
    return model


def save(path: Path, model: NanoGPT, /, *, prefix: str = "", **changes: Any) -> Path:
    """A ckpt.pt as train.py writes it."""
    checkpoint = {
        "model": prefixed(model.state_dict(), prefix),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]},
        "model_args": asdict(model.config),
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.5),
        "config": {"dataset": "shakespeare_char", "out_dir": "out", "compile": True},
    }
    torch.save(checkpoint | changes, path)
    return path


def save_meta(path: Path, chars: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {
        "vocab_size": len(chars),
        "itos": dict(enumerate(chars)),
        "stoi": {c: i for i, c in enumerate(chars)},
    }
    path.write_bytes(pickle.dumps(meta))


def assert_same_logits(imported: Imported, model: NanoGPT, ids: list[int]) -> None:
    a = imported.architecture
    ours = forward(a, lambda name: imported.tensors[name](), ids).logits
    theirs = all_logits(model, ids).numpy()
    # The scale of attention is all that is rounded (to binary64); the rest is the order of additions.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * len(ids) * np.abs(theirs).max())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        NanoGPTConfig(),
        NanoGPTConfig(n_layer=3, n_head=5, n_embd=80, block_size=7, bias=True, vocab_size=211),
        NanoGPTConfig(n_layer=1, n_head=1, n_embd=17, block_size=33, bias=True, vocab_size=11),
        NanoGPTConfig(n_layer=2, n_head=2, n_embd=34, block_size=1, bias=False, vocab_size=1),
    ],
    ids=str,
)
def test_every_logit_equals_that_of_nanogpt(config: NanoGPTConfig, tied: bool, tmp_path: Path) -> None:
    model = make(config, tied=tied)
    imported = read(save(tmp_path / "ckpt.pt", model), IDS_ONLY)
    ids = [i * 7 % config.vocab_size for i in range(config.block_size)]
    assert imported.architecture.tied_head is tied
    assert_same_logits(imported, model, ids)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."])
def test_B11_prefixes_of_compile_and_ddp_are_stripped(prefix: str, tmp_path: Path) -> None:
    model = make(NanoGPTConfig(bias=True))
    imported = read(save(tmp_path / "ckpt.pt", model, prefix=prefix), IDS_ONLY)
    assert_same_logits(imported, model, [1, 2, 3])


def test_B11_a_causal_mask_is_not_taken_for_a_bias(tmp_path: Path) -> None:
    for bias in (True, False):
        model = make(NanoGPTConfig(bias=bias), mask=True)
        imported = read(save(tmp_path / "ckpt.pt", model), IDS_ONLY)
        assert imported.architecture.qkv_bias is bias
        assert_same_logits(imported, model, [1, 2, 3])


def test_B11_a_head_that_is_a_copy_of_the_embedding_is_stored_once(tmp_path: Path) -> None:
    model = make(NanoGPTConfig())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    imported = read(save(tmp_path / "ckpt.pt", model, model=state), IDS_ONLY)
    assert imported.architecture.tied_head
    assert "head" not in imported.tensors


def test_biases_are_on_where_an_early_checkpoint_does_not_say(tmp_path: Path) -> None:
    model = make(NanoGPTConfig(bias=True))
    args = asdict(model.config)
    del args["bias"]
    imported = read(save(tmp_path / "ckpt.pt", model, model_args=args), IDS_ONLY)
    assert_same_logits(imported, model, [4, 5])
    assert any("2023-01-27" in note for note in imported.notes)


def test_the_family_s_sampling_defaults_and_facts_are_kept(tmp_path: Path) -> None:
    save_meta(tmp_path / "meta.pkl", CHARS)
    imported = read(save(tmp_path / "ckpt.pt", make(NanoGPTConfig())), Options())
    assert imported.defaults == {"temperature": 0.8, "top_k": 200, "top_k_ties": True}
    facts = {"family": "nanogpt", "iter_num": 250, "best_val_loss": 1.5, "dataset": "shakespeare_char"}
    assert imported.provenance == facts
    assert imported.architecture.start_token == 0  # the line feed, as sample.py starts
    assert imported.architecture.stop_tokens == ()


@pytest.mark.parametrize(
    "place", ["out/meta.pkl", "data/shakespeare_char/meta.pkl", "work/data/shakespeare_char/meta.pkl"]
)
def test_meta_pkl_is_found_where_nanogpt_puts_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work" if place.startswith("work") else tmp_path)
    save_meta(tmp_path / place, CHARS)
    imported = read(save(tmp_path / "out" / "ckpt.pt", make(NanoGPTConfig())), Options())
    assert imported.tokenizer is not None
    assert imported.tokenizer.encode("\n !ab") == [0, 1, 2, 3, 4]


def test_a_vocabulary_that_is_nowhere_is_an_error_that_says_where_it_looked(tmp_path: Path) -> None:
    path = save(tmp_path / "ckpt.pt", make(NanoGPTConfig()))
    with pytest.raises(InvalidRequestError, match=r"looked for .*meta\.pkl.*text=") as caught:
        read(path, Options())
    assert caught.value.param == "meta"


def test_a_dataset_name_cannot_lead_out_of_the_data_directory(tmp_path: Path) -> None:
    save_meta(tmp_path / "secret" / "meta.pkl", CHARS)
    path = save(tmp_path / "ckpt.pt", make(NanoGPTConfig()), config={"dataset": "../secret"})
    with pytest.raises(InvalidRequestError, match="meta"):
        read(path, Options())


def test_the_files_of_a_tokenizer_beside_the_checkpoint_are_read(tmp_path: Path) -> None:
    """As elsewhere, and with padded rows; a meta.pkl and what is given go first."""
    beside = Tokenizer.from_characters(CHARS[::-1])
    (tmp_path / "tokenizer.json").write_text(beside.to_json(), "utf-8")
    model = make(NanoGPTConfig(vocab_size=len(CHARS) + 3))
    path = save(tmp_path / "ckpt.pt", model)
    imported = read(path, Options())
    assert imported.tokenizer is not None
    assert imported.tokenizer.encode("ab") == beside.encode("ab")
    assert imported.architecture.vocab_size == len(CHARS)
    assert imported.architecture.padded_vocab_size == len(CHARS) + 3
    assert tmp_path / "tokenizer.json" in imported.files
    assert read(path, IDS_ONLY).tokenizer is None
    save_meta(tmp_path / "meta.pkl", CHARS + "äöü")
    first = read(path, Options()).tokenizer
    assert first is not None
    assert first.encode("ä") == [len(CHARS)]


def test_B9_a_meta_pkl_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": Evil()}))
    with pytest.raises(ModelFileError, match="only plain containers"):
        read(save(tmp_path / "ckpt.pt", make(NanoGPTConfig())), Options())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"garbage", pickle.dumps([1]), pickle.dumps({"itos": {0: "ab"}})]
)
def test_a_damaged_meta_pkl_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"meta\.pkl"):
        read(save(tmp_path / "ckpt.pt", make(NanoGPTConfig())), Options())


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "ckpt.pt", make(NanoGPTConfig()))
    for options in (
        Options(text="abc"),
        Options(chars=CHARS + "?"),
        Options(tokenizer=Tokenizer.from_text(CHARS + "?")),
    ):
        with pytest.raises(ModelFileError, match="65") as caught:
            read(path, options)
        assert caught.value.code == "wrong_vocabulary"


def test_A25_padding_is_not_sampled_and_a_missing_tokenizer_is_said(
    tmp_path: Path,
) -> None:
    model = make(NanoGPTConfig(n_layer=1, n_head=1, n_embd=4, vocab_size=50304, block_size=3))
    imported = read(save(tmp_path / "ckpt.pt", model), Options())
    a = imported.architecture
    assert (a.vocab_size, a.padded_vocab_size, a.start_token, a.stop_tokens) == (50257, 50304, 198, (50256,))
    assert imported.tokenizer is None
    assert any("no tokenizer" in note for note in imported.notes)


def test_a_bare_state_dict_needs_the_number_of_heads(tmp_path: Path) -> None:
    model = make(NanoGPTConfig(bias=True))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InvalidRequestError) as caught:
        read(tmp_path / "model.pt", IDS_ONLY)
    assert caught.value.param == "n_head"
    assert_same_logits(read(tmp_path / "model.pt", Options(tokenizer="none", n_head=3)), model, [1, 2, 3])
    assert_same_logits(
        read(model.float().state_dict(), Options(tokenizer="none", n_head=3)), model, [1, 2, 3]
    )
    with pytest.raises(InvalidRequestError, match="do not divide"):
        read(tmp_path / "model.pt", Options(tokenizer="none", n_head=5))


def test_heads_that_contradict_the_checkpoint_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "ckpt.pt", make(NanoGPTConfig()))
    with pytest.raises(InvalidRequestError, match="has 3 heads"):
        read(path, Options(tokenizer="none", n_head=6))
    with pytest.raises(InvalidRequestError, match="attention_scale"):
        read(path, Options(tokenizer="none", attention_scale="width"))


def test_a_live_module_is_read_and_answers_for_itself() -> None:
    model = make(NanoGPTConfig(bias=True))
    imported = read(model, IDS_ONLY)
    assert imported.original_logits is not None
    logits = imported.original_logits([3, 1, 4, 1, 5])
    np.testing.assert_array_equal(logits, all_logits(model, [3, 1, 4, 1, 5]).numpy())


def test_A20_missing_and_unexpected_tensors_are_named() -> None:
    model = make(NanoGPTConfig(n_layer=3))
    state = dict(model.state_dict())
    dropped = [name for name in state if ".mlp." in name]
    with pytest.raises(ModelFileError, match=r"transformer\.h\.0\.mlp\.c_fc\.weight.* and 1 more"):
        read(
            {name: state[name] for name in state if name not in dropped}, Options(tokenizer="none", n_head=3)
        )
    with pytest.raises(ModelFileError, match=r"transformer\.h\.1\.lora\.weight"):
        read(state | {"transformer.h.1.lora.weight": torch.zeros(3)}, Options(tokenizer="none", n_head=3))


def test_B11_a_wrong_shape_is_named_with_both_shapes() -> None:
    state = dict(make(NanoGPTConfig()).state_dict())
    state["transformer.h.1.mlp.c_fc.weight"] = torch.zeros(192, 47)
    with pytest.raises(ModelFileError, match=r"\[192, 48\], found \[192, 47\]") as caught:
        read(state, Options(tokenizer="none", n_head=3))
    assert caught.value.section == "transformer.h.1.mlp.c_fc.weight"


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_json_cannot_write_is_null(loss: float, tmp_path: Path) -> None:
    path = save(tmp_path / "ckpt.pt", make(NanoGPTConfig()), best_val_loss=torch.tensor(loss), iter_num=loss)
    facts = read(path, IDS_ONLY).provenance
    assert facts["best_val_loss"] is None
    assert "iter_num" not in facts
