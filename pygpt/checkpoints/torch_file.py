"""What needs torch to open a checkpoint: files of `torch.save`, and tensors and modules in memory.

Files are loaded with `weights_only=True` and never otherwise: a pickle is a program, and theirs is not run.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoints.base import Array, StoredTensor
from pygpt.errors import MissingExtraError, ModelFileError

_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}

# Classes of scripts that hold settings and nothing else, as `module.Name`.
_CONFIG = re.compile(r"(?!torch\b)[\w.]+\.([A-Z]\w*)?(Config|Args)|argparse\.Namespace", re.ASCII)


class Inert:
    """What stands for a pickled object of a class that only its script has: its attributes, and no code."""

    def __new__(cls, *args: object) -> Inert:
        """Raises UnpicklingError: it was to be called with arguments, which settings are not."""
        if args:
            raise pickle.UnpicklingError(f"{cls.__name__} is called with arguments")
        return super().__new__(cls)


_SAFE_TORCH = (2, 10)  # the first without CVE-2026-24747

_REFUSED = (
    "is refused: it holds more than tensors and plain values, and loading it would run its code ({reason}). "
    "Save the weights alone, with torch.save(model.state_dict(), 'model.pt'), and export that"
)


def load(path: Path) -> Mapping[str, Any]:
    """The dict that a file of `torch.save` holds; tensors stay in the file until they are read.

    Raises:
        MissingExtraError: torch is not installed.
        ModelFileError: the file is damaged, of torch before 1.6, or loading it would run code.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError('a .pt file needs torch: pip install "pygpt[export]"') from error
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise ModelFileError(
                str(path),
                "not_a_checkpoint",
                "is neither a file of torch.save (1.6 or later) nor of safetensors; an older one can be "
                "loaded where it comes from and saved again with torch.save(model.state_dict(), 'model.pt')",
            )
    _warn_of_old_torch(torch.__version__)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        held = _load_with_inert_configs(path, error)
    except MemoryError:
        raise
    except Exception as error:  # torch raises whatever a damaged archive makes it stumble over
        raise ModelFileError(str(path), "damaged", f"torch cannot load it: {_reason(error)}") from error
    if is_tensor(held) or not isinstance(held, Mapping):
        raise ModelFileError(
            str(path), "not_a_checkpoint", f"holds a {type(held).__name__}, not a state_dict"
        )
    return held


def _warn_of_old_torch(version: str) -> None:
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found < _SAFE_TORCH:
        warnings.warn(
            f"torch {version} has CVE-2026-24747: a crafted .pt file may corrupt memory even with "
            "weights_only. Export only checkpoints that you trust, or update torch to 2.10 or later",
            stacklevel=3,
        )


def _load_with_inert_configs(path: Path, error: pickle.UnpicklingError) -> Any:
    """What a file holds in which the script's own config class is pickled (as in build-nanogpt): an `Inert`
    stands for each such object. The class itself is never looked up, and everything else stays refused."""
    import torch

    refused = ModelFileError(str(path), "unsafe_pickle", _REFUSED.format(reason=_reason(error)))
    unknown = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)  # of torch 2.6
    if unknown is None:
        raise refused from error
    try:
        names = [str(name) for name in unknown(path)]
        if not names or not all(_CONFIG.fullmatch(name) for name in names):
            raise refused from error
        classes: list[Any] = [
            type(name.rpartition(".")[2], (Inert,), {"__module__": name.rpartition(".")[0]}) for name in names
        ]
        with torch.serialization.safe_globals(classes):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as second:  # a damaged pickle raises whatever its opcodes stumble over
        raise refused from second


def _reason(error: Exception) -> str:
    """What torch says, in one line: which class or function it refused, where it says so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line or "TorchScript" in line]
    return (telling or lines or [type(error).__name__])[0][:200]


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor, asked without importing torch."""
    return any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in type(value).__mro__)


def unwrap_module(module: Any) -> Any:
    """The module inside torch.compile and DistributedDataParallel."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and type(module).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = module.module
        if inner is None:
            return module
        module = inner


def stored(tensor: Any) -> StoredTensor:
    """A torch tensor, on any device and with any strides. What export cannot read, it still can name."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    dtype = _NAMES.get(dtype, dtype)
    if tensor.is_meta:
        dtype = "on the meta device, without data"
    elif tensor.is_quantized:
        dtype = f"quantized ({dtype})"
    elif "strided" not in str(tensor.layout):
        dtype = f"sparse ({dtype})"
    plain = dtype in _NAMES.values()
    where = (tensor.data_ptr(), tensor.stride()) if plain else id(tensor)

    def read() -> Array:
        values: Array = tensor.detach().cpu().float().contiguous().numpy()
        return values

    return StoredTensor(tuple(tensor.shape), dtype, read, (where, tuple(tensor.shape), dtype))


def module_logits(module: Any) -> Callable[[Sequence[int]], NDArray[np.float64]]:
    """A function that runs a copy of the module in float64: ids to logits [T, vocabulary]."""
    import copy

    def run(ids: Sequence[int]) -> NDArray[np.float64]:
        return logits_of(copy.deepcopy(module).double().eval(), ids)

    return run


def logits_of(module: Any, ids: Sequence[int]) -> NDArray[np.float64]:
    """What the module says, [T, vocabulary].

    The module takes ids [1, T] and returns logits, or a tuple that begins with them. One that returns the
    last position alone unless it is given targets (as nanoGPT's) is given targets. What it casts to float32
    by its own say, as transformers its norms and softmax, stays float64.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Float64(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            def raised(value: Any) -> Any:
                return torch.float64 if value is torch.float32 else value

            func = torch.Tensor.double if func is torch.Tensor.float else func
            named = {key: raised(value) for key, value in (kwargs or {}).items()}
            return func(*map(raised, args), **named)

    tokens = torch.tensor([list(ids)], device=next(module.parameters()).device)
    with torch.no_grad(), Float64():
        logits = _first(module(tokens))
        if tuple(logits.shape[:2]) != tuple(tokens.shape):
            logits = _first(module(tokens, tokens))
    values: NDArray[np.float64] = logits.reshape(len(ids), -1).double().cpu().numpy()
    return values


def _first(output: Any) -> Any:
    output = getattr(output, "logits", output)  # of an object that names its parts
    return output[0] if isinstance(output, tuple) else output
