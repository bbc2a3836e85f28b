"""The worker process of one model: ``python -m engine.worker FD``, with one end of a socket pair as FD.

The receiving thread reads frames, renders, tokenises and validates; the engine thread owns the context and does
nothing but steps. Between them is a queue; no lock is taken while the model computes. Requests with a constraint
take a side track, since compiling one may take a second. The process ends when the socket does, so it never
outlives the server.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from engine import frames
from engine.adapter_desk import AdapterDesk
from engine.adapter_rack import AdapterOrder
from engine.config import SAVE_LIMIT_S, EngineConfig
from engine.confinement import Confinement
from engine.core import EngineCore
from engine.disk.directory import PrefixDirectory
from engine.disk.label import write_label
from engine.disk.tier import DiskTier, Fetched
from engine.embedding_core import EmbeddingCore, EmbeddingJob
from engine.embedding_loader import LoadedEmbedder
from engine.errors import ErrorRecord, InternalError, ModelLoadFailed, NibbleError
from engine.intake import Intake
from engine.loader import LoadedModel, load
from engine.native import library
from engine.patience import Patience
from engine.reception import Reception, TextReception, VectorReception
from engine.sequence import Sequence

_logger = logging.getLogger("nibble.worker")
_RECEIVE_BYTES = 1 << 18
# Regular expressions in llama.cpp's pre-tokenisers recurse per character: 50 KB of one letter overflow a usual stack.
_RECEIVING_STACK_BYTES = 256 * 1024 * 1024

_QUEUE_SHARE = 4
"""Of the memory for prefixes, so much again at most waits to be written to disk."""
_END_GRACE_S = 1.0
_SWITCH_S = 0.0005
"""How long the receiving thread may keep the interpreter from the engine thread, which wants it after each step. By
default it is 5 ms, of steps of 20 to 40: at 16 clients that was 2 % of the rate."""


class _End:
    """The server is gone."""


_Order = list[Sequence] | EmbeddingJob | int | Fetched | AdapterOrder | _End
"""What to run, the number of a request to cancel, a prefix that was read from disk, an adapter, or the end."""


class Worker:
    """The two threads and what passes between them."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._splitter = frames.FrameSplitter()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._saves_at_end = False

    def run(self) -> NoReturn:
        """Load, then serve until the socket closes. Called on the main thread, which becomes the engine thread."""
        bodies = self._receive()
        configure = frames.decode_to_worker(bodies.pop(0))
        if not isinstance(configure, frames.Configure):
            raise InternalError(f"the first frame is {type(configure).__name__}, not Configure")
        confinement = Confinement(configure.config, has_gpu=library.has_gpu())
        confinement.begin()
        try:
            model = load(configure.config)
        except NibbleError as error:
            self._send(frames.LoadFailed(ErrorRecord.of(error)))
            sys.exit(1)
        except Exception as error:
            _logger.exception("loading failed")
            self._send(frames.LoadFailed(ErrorRecord.of(ModelLoadFailed(f"loading failed: {error}"))))
            sys.exit(1)
        threading.stack_size(_RECEIVING_STACK_BYTES)
        match model:
            case LoadedModel():
                self._generate(configure.config, model, confinement, bodies)
            case LoadedEmbedder():
                self._embed(model, confinement, bodies)

    def _generate(
        self, config: EngineConfig, model: LoadedModel, confinement: Confinement, bodies: list[bytes]
    ) -> NoReturn:
        disk = self._open_disk(config, model)
        self._saves_at_end = disk is not None
        make_intake = partial(
            Intake,
            model.vocabulary,
            model.reader,
            context=model.facts.context,
            drafts=model.backend.shares_prefixes and config.speculation,
            adapters=model.adapters,
        )
        adapters = AdapterDesk(model.adapters, self._orders.put)
        self._listen(
            partial(TextReception, model.desk, self._send, make_intake, adapters, self._orders.put), bodies
        )
        confinement.bound_memory(model.prefix_memory_bytes)
        self._send(frames.Ready(model.facts))
        self._run_engine(model, disk)

    def _embed(self, model: LoadedEmbedder, confinement: Confinement, bodies: list[bytes]) -> NoReturn:
        self._listen(partial(VectorReception, model.desk, self._send, model.intake, self._orders.put), bodies)
        confinement.bound_memory(0)
        self._send(frames.Ready(model.facts))
        self._run_embedder(model)

    def _open_disk(self, config: EngineConfig, model: LoadedModel) -> DiskTier | None:
        """The disk tier, if there is to be one and its directory can be used."""
        if model.disk_key is None:
            return None
        root = Path(config.prefix_disk_path)
        directory = PrefixDirectory(root, model.disk_key, config.prefix_disk_bytes)
        try:
            directory.open()
        except OSError as error:
            _logger.warning("prefixes of %s are not kept on disk: %s", config.model_id, error)
            return None
        write_label(root, model.disk_key, Path(config.model_path))
        queue_bytes = model.prefix_memory_bytes // _QUEUE_SHARE
        disk = DiskTier(directory, deliver=self._orders.put, queue_bytes=queue_bytes)
        disk.start()
        return disk

    # -- the engine thread -----------------------------------------------------------------------------------

    def _run_engine(self, model: LoadedModel, disk: DiskTier | None) -> NoReturn:
        core = EngineCore(
            model.backend,
            end_tokens=model.vocabulary.end_tokens,
            clock=time.monotonic,
            budget=model.budget,
            prefix_memory_bytes=model.prefix_memory_bytes,
            disk=disk,
            draft_model=model.draft_model,
            tell_begun=self._tell_begun,
        )
        orders = self._orders
        patience = Patience(model.facts.threads, library.set_patience)
        while True:
            # Block only when there is nothing to compute, so that an idle worker takes no CPU at all.
            while not core.has_work or not orders.empty():
                self._obey(core, orders.get())
            self._send(core.step())
            core.free_adapters()
            patience.after_step()

    def _obey(self, core: EngineCore, order: _Order) -> None:
        match order:
            case int():
                core.cancel(order)
                core.free_adapters()
                if not core.has_work:
                    # No step will tell that the place is free.
                    self._send(frames.StepReport([], [], core.stats))
            case list():
                if failures := core.add(order):
                    self._send(frames.StepReport([], failures, core.stats))
            case AdapterOrder():
                if failures := core.adapt(order):
                    self._send(frames.StepReport([], failures, core.stats))
            case Fetched():
                core.take(order)
            case _End():
                try:
                    core.save_prefixes(SAVE_LIMIT_S)
                except Exception:
                    _logger.exception("the prefixes are not all saved")
                os._exit(0)

            case EmbeddingJob():
                raise InternalError("vectors are asked of a model that generates text")

    def _run_embedder(self, model: LoadedEmbedder) -> NoReturn:
        core = EmbeddingCore(model.backend, tell_begun=self._tell_begun)
        orders = self._orders
        patience = Patience(model.facts.threads, library.set_patience)
        while True:
            while not core.has_work or not orders.empty():
                match orders.get():
                    case EmbeddingJob() as job:
                        core.add(job)
                    case int() as number:
                        core.cancel(number)
                        if not core.has_work:
                            self._send(frames.EmbeddingReport([], [], core.stats))
                    case order:
                        raise InternalError(f"a model that makes vectors is given {type(order).__name__}")
            self._send(core.step())
            patience.after_step()

    # -- the receiving thread --------------------------------------------------------------------------------

    def _listen(self, make_reception: Callable[[], Reception], bodies: list[bytes]) -> None:
        threading.Thread(
            target=self._serve_frames, args=(make_reception, bodies), name="intake", daemon=True
        ).start()

    def _serve_frames(self, make_reception: Callable[[], Reception], bodies: list[bytes]) -> NoReturn:
        try:
            reception = make_reception()
            while True:
                for body in bodies:
                    reception.take(frames.decode_to_worker(body))
                bodies = self._receive()
        except BaseException:
            # Whatever it is, a worker that no longer listens must not look alive.
            _logger.exception("the receiving thread failed")
            os._exit(3)

    # -- the socket ------------------------------------------------------------------------------------------

    def _receive(self) -> list[bytes]:
        """Bodies of at least one frame. Ends the process when the server has closed the socket."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except ConnectionResetError:
                # Closed with something of ours unread.
                data = b""
            if not data:
                self._end()
            if bodies := self._splitter.feed(data):
                return bodies

    def _end(self) -> NoReturn:
        """End the process, with time to save prefixes if they are kept. Called on the receiving thread."""
        if self._saves_at_end:
            self._orders.put(_End())
            # The engine thread ends the process, unless it is inside a long computation or the disk hangs.
            time.sleep(SAVE_LIMIT_S + _END_GRACE_S)
        # Not sys.exit: nobody waits for what the other threads do.
        os._exit(0)

    def _tell_begun(self, requests: list[int]) -> None:
        self._send(frames.Begun(requests))

    def _send(self, frame: frames.FromWorker) -> None:
        data = frames.encode(frame)
        try:
            with self._sending:
                self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # The receiving thread learns of it too, and then there may be something to save.
            if not self._saves_at_end:
                os._exit(0)


def main() -> NoReturn:
    # The server decides when to stop: a Ctrl-C in its terminal reaches the whole process group, and must not
    # end the worker under a server that still drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(_SWITCH_S)
    Worker(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
