"""The error tree. Every failure that nibble names is one of these.

    NibbleError
    ├── InvalidRequest            a field has a value that cannot be served (``param`` names it)
    │   ├── UnsupportedField      a field that OpenAI knows and this server does not serve
    │   ├── ContextLengthExceeded the prompt (and what it asks for) can never fit the context
    │   └── RequestQuarantined    the model's process has ended twice while this very request was with it
    ├── ModelNotFound             no model of that id is registered
    ├── ModelProtected            a model whose files are not ours to delete
    ├── ModelBusy                 requests hold the model that is to be unloaded
    ├── JobNotFound               no job of that id is known, or it was long ago
    ├── ModelLoadFailed           the file is there, and cannot be served; the message names the mend
    │   └── ModelLoadTimeout      it did not load within the time that loading may take
    ├── InsufficientMemory        the model does not fit what the machine has left
    │   └── InsufficientDisk      nor a new file what the disk has left
    ├── ModelUnavailable          loading, restarting or draining: the same request can work later
    │   ├── QueueFull             too many requests wait already, or too much work
    │   ├── KeyQueueFull          too much of one API key waits already
    │   └── QueueTimeout          the request has waited for its turn for as long as it may
    ├── WorkerDied                the model's process ended while the request was running
    ├── RequestTimeout            the request ran longer than the operator allows
    └── InternalError             a defect of ours

An error carries a ``kind``, never an HTTP status: each wire dialect has one table from kinds to
statuses. Errors cross the process boundary as ``ErrorRecord`` and come back as the same class.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar

import msgspec


class NibbleError(Exception):
    """Root of the tree. ``message`` is written for the person who can mend the cause."""

    kind: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(NibbleError):
    kind = "invalid_request"


class UnsupportedField(InvalidRequest):
    kind = "unsupported_field"


class ContextLengthExceeded(InvalidRequest):
    kind = "context_length_exceeded"


class RequestQuarantined(InvalidRequest):
    kind = "request_quarantined"


class ModelNotFound(NibbleError):
    kind = "model_not_found"


class ModelProtected(NibbleError):
    kind = "model_protected"


class ModelBusy(NibbleError):
    kind = "model_busy"


class JobNotFound(NibbleError):
    kind = "job_not_found"


class ModelLoadFailed(NibbleError):
    kind = "model_load_failed"


class ModelLoadTimeout(ModelLoadFailed):
    kind = "model_load_timeout"


class InsufficientMemory(NibbleError):
    kind = "insufficient_memory"


class InsufficientDisk(InsufficientMemory):
    kind = "insufficient_disk"


class ModelUnavailable(NibbleError):
    kind = "model_unavailable"


class QueueFull(ModelUnavailable):
    kind = "queue_full"


class KeyQueueFull(ModelUnavailable):
    kind = "key_queue_full"


class QueueTimeout(ModelUnavailable):
    kind = "queue_timeout"


class WorkerDied(NibbleError):
    kind = "worker_died"


class RequestTimeout(NibbleError):
    kind = "request_timeout"


class InternalError(NibbleError):
    kind = "internal_error"


@contextmanager
def blaming(param: str) -> Generator[None]:
    """Within, an InvalidRequest that names no field of the request names ``param``."""
    try:
        yield
    except InvalidRequest as error:
        error.param = error.param or param
        raise


def error_classes(root: type[NibbleError] = NibbleError) -> dict[str, type[NibbleError]]:
    """Every concrete error class by its kind, found by walking the tree below ``root``."""
    found: dict[str, type[NibbleError]] = {}
    for child in root.__subclasses__():
        # One that names no kind of its own travels, and comes back, as its parent.
        if "kind" in child.__dict__:
            found[child.kind] = child
        found.update(error_classes(child))
    return found


class ErrorRecord(msgspec.Struct, frozen=True, array_like=True):
    """An error on its way between two processes."""

    kind: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: NibbleError) -> ErrorRecord:
        return cls(error.kind, error.message, error.param, error.retry_after_s)

    def to_error(self) -> NibbleError:
        """The error that was recorded; a kind that this build does not know is an InternalError."""
        error_class = error_classes().get(self.kind, InternalError)
        return error_class(self.message, param=self.param, retry_after_s=self.retry_after_s)
