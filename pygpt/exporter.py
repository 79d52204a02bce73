"""`pygpt.export`: from a PyTorch checkpoint to a `.pygpt` file that is proven to compute the same."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from pygpt import _core
from pygpt.atomic import replacing
from pygpt.calibration import settle
from pygpt.checkpoints.base import Imported, Options, is_path
from pygpt.checkpoints.recognise import read
from pygpt.dtypes import DTYPES
from pygpt.errors import InvalidRequestError
from pygpt.fidelity import Traces, check_blobs, compute, verified
from pygpt.file import Contents, Progress, write
from pygpt.kinds import shown
from pygpt.parity import ParityReport


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did: its file and dtype, what to know, what was assumed or calibrated, and the proof
    (None if not asked for)."""

    path: Path
    dtype: str
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]
    report: ParityReport | None


def export(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    dtype: str = "auto",
    tokenizer: Any = None,
    text: str | os.PathLike[str] | None = None,
    chars: str | Sequence[str] | None = None,
    meta: str | os.PathLike[str] | None = None,
    n_head: int | None = None,
    verify: bool = True,
    attention_scale: str | None = None,
    nanochat_gen: str | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    lora: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a checkpoint as a `.pygpt` file and return its path; a file that is there is replaced, whole or
    not at all.

    Args:
        source: a .pt, .pth or .safetensors file, a directory, a state_dict, or a torch module.
        path: beside the source, with the suffix .pygpt, if None.
        dtype: f32, f16, bf16, q8, q4 (a mixture: what the loss cannot spare stays q8) or q4_pure; auto is
            bf16 for bf16 sources, else f16.
        tokenizer: a tokenizer (of pygpt, tokenizers, tiktoken, or a fast one of transformers), or the path of
            one: see docs/tokenizers.md; "none" for a file that speaks token ids only.
        text, chars, meta: where a character vocabulary is not in the checkpoint: the training text or its
            file, its characters in the order of their ids, or nanoGPT's meta.pkl.
        n_head: heads of a layer, where nothing records them.
        verify: replay the known answers in the engine before the file takes its place.
        calibrate: a text, or its file, that decides what the checkpoint does not record (which GELU, which
            scale of attention, nanochat's soft cap): the variant that predicts it best. None takes the
            family's default.
        lora: the directory of a PEFT LoRA adapter, which is merged into the weights.
        attention_scale: "width" for the lecture's code as the video shows it; "head" is everyone else.
        nanochat_gen: "g3a" or "g3b", where nanochat's tensors are those of both.
        progress: called with (what is being done, how much is done, of how much).

    Raises:
        ModelFileError: the source is missing, damaged, refused, of no known family, or incomplete; its
            tokenizer or chat template cannot be used.
        InvalidRequestError: an argument is impossible or missing.
        ParityError: the file would not compute what the original does; it was not put in place.
        OSError: the target cannot be written.
    """
    options = Options(
        tokenizer=tokenizer,
        text=text,
        chars=chars,
        meta=meta,
        n_head=n_head,
        attention_scale=attention_scale,
        nanochat_gen=nanochat_gen,
        calibrate=calibrate,
        lora=lora,
    )
    done = export_with_report(source, path, dtype, options, verify=verify, progress=progress)
    for note in done.notes:
        warnings.warn(note, stacklevel=2)
    return done.path


def export_with_report(
    source: Any,
    path: str | os.PathLike[str] | None,
    dtype: str,
    options: Options,
    *,
    verify: bool = True,
    progress: Progress | None = None,
) -> Export:
    """`export`, with everything that there is to say about it."""
    target = default_path(source) if path is None else _path(path)
    _check_dtype(dtype)
    options = replace(options, run_original=verify)
    imported = settle(read(source, options), options.calibrate)
    chosen = _choose_format(dtype, imported)
    _check_target(target, imported.files)
    notes, assumptions = imported.notes, imported.assumptions
    with replacing(target) as temporary:
        contents, traces = _contents(source, imported, chosen, progress)
        write(temporary, contents, progress)
        del imported, contents  # a mapped checkpoint is let go before the file is mapped in its place
        check_blobs(temporary, _called(source))
        report = verified(temporary, target, traces) if verify else None
    return Export(target, chosen, notes, assumptions, report)


def default_path(source: object) -> Path:
    """Beside the source, suffix .pygpt.

    Raises:
        InvalidRequestError: the source lies nowhere.
    """
    if not isinstance(source, str | os.PathLike):
        raise InvalidRequestError("path", "is needed: a model in memory lies beside nothing")
    path = Path(source)
    if path.is_dir():
        path = path.resolve()
        return path.with_name(path.name + ".pygpt")
    return path.with_suffix(".pygpt")


def _path(path: object) -> Path:
    if not is_path(path) or "\0" in os.fspath(path) or not os.fspath(path):
        raise InvalidRequestError("path", f"must be a path, got {shown(path)}")
    return Path(path)


def _called(source: object) -> str:
    """What errors call the source."""
    return os.fspath(source) if is_path(source) else type(source).__name__


def _check_target(target: Path, read: Iterable[Path]) -> None:
    """No file is replaced that the export itself reads, whatever its name."""
    if not target.exists():
        return
    for path in read:
        with contextlib.suppress(FileNotFoundError):  # one that is looked for only
            if target.samefile(path):
                message = f"{target} is read by this export (it is the checkpoint itself, or belongs to it)"
                raise InvalidRequestError("path", f"{message} and must not be replaced")


def _check_dtype(dtype: str) -> None:
    known = ("auto", *DTYPES)
    if dtype not in known:
        raise InvalidRequestError("dtype", f"{dtype!r} is unknown; there are {', '.join(known)}")


def _choose_format(dtype: str, imported: Imported) -> str:
    if dtype != "auto":
        return dtype
    return "bf16" if imported.source_dtype == "bf16" else "f16"


def _contents(
    source: object, imported: Imported, dtype: str, progress: Progress | None
) -> tuple[Contents, Traces]:
    a = imported.architecture
    tensors = imported.tensors
    bare = Contents(architecture=a, dtype=dtype, weights=lambda name: tensors[name]())
    known, traces = compute(imported, bare, progress)
    blobs = dict(imported.blobs)
    if imported.tokenizer is not None:
        blobs["tokenizer.json"] = imported.tokenizer.to_json().encode("utf-8")
    blobs["provenance.json"] = _provenance(source, imported)
    blobs["known_answers.json"] = known.to_json()
    return (
        Contents(architecture=a, dtype=dtype, weights=bare.weights, defaults=imported.defaults, blobs=blobs),
        traces,
    )


def _provenance(source: object, imported: Imported) -> bytes:
    """provenance.json: of a path the last part only, and no dates: the same input gives the same bytes."""
    name = Path(source).resolve().name if isinstance(source, str | os.PathLike) else type(source).__name__
    facts = {
        "family": imported.provenance["family"],
        "source": name,
        "dtype": imported.source_dtype,
        "library": f"pygpt {_version()}",
        **imported.provenance,
    }
    return json.dumps(facts, indent=1, allow_nan=False).encode("utf-8")


def _version() -> str:
    try:
        return metadata.version("pygpt")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return _core.__version__
