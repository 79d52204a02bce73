"""nanochat, every generation: every logit equal to an independent PyTorch forward, and what is refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_bits import asked, everything, run
from nanochat import GENERATIONS, Config, NanoChat, random_nanochat, save_nanochat, window
from small_tokenizers import PATTERNS, pickled, small_ranks

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Imported, Options
from pygpt.checkpoints.nanochat import SPECIAL_TOKENS
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise

# Of two generations the tensors are the same: those need to be told.
GIVEN = {name: name if name in ("g3a", "g3b") else None for name in GENERATIONS}
EVERY = pytest.mark.parametrize("name", GENERATIONS)
FIRST_AND_LAST = pytest.mark.parametrize("name", ["g1", "g5"])


def config_of(name: str) -> Config:
    """Windows came with the second generation."""
    return replace(Config(), window_pattern="L") if name == "g1" else Config()


def ids_of(config: Config) -> list[int]:
    return [i * 17 % config.vocab_size for i in range(config.sequence_len)]


def original(model: NanoChat, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor(ids)).numpy()
    return logits


def imported(model: NanoChat, folder: Path, gen: str | None, **meta: Any) -> Imported:
    return read(save_nanochat(model, folder, **meta), Options(tokenizer="none", nanochat_gen=gen))


def exported(model: NanoChat, folder: Path, gen: str | None, dtype: str = "f32") -> _core.ModelFile:
    path = pygpt.export(
        save_nanochat(model, folder / "d3"), dtype=dtype, tokenizer="none", nanochat_gen=gen, verify=False
    )
    return _core.ModelFile(str(path), verify="full")


@EVERY
def test_the_float64_forward_is_the_original(name: str, tmp_path: Path) -> None:
    model = random_nanochat(name, config_of(name))
    ours = imported(model, tmp_path, GIVEN[name])
    ids = ids_of(model.config)
    logits = forward(ours.architecture, lambda tensor: ours.tensors[tensor](), ids).logits
    theirs = original(model.double(), ids)
    assert np.abs(logits[:, : theirs.shape[1]] - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("isa", _core.isas())
@FIRST_AND_LAST
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"n_layer": 4, "n_embd": 48, "n_head": 3, "n_kv_head": 3, "window_pattern": "SSSL", "vocab_size": 64},
        {"n_layer": 1, "n_head": 5, "n_kv_head": 1, "sequence_len": 20},
    ],
    ids=["groups", "heads", "one_layer"],
)
def test_f32_logits_are_those_of_pytorch(name: str, shape: dict[str, Any], isa: str, tmp_path: Path) -> None:
    if name == "g1":
        shape = shape | {"window_pattern": "L"}
    model = random_nanochat(name, replace(Config(), **shape))
    ids = ids_of(model.config)
    wanted = original(model, ids)
    engine = _core.Engine(exported(model, tmp_path, None), isa=isa, threads=2, kv_dtype="f32")
    (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
    engine.close()
    assert event.logits is not None
    assert event.logits.shape == wanted.shape
    worst = np.abs(event.logits - wanted).max(axis=1) / np.abs(wanted).max()
    assert worst.max() <= BUDGET, int(worst.argmax())


@pytest.mark.parametrize("dtype", ["f16", "bf16", "q8", "q4"])
def test_every_dtype_is_exported_and_holds_its_known_answers(dtype: str, tmp_path: Path) -> None:
    """Wide enough, and its gates shut enough, for the rounding of a quantised dtype to average out."""
    config = Config(n_embd=192, n_head=3, n_kv_head=3, n_layer=1, sequence_len=100)
    model = random_nanochat("g5", config)
    with torch.no_grad():
        for parameter in (model.transformer["h"][0].attn.c_proj.weight, model.lm_head.weight):
            parameter.mul_(0.2)
    path = pygpt.export(
        save_nanochat(model, tmp_path / "d1"), tmp_path / "m.pygpt", dtype=dtype, tokenizer="none"
    )
    with pygpt.Engine(path) as engine:
        assert len(engine.generate([[1, 2, 3]], max_tokens=4, allowed_token_ids=[1, 2, 3])[0].token_ids) == 4


@pytest.mark.parametrize("isa", _core.isas())
def test_nothing_depends_on_batch_threads_or_chunk(isa: str, tmp_path: Path) -> None:
    file = exported(random_nanochat("g5"), tmp_path, None, "f16")
    requests = [asked(k, 40) for k in range(3)]
    engine = _core.Engine(file, threads=1, isa=isa, max_running=1)
    alone = [everything(run(engine, [request])[0]) for request in requests]
    engine.close()
    for threads, chunk in itertools.product((1, 2, 3), (1, 2, 3, 7, 1 << 20)):
        engine = _core.Engine(file, threads=threads, isa=isa, prefill_chunk=chunk)
        assert [everything(event) for event in run(engine, requests)] == alone, (threads, chunk)
        engine.close()


@pytest.mark.parametrize("length", [1, 2, 140])
def test_what_was_decoded_is_what_a_prefill_says(length: int, tmp_path: Path) -> None:
    """Behind a prompt of one token, the first one decoded is smeared by it; 140 is more than a window."""
    engine = _core.Engine(exported(random_nanochat("g5"), tmp_path, None, "f16"), threads=2)
    prompt = ids_of(Config())[:length]
    (grown,) = run(engine, [_core.Request(prompt=prompt, max_tokens=20, logprobs=3, seed=3)])
    text = prompt + grown.token_ids
    (whole,) = run(engine, [_core.Request(prompt=text, max_tokens=0, prompt_logprobs=3)])
    decoded = [(each.token_id, each.logprob, each.top) for each in grown.logprobs]
    assert decoded == [(e.token_id, e.logprob, e.top) for e in whole.prompt_logprobs][length - 1 :]
    engine.close()


def test_a_key_at_the_window_s_edge_is_seen_and_the_one_before_is_not(tmp_path: Path) -> None:
    """W + 1 keys: those at most W back."""
    config = Config(n_layer=2, window_pattern="SL")
    model = random_nanochat("g5", config)
    with torch.no_grad():  # the last layer adds nothing, nor does anything but attention pass positions on
        model.transformer["h"][1].attn.c_proj.weight.zero_()
        model.smear_lambda.zero_()
    engine = _core.Engine(exported(model, tmp_path, None), threads=2, kv_dtype="f32")
    reach = window(config, GENERATIONS["g5"], 0)
    assert reach == 128

    def last_logits(changed: int) -> bytes:
        ids = ids_of(config)[:200]
        if changed >= 0:
            ids[changed] = (ids[changed] + 1) % config.vocab_size
        (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
        assert event.logits is not None
        return event.logits[-1].tobytes()

    plain = last_logits(-1)
    assert last_logits(199 - reach) != plain
    assert last_logits(199 - reach - 1) == plain
    engine.close()


@EVERY
def test_the_generation_becomes_values(name: str, tmp_path: Path) -> None:
    model = random_nanochat(name, config_of(name))
    ours = imported(model, tmp_path, GIVEN[name])
    a, of_it = ours.architecture, GENERATIONS[name]
    assert (a.logit_cap, a.rope_theta) == (of_it.cap, of_it.base)
    assert (a.vocab_size, a.padded_vocab_size, a.context_length) == (61, 64, 300)
    assert (a.value_gate_width, a.layer_lambdas) == (of_it.gate_columns, of_it.lambdas)
    assert a.norm_epsilon == 2.0**-23
    for layer in range(a.n_layer):
        assert a.window_of(layer) == min(300, window(model.config, of_it, layer) + 1)
        assert a.has_values(layer) == (of_it.gate_columns > 0 and layer in (0, 2))
    for part in "qk":
        np.testing.assert_allclose(ours.tensors[f"h.0.attn.{part}_norm.gain"](), of_it.gain, rtol=1e-7)
    assert ours.provenance["generation"] == name


@pytest.mark.parametrize(("length", "g4", "g5"), [(2048, 768, 512), (300, 128, 128), (1500, 512, 384)])
def test_windows_are_those_of_the_generation(length: int, g4: int, g5: int, tmp_path: Path) -> None:
    """2048 // 4 is 512; a comment in nanochat says 768, which the code before had."""
    config = Config(sequence_len=length)
    for name, reach in (("g2", length // 2), ("g4", g4), ("g5", g5)):
        a = imported(random_nanochat(name, config), tmp_path / name, None).architecture
        assert (a.window, a.window_layers) == (reach + 1, "110")


def test_a_live_model_is_exported(tmp_path: Path) -> None:
    model = random_nanochat("g5")
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer="none")
    assert _core.ModelFile(str(path)).config["backout_layer"] == 1


def test_rows_of_padding_are_never_chosen(tmp_path: Path) -> None:
    model = random_nanochat("g1", replace(Config(), window_pattern="L"))
    with torch.no_grad():
        model.lm_head.weight[61:] = 100 * model.lm_head.weight[:3]
    engine = _core.Engine(exported(model, tmp_path, None), threads=1)
    (event,) = run(engine, [_core.Request(prompt=[1], max_tokens=50, temperature=2.0, seed=1)])
    assert max(event.token_ids) < 61
    engine.close()


def test_the_tokenizer_of_the_base_directory_and_its_chats_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chats are as render_conversation has them, and what a user says is never a special token."""
    ranks = small_ranks("the quick brown fox jumps over the lazy dog", 280)
    special = {token: len(ranks) + i for i, token in enumerate(SPECIAL_TOKENS)}
    state = {"name": "rustbpe", "pat_str": PATTERNS["nanochat"], "mergeable_ranks": ranks}
    (tmp_path / "tokenizer").mkdir()
    pickled(tmp_path / "tokenizer" / "tokenizer.pkl", state | {"special_tokens": special}, monkeypatch)
    size = len(ranks) + len(special)
    config = replace(Config(), vocab_size=size, n_layer=1)
    model = random_nanochat("g5", config, rows=-(-size // 64) * 64)
    save_nanochat(model, tmp_path / "chatsft_checkpoints" / "d1")
    with pytest.warns(UserWarning, match="chatsft_checkpoints/d1/model_000700.pt, nanochat's generation g5"):
        path = pygpt.export(tmp_path, tmp_path / "m.pygpt", dtype="f32")
    held = _core.ModelFile(str(path)).config
    bos, end = special["<|bos|>"], special["<|assistant_end|>"]
    assert (held["start_token"], held["stop_tokens"], held["vocab_size"]) == (bos, [bos, end], size)
    question = "the <|assistant_end|> fox"
    with pygpt.Engine(path) as engine:
        said = engine.chat([{"role": "user", "content": question}], max_tokens=3, allowed_token_ids=[5])
        asked_ids = engine.tokenizer.encode(question) if engine.tokenizer else []
    assert end not in asked_ids
    assert said.token_ids == [5, 5, 5]
    assert said.usage.prompt_tokens == len(asked_ids) + 4  # bos, user_start, user_end, assistant_start


class TestDirectories:
    """What is taken of nanochat's own directories."""

    @staticmethod
    def made(folder: Path, *places: str) -> None:
        model = random_nanochat("g1", replace(Config(), window_pattern="L", n_layer=1))
        for place in places:
            run_directory, _, step = place.rpartition("/")
            save_nanochat(model, folder / run_directory, int(step))

    @pytest.mark.parametrize(
        ("places", "inside", "taken"),
        [
            (("d9/900", "d20/100", "d20/1000", "d12/5"), "", "d20/model_001000.pt"),
            (("d9/99", "d9/100"), "d9", "d9/model_000100.pt"),
            (("my_run/7",), "", "my_run/model_000007.pt"),
            (
                ("base_checkpoints/d26/9", "chatsft_checkpoints/d20/5", "mid_checkpoints/d30/7"), "",
                "chatsft_checkpoints/d20/model_000005.pt",
            ),
            (("base_checkpoints/d26/9",), "", "base_checkpoints/d26/model_000009.pt"),
        ],
    )  # fmt: skip
    def test_the_deepest_run_and_its_last_step(
        self, places: tuple[str, ...], inside: str, taken: str, tmp_path: Path
    ) -> None:
        self.made(tmp_path, *places)
        (tmp_path / "tokenizer").mkdir()
        notes = read(tmp_path / inside, Options(tokenizer="none")).notes
        assert any(f"took {tmp_path / taken}, nanochat's generation g1" in note for note in notes)

    def test_several_runs_without_a_depth_are_named(self, tmp_path: Path) -> None:
        self.made(tmp_path, "one/1", "two/1")
        with pytest.raises(ModelFileError, match=r"several runs of nanochat .one, two.; name the one"):
            read(tmp_path, Options(tokenizer="none"))

    def test_the_checkpoint_is_not_replaced_by_its_export(self, tmp_path: Path) -> None:
        self.made(tmp_path, "d1/3")
        meta = tmp_path / "d1" / "meta_000003.json"
        with pytest.raises(InvalidRequestError, match="is read by this export"):
            pygpt.export(tmp_path, meta, tokenizer="none")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "layers": ({"n_layer": 4}, "contradiction", "n_layer is 4, but the tensors have 3"),
    "width": ({"n_embd": 64}, "contradiction", "n_embd is 64, but the tensors have 60"),
    "heads": ({"n_head": 7}, "contradiction", "7 heads"),
    "kv_heads": ({"n_kv_head": 3}, "wrong_shape", r"c_k.weight\]"),
    "vocabulary": ({"vocab_size": 65}, "contradiction", "65 tokens"),
    "no_length": ({"sequence_len": None}, "damaged", "sequence_len is None"),
    "length": ({"sequence_len": -1}, "damaged", "sequence_len is -1"),
    "letters": ({"window_pattern": "SXL"}, "damaged", "window_pattern is 'SXL'"),
    "no_letters": ({"window_pattern": ""}, "damaged", "window_pattern is ''"),
    "no_text": ({"window_pattern": 3}, "damaged", "window_pattern is 3"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_meta_json_that_contradicts_the_tensors_is_refused(what: str, tmp_path: Path) -> None:
    changes, code, message = REFUSED[what]
    with pytest.raises(ModelFileError, match=message) as caught:
        imported(random_nanochat("g5"), tmp_path, None, **changes)
    assert caught.value.code == code


def test_a_pattern_of_windows_in_the_first_generation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="without windows"):
        imported(random_nanochat("g1"), tmp_path, None)


def test_no_pattern_means_no_windows(tmp_path: Path) -> None:
    assert imported(random_nanochat("g2"), tmp_path, None, window_pattern=None).architecture.window == 0


@pytest.mark.parametrize("meta", [None, "[]", '{"model_config": 3}'])
def test_weights_without_their_config_are_refused(meta: str | None, tmp_path: Path) -> None:
    path = save_nanochat(random_nanochat("g5"), tmp_path)
    beside = tmp_path / "meta_000700.json"
    beside.unlink() if meta is None else beside.write_text(meta)
    with pytest.raises(ModelFileError, match="sequence_len and n_head") as caught:
        read(path, Options(tokenizer="none"))
    assert caught.value.code == "missing_config"


def test_a_damaged_meta_json_is_refused(tmp_path: Path) -> None:
    path = save_nanochat(random_nanochat("g5"), tmp_path)
    (tmp_path / "meta_000700.json").write_text(json.dumps({"step": 1})[:-3])
    with pytest.raises(ModelFileError, match="is not JSON"):
        read(path, Options(tokenizer="none"))


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("value_embed.weight", "g2b"),
        ("v0_lambdas", "g2b"),
        ("value_embed_A.weight", "g2b"),
        ("bigram_lambdas", "g3x"),
        ("bigram_embed.weight", "g3x"),
    ],
)
def test_an_experiment_of_some_days_is_refused_by_name(name: str, generation: str, tmp_path: Path) -> None:
    path = save_nanochat(random_nanochat("g2"), tmp_path)
    torch.save(torch.load(path) | {name: torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match=f"has {name}: .* generation {generation}") as caught:
        read(path, Options(tokenizer="none"))
    assert caught.value.code == "unsupported_family"


def test_a_gate_of_another_width_is_of_no_known_generation(tmp_path: Path) -> None:
    path = save_nanochat(random_nanochat("g4"), tmp_path)
    state = torch.load(path)
    for key in [key for key in state if key.endswith("ve_gate.weight")]:
        state[key] = torch.zeros(2, 16)
    torch.save(state, path)
    with pytest.raises(ModelFileError, match=r"ve_gate has \[16\] columns"):
        read(path, Options(tokenizer="none"))


def test_what_two_generations_share_must_be_told_and_cannot_be_made_up(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"g3a: .* capped at 15; g3b: .* capped at 20") as caught:
        imported(random_nanochat("g3a"), tmp_path, None)
    assert caught.value.param == "nanochat_gen"
    for name, given in (("g3a", "g4"), ("g5", "g1"), ("g1", "nonsense")):
        with pytest.raises(InvalidRequestError, match=f"is given as {given}, but the tensors are of"):
            imported(random_nanochat(name, config_of(name)), tmp_path, given)


def test_a_generation_is_for_nanochat_alone() -> None:
    with pytest.raises(InvalidRequestError, match=r"is for nanochat.*bigram\.py") as caught:
        read(
            {"token_embedding_table.weight": torch.zeros(5, 5)}, Options(tokenizer="none", nanochat_gen="g3a")
        )
    assert caught.value.param == "nanochat_gen"


@pytest.mark.parametrize(
    "missing",
    [
        "value_embeds.0.weight",
        "transformer.h.2.attn.ve_gate.weight",
        "smear_lambda",
        "backout_lambda",
        "transformer.h.1.attn.c_q.weight",
        "lm_head.weight",
    ],
)
def test_a_tensor_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=missing) as caught:
        read(without(missing, tmp_path), Options(tokenizer="none"))
    assert caught.value.code == "missing_tensors"


@pytest.mark.parametrize(("missing", "patched"), [("resid_lambdas", 1.0), ("x0_lambdas", 0.0)])
def test_lambdas_that_are_missing_are_what_nanochat_makes_of_them(
    missing: str, patched: float, tmp_path: Path
) -> None:
    ours = read(without(missing, tmp_path), Options(tokenizer="none"))
    both = ours.tensors["h.1.lambdas"]()[0]
    place = ["resid_lambdas", "x0_lambdas"].index(missing)
    assert both[place] == patched
    assert both[1 - place] not in (0.0, 1.0)


def without(missing: str, folder: Path) -> Path:
    """A checkpoint of today that lacks a tensor."""
    path = save_nanochat(random_nanochat("g5"), folder)
    state = torch.load(path)
    del state[missing]
    torch.save(state, path)
    return path
