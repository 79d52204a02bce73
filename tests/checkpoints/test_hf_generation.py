"""generation_config.json: where texts end and how they are sampled, over config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama import random_llama, save_llama

import pygpt
from pygpt.checkpoints.base import Imported, Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import ModelFileError


def imported(folder: Path, settings: Any, **config: Any) -> Imported:
    directory = save_llama(random_llama(), folder / "llama", **config)
    (directory / "generation_config.json").write_text(json.dumps(settings))
    return read(directory, Options(tokenizer="none"))


def test_it_overrules_config_json(tmp_path: Path) -> None:
    settings = {"bos_token_id": 3, "eos_token_id": [5, 4, 5], "transformers_version": "5.0"}
    a = imported(tmp_path, settings, bos_token_id=1, eos_token_id=2).architecture
    assert (a.start_token, a.stop_tokens) == (3, (5, 4))


def test_what_it_leaves_open_config_json_says(tmp_path: Path) -> None:
    a = imported(tmp_path, {"eos_token_id": None}, bos_token_id=1, eos_token_id=2).architecture
    assert (a.start_token, a.stop_tokens) == (1, (2,))


SETTINGS = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}


def test_the_authors_sampling_becomes_the_engine_s_default(tmp_path: Path) -> None:
    settings = SETTINGS | {"do_sample": True, "num_beams": 1, "typical_p": 1.0}
    assert dict(imported(tmp_path, settings).defaults) == SETTINGS
    path = pygpt.export(tmp_path / "llama", tmp_path / "m.pygpt", tokenizer="none", verify=False)
    with pygpt.Engine(path) as engine:
        assert engine.info["defaults"] == pytest.approx(SETTINGS)


def test_a_temperature_that_is_a_whole_number_is_one(tmp_path: Path) -> None:
    assert dict(imported(tmp_path, {"temperature": 1, "top_p": 1}).defaults) == {
        "temperature": 1.0,
        "top_p": 1.0,
    }


def test_what_is_not_meant_to_be_used_is_left_out(tmp_path: Path) -> None:
    assert imported(tmp_path, SETTINGS | {"do_sample": False}).defaults == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eos_token_id": 61}, "eos_token_id"),
        ({"eos_token_id": list(range(17))}, "eos_token_id"),
        ({"bos_token_id": -1}, "bos_token_id"),
        ({"temperature": -0.5}, "temperature is -0.5.*correct generation_config.json"),
        ({"temperature": True}, "temperature is True"),
        ({"temperature": 1e999}, "temperature is inf"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": "all"}, "top_p is 'all'"),
        ({"do_sample": "yes"}, "do_sample is 'yes'"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_by_name(settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        imported(tmp_path, settings)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    directory = save_llama(random_llama(), tmp_path / "llama")
    (directory / "generation_config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"generation_config\.json.*not JSON"):
        read(directory, Options(tokenizer="none"))
