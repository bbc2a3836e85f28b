"""Measuring files of one model on one text, each in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from engine.config import EngineConfig
from engine.errors import ModelLoadFailed
from engine.measurement import Line, Measure, Measured
from engine.perplexity import perplexity, perplexity_ratio
from model_registry.quantize.native_job import heard
from model_registry.quantize.quantizer import Progress
from model_registry.store.twin_record import Measurement

_MODULE = "engine.measurement"
_DECODER = msgspec.json.Decoder(Line)
Unit = Literal["bytes", "tokens"]
Stage = Callable[[str, Unit], AbstractContextManager[Progress]]
"""Begins one piece of the work, which the text names; its progress is told of so many of the unit."""
Room = Callable[[Path], AbstractContextManager[None]]
"""Keeps memory for the process that measures a file, within."""


def no_room(path: Path) -> AbstractContextManager[None]:
    """For whoever shares the memory with nobody."""
    return nullcontext()


class Measuring:
    """Blocks; ends by QuantizationCancelled within a moment of ``cancel`` being set."""

    def __init__(
        self,
        config: EngineConfig,
        text: str,
        stage: Stage,
        cancel: threading.Event | None = None,
        room: Room = no_room,
    ) -> None:
        """``config`` is how the model would be served, of which threads and cache type count here."""
        self._config = config
        self._text = text
        self._stage = stage
        self._cancel = cancel
        self._room = room

    def measure(self, path: Path, title: str) -> Measured:
        """What the file at ``path`` is worth. A hostile one ends the process that measures it, and nothing else.

        Raises InvalidRequest for a text that is too short, ModelLoadFailed, InsufficientMemory and
        QuantizationCancelled.
        """
        config = msgspec.structs.replace(self._config, model_path=str(path))
        with self._stage(f"measuring {title}", "tokens") as progress, self._room(path):
            lines = heard(_MODULE, Measure(config, self._text), _DECODER, name=path.name, cancel=self._cancel)
            with closing(lines):
                for line in lines:
                    if isinstance(line, Measured):
                        return line
                    progress(line.tokens, line.whole)
        raise ModelLoadFailed(f"nothing was told of {path.name}: try again")


def measurement(original: Measured, measured: Measured, quantisation: str, file_bytes: int) -> Measurement:
    """What was ``measured`` of a file, compared with the ``original`` on the same tokens."""
    scores = np.array(measured.scores)
    ratio, error = perplexity_ratio(np.array(original.scores), scores)
    return Measurement(
        quantisation=quantisation,
        file_bytes=file_bytes,
        memory_bytes=measured.memory_bytes,
        prefill=measured.prefill,
        decode_1=measured.decode_1,
        decode_8=measured.decode_8,
        perplexity=perplexity(scores),
        perplexity_ratio=ratio,
        ratio_error=error,
    )
