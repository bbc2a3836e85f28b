"""Measuring a model and its twins, and letting a twin serve in the model's place."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.errors import InsufficientMemory, InvalidRequest, ModelLoadFailed
from engine.measurement import MOST_WAITED, Measured
from engine.quantization_type import QuantizationType
from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.quantize.model_name import twin_name
from model_registry.quantize.new_file import NewFile
from model_registry.quantize.quantization_plan import QuantizationPlan
from model_registry.quantize.quantizer import Quantizer, no_progress
from model_registry.shelf import Shelf
from model_registry.store.model_store import ModelStore
from model_registry.tune.candidates import candidate_types
from model_registry.tune.measuring import Measuring, Room, Stage, measurement, no_room
from model_registry.tune.tuning import Tuning


@dataclass(frozen=True, slots=True)
class _Twin:
    """A file that is a model already, or one that is still to get its name."""

    id: str
    path: Path
    made: tuple[QuantizationPlan, NewFile] | None = None


def _disturbed(name: str, measured: Measured) -> tuple[str, ...]:
    if measured.waited is None or measured.waited <= MOST_WAITED:
        return ()
    return (
        f"the speeds of {name} are too low: it waited for a processor {measured.waited:.0%} of the time, which other"
        " programs had; measure again when nothing else runs",
    )


class Tuner:
    """Blocks, and is cancelled, as ``Quantizer`` is; twins are removed as soon as they are measured."""

    def __init__(self, shelf: Shelf, store: ModelStore, config: RegistryConfig, quantizer: Quantizer) -> None:
        self._shelf = shelf
        self._store = store
        self._config = config
        self._quantizer = quantizer

    def tune(
        self,
        model: Model,
        text: str,
        *,
        types: Sequence[QuantizationType] = (),
        apply: QuantizationType | None = None,
        threads: int | None = None,
        stage: Stage = lambda title, unit: nullcontext(no_progress),
        room: Room = no_room,
        cancel: threading.Event | None = None,
    ) -> Tuning:
        """Measure ``model``, and a twin of each of ``types``; without any, of those that are sensible for its file.

        With ``apply``, the twin of that type is kept as a model and serves in ``model``'s place from then on; without
        ``types`` it is the only one that is measured. A twin that is a model already is measured as it is. What
        cannot be made or measured is left out, with the reason. Raises InvalidRequest, ModelLoadFailed,
        InsufficientMemory, InsufficientDisk, StoreError and QuantizationCancelled; then nothing serves otherwise than
        before.
        """
        source_type = self._quantizer.source_type(model, cancel)
        wanted = dict.fromkeys(types or (candidate_types(source_type) if apply is None else ()))
        if apply is not None:
            # The last one: its file stays until it has its name.
            wanted.pop(apply, None)
            wanted[apply] = None
            if self._existing(model, apply) is None:
                self._quantizer.plan(model, apply.name, allow_requantize=True, cancel=cancel)
        name = source_type.name if source_type else ""
        measuring = Measuring(model.engine_config(self._config), text, stage, cancel, room)
        first = measuring.measure(model.found.path, f"{model.id} {name}".strip())
        tuning = Tuning(
            model=model.id,
            original=measurement(first, first, name, model.found.file_bytes),
            tokens=first.tokens,
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
            build=first.build,
            threads=first.threads,
            measured_at=int(time.time()),
            disturbed=_disturbed(model.id, first),
        )
        for to in wanted:
            try:
                with self._twin(model, to, threads, stage, cancel) as twin:
                    measured = measuring.measure(twin.path, to.name)
                    found = measurement(first, measured, to.name, twin.path.stat().st_size)
                    tuning = msgspec.structs.replace(
                        tuning,
                        twins=(*tuning.twins, found),
                        disturbed=(*tuning.disturbed, *_disturbed(to.name, measured)),
                    )
                    if to == apply:
                        tuning = self._apply(model, twin, tuning, cancel)
            except (InvalidRequest, ModelLoadFailed, InsufficientMemory) as error:
                if to == apply:
                    raise
                left_out = (*tuning.left_out, f"{to.name} is left out: {error.message}")
                tuning = msgspec.structs.replace(tuning, left_out=left_out)
        return tuning

    def revert(self, model: Model) -> str:
        """Let ``model`` serve its requests itself again. Returns its twin's id. Raises InvalidRequest, StoreError."""
        if model.twin is None:
            raise InvalidRequest(f"'{model.id}' serves its requests itself: there is nothing to go back from")
        self._store.set_twin(model.id, None)
        return model.twin.id

    def _existing(self, model: Model, to: QuantizationType) -> Model | None:
        """A model that was made of this one before, in that type and under the name of that."""
        name = twin_name(model.id, to)
        if not self._shelf.knows(name):
            return None
        twin = self._shelf.named(name)
        known = twin.file_record
        return twin if known is not None and known.parent == model.id else None

    @contextmanager
    def _twin(
        self,
        model: Model,
        to: QuantizationType,
        threads: int | None,
        stage: Stage,
        cancel: threading.Event | None,
    ) -> Generator[_Twin]:
        existing = self._existing(model, to)
        if existing is not None:
            yield _Twin(existing.id, existing.found.path)
            return
        name = twin_name(model.id, to)
        plan = self._quantizer.plan_file(
            model, to, self._quantizer.target(name), allow_requantize=True, cancel=cancel
        )
        with ExitStack() as files:
            with stage(f"making {to.name}", "bytes") as progress:
                new = files.enter_context(
                    self._quantizer.written(plan, threads=threads, progress=progress, cancel=cancel)
                )
            yield _Twin(name, new.path, (plan, new))

    def _apply(self, model: Model, twin: _Twin, tuning: Tuning, cancel: threading.Event | None) -> Tuning:
        if twin.made is not None:
            self._quantizer.keep(*twin.made, cancel=cancel)
        applied = msgspec.structs.replace(tuning, twin_id=twin.id)
        self._store.set_twin(model.id, applied.twin_record)
        return applied
