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
from typing import NoReturn

from engine import frames
from engine.compiling_intake import CompilingIntake
from engine.core import EngineCore
from engine.errors import ErrorRecord, InternalError, ModelLoadFailed, NibbleError
from engine.events import Accepted
from engine.intake import Intake
from engine.loader import LoadedModel, load
from engine.sequence import Sequence

_logger = logging.getLogger("nibble.worker")
_RECEIVE_BYTES = 1 << 18
# Regular expressions in llama.cpp's pre-tokenisers recurse per character: 50 KB of one letter overflow a usual stack.
_RECEIVING_STACK_BYTES = 256 * 1024 * 1024

_Order = list[Sequence] | int
"""Sequences to run, or the number of a request to cancel."""


class Worker:
    """The two threads and what passes between them."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._splitter = frames.FrameSplitter()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._sending = threading.Lock()

    def run(self) -> NoReturn:
        """Load, then serve until the socket closes. Called on the main thread, which becomes the engine thread."""
        bodies = self._receive()
        configure = frames.decode_to_worker(bodies.pop(0))
        if not isinstance(configure, frames.Configure):
            raise InternalError(f"the first frame is {type(configure).__name__}, not Configure")
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
        # One each for the two threads that read requests.
        make_intake = partial(
            Intake,
            model.vocabulary,
            model.reader,
            context=model.facts.context,
            drafts=model.backend.shares_prefixes and configure.config.speculation,
        )
        threading.Thread(
            target=self._serve_frames, args=(make_intake, bodies), name="intake", daemon=True
        ).start()
        self._send(frames.Ready(model.facts))
        self._run_engine(model)

    # -- the engine thread -----------------------------------------------------------------------------------

    def _run_engine(self, model: LoadedModel) -> NoReturn:
        core = EngineCore(
            model.backend,
            end_tokens=model.vocabulary.end_tokens,
            clock=time.monotonic,
            budget=model.budget,
            prefix_memory_bytes=model.prefix_memory_bytes,
        )
        orders = self._orders
        while True:
            # Block only when there is nothing to compute, so that an idle worker takes no CPU at all.
            while not core.has_work or not orders.empty():
                order = orders.get()
                if isinstance(order, int):
                    core.cancel(order)
                    if not core.has_work:
                        # No step will tell that the place is free.
                        self._send(frames.StepReport([], [], core.stats))
                else:
                    core.add(order)
            self._send(core.step())

    # -- the receiving thread --------------------------------------------------------------------------------

    def _serve_frames(self, make_intake: Callable[[], Intake], bodies: list[bytes]) -> NoReturn:
        try:
            compiling = CompilingIntake(partial(self._read, make_intake()))
            intake = make_intake()
            while True:
                for body in bodies:
                    self._serve(intake, compiling, frames.decode_to_worker(body))
                bodies = self._receive()
        except BaseException:
            # Whatever it is, a worker that no longer listens must not look alive.
            _logger.exception("the receiving thread failed")
            os._exit(3)

    def _serve(self, intake: Intake, compiling: CompilingIntake, frame: frames.ToWorker) -> None:
        match frame:
            case frames.Submit(body=body) if body.constraint is not None:
                compiling.take(frame)
            case frames.Submit():
                if (hand_over := self._read(intake, frame)) is not None:
                    hand_over()
            case frames.Cancel(request=number):
                compiling.withdraw(number)
                self._orders.put(number)
            case frames.Configure():
                raise InternalError("a worker is configured once")

    def _read(self, intake: Intake, frame: frames.Submit) -> Callable[[], None] | None:
        """Prepare a request and tell that it is admitted, or refuse it. Returns what gives it to the engine thread."""
        number = frame.request
        try:
            sequences = intake.sequences(number, frame.body)
        except NibbleError as error:
            self._refuse(number, error)
            return None
        except Exception as error:
            _logger.exception("request %d could not be read", number)
            self._refuse(number, InternalError(f"the request could not be read: {type(error).__name__}"))
            return None
        prompt_tokens = sum(s.prompt_length for s in sequences if s.is_first_choice)
        self._send(frames.Admitted(Accepted(number, prompt_tokens)))
        return partial(self._orders.put, sequences)

    def _refuse(self, number: int, error: NibbleError) -> None:
        self._send(frames.Refused(frames.Failure(number, ErrorRecord.of(error))))

    # -- the socket ------------------------------------------------------------------------------------------

    def _receive(self) -> list[bytes]:
        """Bodies of at least one frame. Ends the process when the server has closed the socket."""
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                # Not sys.exit: the engine thread may be inside a long computation that nobody waits for.
                os._exit(0)
            if bodies := self._splitter.feed(data):
                return bodies

    def _send(self, frame: frames.FromWorker) -> None:
        data = frames.encode(frame)
        try:
            with self._sending:
                self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)


def main() -> NoReturn:
    # The server decides when to stop: a Ctrl-C in its terminal reaches the whole process group, and must not
    # end the worker under a server that still drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    Worker(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
