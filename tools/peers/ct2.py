"""CTranslate2: `Generator.generate_batch`, one worker, all threads in it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.base import Generated, Runner
from peers.shapes import Shape

ctranslate2: Any = importlib.import_module("ctranslate2")


class Words:
    """A vocabulary for the converter: token i is the word "i"."""

    bos_token = eos_token = unk_token = "0"  # min_length keeps token 0 from being chosen: one of many  # noqa: S105

    def __init__(self, size: int) -> None:
        self.size = size

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(self.size)}


def prepare(shape: Shape, precision: str, source: Path, target: Path) -> Path:
    """Convert, by its own converter; a directory that is there is kept."""
    if not target.exists():
        converters: Any = importlib.import_module("ctranslate2.converters")
        words = Words(shape.vocab)

        class Converter(converters.TransformersConverter):  # type: ignore[misc]
            def load_tokenizer(self, *_: object, **__: object) -> Words:
                return words

        unfinished = target.with_name(target.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        Converter(str(source)).convert(str(unfinished), quantization=precision)
        unfinished.rename(target)
    return target


class CTranslate2:
    version: str = ctranslate2.__version__

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        self.generator = ctranslate2.Generator(
            str(path), compute_type=precision, intra_threads=threads, inter_threads=1
        )
        self.weight_bytes: int | None = (path / "model.bin").stat().st_size

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        results = self.generator.generate_batch(
            [[str(token) for token in each] for each in prompts],
            max_length=tokens,
            min_length=tokens,
            include_prompt_in_result=False,
            sampling_topk=1,
            beam_size=1,
        )
        return Generated([list(each.sequences_ids[0]) for each in results])


def load(shape: Shape, precision: str, path: Path, threads: int) -> Runner:  # noqa: ARG001
    return CTranslate2(path, precision, threads)
