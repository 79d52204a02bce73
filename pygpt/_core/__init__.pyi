"""The C++ core. Names and meanings are those of the Python side; see docs/format.md for the file."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from . import (
    bench as bench,  # _core.bench: probes of the machine (see csrc/bindings/bench.cpp)
)
from . import (
    testing as testing,
)  # _core.testing: every kernel, offered to numpy (see csrc/bindings/testing.cpp)

__version__: str

# C++ errors arrive as classes of pygpt.errors.

def crc32c(data: Buffer, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`, continued from `crc`. RFC 3720, appendix B.4."""

def isas() -> list[str]:
    """Instruction sets that this machine can run, best first: "avx512", "avx2", "generic"."""

def gpu() -> dict[str, Any]:
    """The GPU that device="cuda" runs on: name, target ("sm_90"), multiprocessors, memory_bytes.

    Raises DeviceError, with the reason: a build without CUDA, no GPU, an old driver.
    """

def formats() -> list[str]:
    """Weight formats: "f32", "f16", "bf16", "q8", "q4"."""

def kv_dtypes() -> list[str]:
    """How keys and values may be stored: "f32", "f16", "bf16", "int8"."""

def available_cpus() -> int:
    """CPUs that this process may use: affinity mask and cgroup quota, whichever is smaller; at least 1."""

def pack(weights: NDArray[np.float32], kind: str, format: str) -> bytes:
    """`weights` [n, k] as they lie in a file. kind: "matrix" (panels), "table" or "vector" (rows). ValueError if a value does not fit (f16 overflow), or if what is no matrix is to be quantised."""

def unpack(data: Buffer, kind: str, format: str, rows: int, cols: int) -> NDArray[np.float32]:
    """The weights [rows, cols] back from a file's bytes, as the engine sees them."""

def tensor_specs(config: Mapping[str, str]) -> list[tuple[str, str, int, int]]:
    """Every tensor that a config implies, in file order: (name, kind, rows, cols).

    `config` maps every key of docs/format.md to its value as written in the file, in file order. Raises ModelFileError.
    """

@final
class TensorInfo:
    name: str
    kind: str
    format: str
    rows: int
    cols: int
    offset: int  # bytes from the start of the data
    bytes: int
    crc32c: int

