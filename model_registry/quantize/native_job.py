"""Jobs that touch a model file with native code: heard to their good end, or ended for a reason that has a name."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import TypeVar

import msgspec

from engine.errors import InsufficientMemory, ModelLoadFailed
from engine.job_pipe import Failed
from engine.job_process import KILLED, JobCancelled, JobProcess
from model_registry.quantize.quantization_cancelled import QuantizationCancelled

_Line = TypeVar("_Line")


def heard(
    module: str,
    order: msgspec.Struct,
    decoder: msgspec.json.Decoder[_Line | Failed],
    *,
    name: str,
    cancel: threading.Event | None = None,
) -> Generator[_Line]:
    """What ``python -m module`` tells while it carries out ``order``; ``name`` is the file's, for messages.

    Raises what it failed of, ModelLoadFailed and InsufficientMemory where it died of the file, and
    QuantizationCancelled soon after ``cancel`` was set. When the generator is closed, the process is gone.
    """
    with JobProcess(module, msgspec.json.encode(order), cancel) as job:
        try:
            for raw in job.lines():
                line = decoder.decode(raw)
                if isinstance(line, Failed):
                    raise line.error.to_error()
                yield line
        except JobCancelled:
            raise QuantizationCancelled from None
        except msgspec.MsgspecError as error:
            raise ModelLoadFailed(_damaged(name, f"tells what makes no sense ({error})")) from error
        status, words = job.end()
    if status == KILLED:
        raise InsufficientMemory(
            f"the process that worked on {name} was killed, most likely for want of memory: free some"
        )
    if status != 0:
        raise ModelLoadFailed(_damaged(name, words))


def _damaged(name: str, words: str) -> str:
    return (
        f"the process that worked on {name} {words}: the file is damaged, or made to do harm; fetch it again, or"
        " convert the model anew"
    )
