"""llama.cpp through llama-cpp-python's low-level API; the greedy choice is numpy's argmax.

Its defaults hold, so the cache is f16 for F32 weights too.
"""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers.base import Generated, Runner, UnavailableError
from peers.shapes import Shape

llama_cpp: Any = importlib.import_module("llama_cpp")

N_BATCH = 2048  # tokens of one call; the engine cuts them into N_UBATCH
N_UBATCH = 512
CONTEXT_STEP = 256  # what a cache's length is rounded up to
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7}  # enum llama_ftype of llama.h


def _quiet() -> Callable[..., None]:
    """Keep its log to errors; the caller holds what this returns, or the callback dies."""
    errors = 4  # GGML_LOG_LEVEL_ERROR

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def log(level: int, text: bytes, _: object) -> None:
        if level == errors:
            import sys

            sys.stderr.write(text.decode("utf-8", "replace"))

    llama_cpp.llama_log_set(log, None)
    kept: Callable[..., None] = log
    return kept


def prepare(shape: Shape, precision: str, source: Path, target: Path) -> Path:
    """The F32 file by our writer, the others from it by llama.cpp's own quantizer; what is there is kept."""
    from peers import gguf_file

    base = target.with_name("llama.cpp F32.gguf")
    if not base.exists():
        unfinished = base.with_name("F32.unfinished")
        gguf_file.write(shape, source, unfinished)
        unfinished.rename(base)
    if precision == "F32":
        return base
    target = target.with_name(f"{target.name}.gguf")  # the name has a dot already
    if not target.exists():
        unfinished = target.with_name(f"{precision}.unfinished")
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread = FILE_TYPES[precision], 1
        log = _quiet()
        failed = llama_cpp.llama_model_quantize(
            str(base).encode(), str(unfinished).encode(), ctypes.byref(params)
        )
        del log
        if failed:
            raise UnavailableError(f"llama.cpp cannot quantize this model to {precision}")
        unfinished.rename(target)
    return target


class LlamaCpp:
    version: str = llama_cpp.__version__

    def __init__(self, path: Path, shape: Shape, threads: int) -> None:
        self.log = _quiet()
        llama_cpp.llama_backend_init()
        self.shape, self.threads = shape, threads
        self.weight_bytes: int | None = path.stat().st_size
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise UnavailableError("llama.cpp cannot load the file")
        self.batch = llama_cpp.llama_batch_init(N_BATCH, 0, 1)
        self.contexts: dict[int, tuple[int, Any]] = {}  # by rows: positions of each, and the context
        self.views: dict[int, NDArray[np.float32]] = {}  # of logits, by their address

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        rows, length = len(prompts), len(prompts[0])
        context = self._context(rows, length + tokens)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        entries = [
            (token, position, row, position == length - 1)
            for row, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        written = [[token] for token in self._decode(context, entries)]
        first = time.perf_counter()
        for position in range(length, length + tokens - 1):
            latest = [(row[-1], position, index, True) for index, row in enumerate(written)]
            for row, token in zip(written, self._decode(context, latest), strict=True):
                row.append(token)
        return Generated(written, time.perf_counter() - first)

    def _context(self, rows: int, length: int) -> Any:
        """A context for so many sequences. One sequence gets the model's whole context."""
        positions = min(-(-length // CONTEXT_STEP) * CONTEXT_STEP, self.shape.context)
        positions = self.shape.context if rows == 1 else positions
        if rows in self.contexts:
            known, context = self.contexts[rows]
            if known >= positions:
                return context
            llama_cpp.llama_free(context)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = rows * positions, rows
        params.n_batch, params.n_ubatch = N_BATCH, N_UBATCH
        params.n_threads = params.n_threads_batch = self.threads
        context = llama_cpp.llama_init_from_model(self.model, params)
        if not context:
            raise MemoryError(f"llama.cpp has no context for {rows} sequences of {positions} positions")
        self.contexts[rows] = positions, context
        self.views.clear()
        return context

    def _decode(self, context: Any, entries: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Run (token, position, sequence, whether its logits are wanted); the likeliest next of those."""
        chosen = []
        batch = self.batch
        for start in range(0, len(entries), N_BATCH):
            chunk = entries[start : start + N_BATCH]
            batch.n_tokens = len(chunk)
            for i, (token, position, sequence, wanted) in enumerate(chunk):
                batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            code = llama_cpp.llama_decode(context, batch)
            if code:
                raise RuntimeError(f"llama_decode failed with {code}")
            chosen += [
                int(self._logits(context, i).argmax()) for i, (_, _, _, wanted) in enumerate(chunk) if wanted
            ]
        return chosen

    def _logits(self, context: Any, index: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(context, index)
        address = ctypes.addressof(pointer.contents)
        if address not in self.views:
            self.views[address] = np.ctypeslib.as_array(pointer, shape=(self.shape.vocab,))
        return self.views[address]


def load(shape: Shape, precision: str, path: Path, threads: int) -> Runner:  # noqa: ARG001
    return LlamaCpp(path, shape, threads)