@final
class ModelFile:
    """A validated, opened model file. Raises ModelFileError, OSError (missing, unreadable), OutOfMemory."""

    def __init__(
        self, path: str | bytes, *, mmap: bool = True, verify: Literal["header", "full", "off"] = "header"
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def config(self) -> dict[str, Any]:
        """Every config key with its value as int, float, bool, str, list[int] (stop_tokens) or None."""
    @property
    def defaults(self) -> dict[str, Any]: ...
    @property
    def blobs(self) -> dict[str, int]:
        """Name to size in bytes."""
    @property
    def tensors(self) -> list[TensorInfo]: ...
    def blob(self, name: str) -> builtins.bytes: ...
    def tensor(self, name: str) -> NDArray[np.float32]: ...
    def packed(self, name: str) -> builtins.bytes:
        """A tensor's bytes as they lie in the file."""
    def verify(self) -> None:
        """Check every checksum. Raises ModelFileError that names the section."""

@final
class Request:
    """One sequence to run. Values are checked in Python; C++ checks again what memory safety needs.

    Attributes (all may be set as keywords):
        prompt: token ids, at least one.
        max_tokens: new tokens at most; -1: until a stop token or the context's end.
        overflow: "slide", "shift", "stop": what happens when the context is full ("error" is decided in Python).
        n_keep: tokens at the start that "shift" keeps.
        logprobs: -1 none, 0 the chosen token's, k the k most likely as well.
        prompt_logprobs: the same for the prompt's tokens.
        logits: return float32 logits at every prompt position.
        look: "nothing", or what to show of every prompt position: "states", "embedding" or "attention" of `layer`
            (csrc/backend/batch.h); with max_tokens 0 and no other wish. Write-only.
        layer: whose attention.
        temperature ... sample: the sampling rules (csrc/sampling/params.h).
    """

    prompt: list[int]
    max_tokens: int
    overflow: str
    n_keep: int
    logprobs: int
    prompt_logprobs: int
    logits: bool
    look: str
    layer: int
    temperature: float  # 0: greedy
    top_k: int  # 0: off
    top_k_ties: bool
    top_p: float  # 1: off
    min_p: float  # 0: off
    repetition_penalty: float  # 1: off; over prompt and output (Keskar et al. 2019)
    presence_penalty: float  # over output
    frequency_penalty: float
    logit_bias: list[tuple[int, float]]
    allowed_token_ids: list[int]  # empty: all
    min_tokens: int  # stop tokens are not chosen before
    stop_token_ids: list[int]
    seed: int  # 0 .. 2**64-1
    sample: int  # index of this sample among the n of a prompt
    def __init__(self, **fields: Any) -> None: ...

@final
class TokenLogprobs:
    token_id: int
    logprob: float  # natural logarithm, of the model's own distribution (before any sampling rule)
    top: list[tuple[int, float]]

@final
class Event:
    """News of one request of a ticket."""

    index: int  # the request's place in submit's list
    token_ids: list[int]  # new tokens since the last event; the stop token that ended it is not among them
    logprobs: list[TokenLogprobs]  # one for each of token_ids where asked for
    prompt_logprobs: list[
        TokenLogprobs
    ]  # for prompt tokens 1.. (the first has no prediction); once, where asked for
    logits: NDArray[np.float32] | None  # [len(prompt), vocab_size], once, where asked for
    shown: NDArray[np.float32] | None  # what `look` asked for, with the end
    finish_reason: str | None  # "stop", "length", "cancelled", "error"; None while it runs
    stop_token: int | None  # the stop token id that ended it
    error: (
        str | None
    )  # "numerical": NumericalError; "constraint": the rules forbid every token; "memory": OutOfMemory; "deadline": its time ran out; "other": Error
    message: str
    prompt_tokens_dropped: int
    cached_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float

@final
class Ticket:
    """What a submit returns. One thread polls it; any thread may cancel."""

    def poll(self, timeout_s: float, until_done: bool = False) -> list[Event]:
        """Wait, with the GIL released, for news: some tokens, or with `until_done` every request's end. [] at the timeout.

        The engine wakes a poll at most every 2 ms while requests run. Call with short timeouts (0.05 s) so that Ctrl-C is seen.
        """
    def cancel(self, index: int = -1) -> None:
        """Stop request `index` (-1: all) within one step; its last event says "cancelled". A finished one stays as it is."""
    @property
    def done(self) -> bool: ...

@final
class Bell:
    """Wakes an event loop, which watches `fileno()`: tickets have news."""

    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def take(self) -> list[int]:
        """The ids of the tickets with news; begins a pause, in which only ends ring."""
    def resume(self) -> bool:
        """Ends the pause; whether there are news already."""

@final
class Engine:
    """The engine: a thread of its own (worker 0), threads-1 helpers, a scheduler, one backend.

    Raises OutOfMemory before anything is allocated that would not fit; DeviceError for an unknown isa.
    """

    def __init__(
        self,
        file: ModelFile,
        *,
        threads: int = 0,  # 0: chosen from available_cpus() and the model's size
        isa: str = "",  # "": the best that this machine runs
        kv_dtype: str = "auto",  # "f32", "f16", "bf16", "int8"
        max_context: int = 0,  # 0: the model's
        prefill_chunk: int = 0,  # rows of a prompt in one step; 0: chosen
        max_running: int = 0,  # sequences at once; 0: chosen
        max_waiting: int = -1,  # sequences beyond those; -1: any number
        prefix_cache: bool = True,  # what has been read is not read again
        device: str = "cpu",  # or "cuda"
    ) -> None: ...
    def submit(
        self,
        requests: Sequence[Request],
        *,
        timeout_s: float | None = None,
        bell: Bell | None = None,
        id: int = 0,
        until_done: bool = False,
    ) -> Ticket:
        """Takes all of the requests or none; raises OverloadedError, EngineClosedError.

        With a bell nobody waits in poll: the bell lists `id` when there are news, with `until_done` at the end of all.
        """
    def save_prefix(self, tokens: Sequence[int]) -> bytes:
        """The cache's pages of a prompt that has been read. Error: they are not there any more."""
    def load_prefix(self, tokens: Sequence[int], bytes: bytes) -> None:
        """Put pages back. Error: they have another size, or there is no room. OutOfMemory"""
    def close(self) -> None:
        """Cancel what runs, stop the threads, free the memory. Idempotent."""
    @property
    def info(self) -> dict[str, Any]:
        """device, threads, isa, kv_dtype, context_length, weight_bytes, kv_page_bytes, kv_pages, kv_page_tokens, prefill_chunk, max_running, max_waiting"""
