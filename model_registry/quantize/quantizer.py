"""Quantising a model of the shelf into a new one, whose parent is remembered."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engine.disk.file_system import FileSystem
from engine.errors import InvalidRequest, ModelLoadFailed
from engine.quantization import Line, Planned, Quantize, Written
from engine.quantization_type import (
    QUANTIZATION_TYPES,
    QuantizationType,
    quantization_type,
)
from engine.threads import choose_threads
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.file_digest import file_digest
from model_registry.model import Model
from model_registry.model_import import try_out
from model_registry.quantize.model_name import checked_name, twin_name
from model_registry.quantize.native_job import heard
from model_registry.quantize.new_file import NewFile, sweep
from model_registry.quantize.quantization_cancelled import QuantizationCancelled
from model_registry.quantize.quantization_plan import QuantizationPlan, plan_of, source_type
from model_registry.shelf import Shelf
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import FoundModel
from model_registry.store.model_record import FileRecord
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError

_logger = logging.getLogger("nibble.registry")
_MODULE = "engine.quantization"
_DECODER = msgspec.json.Decoder(Line)
Progress = Callable[[int, int | None], None]
"""Bytes that are written, and bytes that there will be."""


def no_progress(done: int, whole: int | None) -> None:
    """For whoever does not want to know."""


class Quantizer:
    """Blocks: call it from a thread, in which no event loop runs, and keep one instance to it.

    ``cancel``, an event that any thread may set, ends a call within a moment by QuantizationCancelled, and so does an
    exception from ``progress``; either way the process is gone and no file is left. What native code does, it does in
    processes that may die of a file: then ModelLoadFailed names the mend.
    """

    def __init__(
        self,
        shelf: Shelf,
        store: ModelStore,
        config: RegistryConfig,
        models_dir: Path,
        start_engine: StartEngine,
        *,
        system: FileSystem | None = None,
    ) -> None:
        """``models_dir`` is where new models go; ``start_engine`` tries them out."""
        self._shelf = shelf
        self._store = store
        self._config = config
        self._models_dir = models_dir
        self._start_engine = start_engine
        self._system = system or FileSystem()

    def quantize(
        self,
        model: Model,
        to: str,
        *,
        name: str | None = None,
        allow_requantize: bool = False,
        imatrix: Path | None = None,
        threads: int | None = None,
        progress: Progress = no_progress,
        cancel: threading.Event | None = None,
    ) -> FileRecord:
        """Plan and carry out at once; see ``plan``, ``written`` and ``keep``."""
        plan = self.plan(
            model, to, name=name, allow_requantize=allow_requantize, imatrix=imatrix, cancel=cancel
        )
        with self.written(plan, threads=threads, progress=progress, cancel=cancel) as new:
            return self.keep(plan, new, cancel=cancel)

    def plan(
        self,
        model: Model,
        to: str,
        *,
        name: str | None = None,
        allow_requantize: bool = False,
        imatrix: Path | None = None,
        cancel: threading.Event | None = None,
    ) -> QuantizationPlan:
        """What would be made of ``model``, whose parts become one file; ``name`` is the new one's, without ``.gguf``,
        and ``imatrix`` a file of llama-imatrix, which some types need and most are better with.

        Raises InvalidRequest (a type that is none, or that the file has already; a name that is taken; a file that is
        quantised already, unless ``allow_requantize``; an importance matrix that is none, or not this model's, or of
        no use), ModelLoadFailed, InsufficientDisk and QuantizationCancelled.
        """
        kind = quantization_type(to, is_weighed=imatrix is not None)
        stem = checked_name(name) if name is not None else twin_name(model.id, kind)
        self._check_free(stem)
        return self.plan_file(
            model,
            kind,
            self.target(stem),
            allow_requantize=allow_requantize,
            imatrix=imatrix and imatrix.expanduser().absolute(),
            cancel=cancel,
        )

    def target(self, stem: str) -> Path:
        """Where the new model of that name will be."""
        return self._models_dir / f"{stem}.gguf"

    def source_type(self, model: Model, cancel: threading.Event | None = None) -> QuantizationType | None:
        """What ``model``'s file says of itself. Raises ModelLoadFailed and QuantizationCancelled."""
        return source_type(self._planned(model, QUANTIZATION_TYPES["F16"], cancel))

    def plan_file(
        self,
        model: Model,
        to: QuantizationType,
        target: Path,
        *,
        allow_requantize: bool,
        imatrix: Path | None = None,
        cancel: threading.Event | None = None,
    ) -> QuantizationPlan:
        """The same of a file that need not become a model. What killed processes have left there is removed."""
        sweep(target.parent)
        found = model.found
        planned = self._planned(model, to, cancel, imatrix)
        plan = plan_of(
            planned,
            model=model.id,
            source=found.path,
            source_bytes=found.file_bytes,
            to=to,
            target=target,
            imatrix=imatrix,
        )
        if plan.source_type == to or all(tensor.before == tensor.after for tensor in planned.tensors):
            raise InvalidRequest(f"{model.id} is {to.name} already: choose another type", param="to")
        if plan.is_requantized and not allow_requantize:
            raise InvalidRequest(
                f"{plan.cost}. If that is what you want, allow it (allow_requantize, or --allow-requantize)",
                param="allow_requantize",
            )
        plan.check_disk()
        return plan

    @contextmanager
    def written(
        self,
        plan: QuantizationPlan,
        *,
        threads: int | None = None,
        progress: Progress = no_progress,
        cancel: threading.Event | None = None,
    ) -> Generator[NewFile]:
        """The new file, whole and without its name yet. It is removed in the end, unless it was kept.

        ``progress`` is told after each tensor. Raises ModelLoadFailed, InsufficientDisk, InsufficientMemory,
        InvalidRequest while another process makes the same, and QuantizationCancelled.
        """
        new = NewFile(plan.target, self._system)
        new.begin()
        try:
            order = msgspec.structs.replace(
                self._order(plan.source, plan.source_bytes, plan.to, plan.imatrix),
                target=str(new.path),
                threads=choose_threads(threads).count,
            )
            done = (0, *itertools.accumulate(plan.tensor_bytes))
            progress(0, done[-1])
            for line in self._heard(order, cancel):
                if isinstance(line, Written):
                    progress(done[min(line.tensors, len(done) - 1)], done[-1])
            yield new
        finally:
            new.close()

    def keep(
        self, plan: QuantizationPlan, new: NewFile, *, cancel: threading.Event | None = None
    ) -> FileRecord:
        """Try the new file out, remember where it is from, and give it its name; what is known of it then.

        Its record is written first: until the file has its name it tells of nothing, and so does one that stayed
        behind. Raises ModelLoadFailed, InsufficientMemory, InsufficientDisk, InvalidRequest and StoreError, and then
        there is no new model.
        """
        model_id = plan.target.stem.lower()
        stat = new.path.stat()
        found = FoundModel(
            id=model_id,
            path=new.path,
            file_bytes=stat.st_size,
            created=int(stat.st_mtime),
            changed_ns=stat.st_mtime_ns,
            owned_by="local",
        )
        parent = self._shelf.named(plan.model).file_record
        candidate = Model(found, DirectorySource(self._models_dir))
        told = asyncio.run(try_out(candidate, self._config, self._start_engine))
        digest = told.sha256 or file_digest(new.path)
        record = msgspec.structs.replace(
            told,
            path=str(plan.target),
            parent=plan.model,
            licence=parent.licence if parent else "",
        )
        if cancel is not None and cancel.is_set():
            raise QuantizationCancelled
        self._check_free(plan.target.stem)
        self._store.set_file(model_id, record)
        try:
            new.finish(digest)
        except BaseException:
            with suppress(StoreError):
                self._store.forget_file(model_id)
            raise
        changed_ns = plan.target.stat().st_mtime_ns
        if changed_ns != record.mtime_ns:
            # The same bytes were here under another name, and it is those that have this one, too.
            record = msgspec.structs.replace(record, mtime_ns=changed_ns)
            self._store.set_file(model_id, record)
        _logger.info("%s was made of %s", model_id, plan.model)
        return record

    def _check_free(self, stem: str) -> None:
        """Raises InvalidRequest if a model or a file has the name already."""
        if self._shelf.knows(stem.lower()) or self.target(stem).exists():
            raise InvalidRequest(
                f"there is '{stem.lower()}' already: choose another name (name, or --name), or delete that one first",
                param="name",
            )

    def _order(self, source: Path, source_bytes: int, to: QuantizationType, imatrix: Path | None) -> Quantize:
        return Quantize(
            source=str(source),
            source_bytes=source_bytes,
            to=to.name,
            threads=1,
            imatrix=str(imatrix or ""),
            # Who does not want that is refused by the plan, which tells more of it than llama.cpp does.
            allow_requantize=True,
        )

    def _planned(
        self,
        model: Model,
        to: QuantizationType,
        cancel: threading.Event | None,
        imatrix: Path | None = None,
    ) -> Planned:
        if model.found.failure is not None:
            raise ModelLoadFailed(model.found.failure)
        model.source.check(model.found)
        order = self._order(model.found.path, model.found.file_bytes, to, imatrix)
        (planned,) = (line for line in self._heard(order, cancel) if isinstance(line, Planned))
        return planned

    def _heard(self, order: Quantize, cancel: threading.Event | None) -> Generator[Planned | Written]:
        files = [Path(file).name for file in (order.source, order.imatrix) if file]
        return heard(_MODULE, order, _DECODER, name=" with ".join(files), cancel=cancel)
