"""Every error that pygpt raises on purpose. Each message says what, where, why, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pygpt.completion import Completion


class Error(Exception):
    """Base of all errors that pygpt raises on purpose. All can be pickled and copied."""


class ModelFileError(Error, ValueError):
    """A model file or checkpoint that cannot be used.

    Attributes:
        path: the file.
        section: which part of it ("header", "config", "tensor h.0.attn.qkv", ...).
        offset: byte offset in the file, or None where no single byte is at fault.
        code: a short stable word for programs ("truncated", "overlap", ...).
        message: what is wrong there.
    """

    def __init__(
        self, path: str, code: str, message: str, section: str = "", offset: int | None = None
    ) -> None:
        where = f" [{section}]" if section else ""
        at = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{path}{where}{at}: {message} ({code})")
        self.path = path
        self.code = code
        self.message = message
        self.section = section
        self.offset = offset

    def __reduce__(self) -> tuple[type[ModelFileError], tuple[Any, ...]]:
        # Else pickle calls the type with `args`, which is the whole text.
        return type(self), (self.path, self.code, self.message, self.section, self.offset)


class InvalidRequestError(Error, ValueError):
    """A request parameter that cannot be used. `param` names it, `message` says why."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param
        self.message = message

    def __reduce__(self) -> tuple[type[InvalidRequestError], tuple[str, str]]:
        return type(self), (self.param, self.message)


class UnknownParameterError(InvalidRequestError, TypeError):
    """A keyword that no function here knows: also a TypeError, as Python raises for its own."""


class ContextLengthError(InvalidRequestError):
    """A prompt (with what is to be generated) that does not fit into the model's context."""


class NumericalError(Error, ArithmeticError):
    """The model produced no finite number to choose from."""


class OverloadedError(Error):
    """Too many requests are waiting already."""


class Cancelled(Error):
    """A stream was closed before its end, by another thread or task than the one that reads it."""


class DeadlineExceeded(Error, TimeoutError):
    """The request's time ran out.

    Attributes:
        completions: of every sample of every prompt of the call, in its order: those that were done, and
            what the others have so far, with the finish_reason "cancelled".
    """

    def __init__(self, message: str, completions: Sequence[Completion] = ()) -> None:
        super().__init__(message)
        self.completions = list(completions)

    def __reduce__(self) -> tuple[type[DeadlineExceeded], tuple[Any, ...]]:
        return type(self), (str(self), self.completions)


class EngineClosedError(Error, RuntimeError):
    """The engine was closed."""


class ForkedEngineError(Error, RuntimeError):
    """The engine was opened in a parent process; workers do not survive a fork."""


class OutOfMemory(Error, MemoryError):
    """Too little memory; the message says needed and available bytes and what to change."""


class DeviceError(Error, RuntimeError):
    """The device is missing, unknown or failed."""


class MissingExtraError(Error, ImportError):
    """An optional package is not installed; the message is the command that installs it."""
