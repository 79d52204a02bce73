"""You trained a GPT in PyTorch; now run it: fast, light, exactly, without PyTorch, in one call.

    import pygpt
    path = pygpt.export("out/ckpt.pt")
    engine = pygpt.Engine(path)
    print(engine.generate("ROMEO:", max_tokens=200))

What is named here is imported when it is first used, so that `import pygpt` costs nothing; only `Model`
needs torch.
"""

from __future__ import annotations

import os.path
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

from pygpt.errors import (
    Cancelled,
    ContextLengthError,
    DeadlineExceeded,
    DeviceError,
    EngineClosedError,
    Error,
    ForkedEngineError,
    InvalidRequestError,
    MissingExtraError,
    ModelFileError,
    NumericalError,
    OutOfMemory,
    OverloadedError,
    UnknownParameterError,
)

_HERE = os.path.dirname(__file__)
if not any(os.path.isfile(os.path.join(_HERE, "_core" + suffix)) for suffix in EXTENSION_SUFFIXES):
    raise ImportError(
        f"{_HERE} is pygpt's source, without its compiled core: work in another directory to use the "
        "installed pygpt, or build the core here with pip install -e ."
    )

if TYPE_CHECKING:
    from pygpt.callback import Callback
    from pygpt.completion import Completion, Score, TextPiece
    from pygpt.engine import Engine
    from pygpt.exporter import export
    from pygpt.model import Model
    from pygpt.params import SamplingParams
    from pygpt.parity import ParityError
    from pygpt.tokenizer import Tokenizer

    __version__: str

_MODULES = {
    "Callback": "pygpt.callback",
    "Completion": "pygpt.completion",
    "Engine": "pygpt.engine",
    "Model": "pygpt.model",
    "ParityError": "pygpt.parity",
    "SamplingParams": "pygpt.params",
    "Score": "pygpt.completion",
    "TextPiece": "pygpt.completion",
    "Tokenizer": "pygpt.tokenizer",
    "export": "pygpt.exporter",
}
_EXTRAS = {"torch": "train", "safetensors": "train", "matplotlib": "train"}

__all__ = [
    "Callback",
    "Cancelled",
    "Completion",
    "ContextLengthError",
    "DeadlineExceeded",
    "DeviceError",
    "Engine",
    "EngineClosedError",
    "Error",
    "ForkedEngineError",
    "InvalidRequestError",
    "MissingExtraError",
    "Model",
    "ModelFileError",
    "NumericalError",
    "OutOfMemory",
    "OverloadedError",
    "ParityError",
    "SamplingParams",
    "Score",
    "TextPiece",
    "Tokenizer",
    "UnknownParameterError",
    "__version__",
    "export",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pygpt")
    if name not in _MODULES:
        raise AttributeError(f"module 'pygpt' has no attribute {name!r}")
    try:
        value = getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        raise MissingExtraError(f'pygpt.{name} needs {error.name}: pip install "pygpt[{extra}]"') from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
