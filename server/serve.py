"""``nibble serve``: from settings to a process that serves, and its exit status."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import NibbleError
from model_registry.engine_handle import StartEngine
from model_registry.registry import ModelRegistry
from server.access import open_keyring
from server.banner import Banner
from server.bind_address import BindError, bind, url_of
from server.service_manager import notify
from server.settings import Settings, SettingsError, load_settings, unknown_variables

if TYPE_CHECKING:
    import uvicorn

    from server.app import App
    from server.doorstep import Doorstep
    from server.http_protocol import HttpProtocol
    from server.keys.api_key import ApiKey
    from server.process import ServerProcess
    from server.reload import Reloader


class StartError(Exception):
    """The server cannot start; the message is one line that names the mend."""


def run(
    settings: Settings,
    start_engine: StartEngine,
    reread: Callable[[], Settings] | None = None,
    when_loaded: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a signal ends it; the exit status. Raises StartError before anything is served.

    ``start_engine`` is how models are loaded. ``reread`` is how SIGHUP reads the settings anew; None means that nothing
    was given but file and environment. ``when_loaded`` is called once all is loaded that is at a start.
    """
    try:
        settings.check()
        # Before anything listens; the app opens them again, to follow their changes.
        open_keyring(settings, lambda key, model, usage: None)
        check_build()
        # First the socket: a port in use is known before anything slow is imported or loaded.
        bound = bind(settings.host, settings.port)
    except (SettingsError, BindError) as error:
        raise StartError(str(error)) from None
    with bound:
        return _serve(settings, bound, start_engine, reread or load_settings, when_loaded)


def check_build() -> None:
    """Whether llama.cpp was built, told by its files: loading it is the worker's part. Raises StartError."""
    mend = "run 'make setup', which builds it (a C and C++ compiler and CMake are needed)"
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise StartError(f"llama-cpp-python is not installed: {mend}")
    libraries = Path(spec.origin).parent / "lib"
    if not any(libraries.glob("*llama.*")):
        raise StartError(f"llama-cpp-python is installed without its library: {mend}")


def _serve(
    settings: Settings,
    bound: socket.socket,
    start_engine: StartEngine,
    reread: Callable[[], Settings],
    when_loaded: Callable[[], None],
) -> int:
    # Imported late: what a person is most likely to have got wrong was told without waiting for these.
    from server.log import configure_log

    configure_log(settings.log_format, settings.log_level)
    with suppress(OSError):
        # So that a model which is pulled later is seen; where it cannot be made, pulling says so.
        settings.models_path.mkdir(parents=True, exist_ok=True)
    registry = ModelRegistry(settings.registry_config(), start_engine)
    try:
        registry.scan()
    except NibbleError as error:
        raise StartError(error.message) from None
    announcer = Announcer(settings, registry, url_of(bound))
    announcer.starting()
    with _local_key(settings, url_of(bound)) as local_key:
        start = _Start(settings, registry, start_engine, reread, when_loaded, announcer, local_key)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(start.serve(bound))


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


@dataclass(frozen=True, slots=True)
class _Start:
    """The part of a start in which models load already."""

    settings: Settings
    registry: ModelRegistry
    start_engine: StartEngine
    reread: Callable[[], Settings]
    when_loaded: Callable[[], None]
    announcer: Announcer
    local_key: ApiKey | None

    async def serve(self, bound: socket.socket) -> int:
        """Serve on ``bound`` until a signal ends it; the exit status. Raises StartError.

        What the API is made of takes about as long to import as the model to load: one goes on beside the other, and
        the server says meanwhile that it lives.
        """
        await self.registry.start()
        try:
            # On a thread, as all that is imported, so that the load goes on.
            listener = await asyncio.to_thread(_Listener.of, self.settings, self.registry)
        except BaseException:
            await self.registry.stop()
            raise
        failure: StartError | None = None

        async def open_up() -> None:
            nonlocal failure
            try:
                await self._open(listener)
            except StartError as error:
                failure = error
                listener.process.leave(1)
            finally:
                listener.doorstep.shut()

        listener.process.when_started(open_up)
        await listener.process.serve(sockets=[bound])
        if failure is not None:
            await self.registry.stop()
            raise failure
        return listener.process.exit_code

    async def _open(self, listener: _Listener) -> None:
        """Import the rest of the server, have it answer, and tell when all is loaded."""
        app, reloader = await asyncio.to_thread(self._build, listener)
        await listener.doorstep.open(app.asgi, app.lifespan())
        listener.process.take(app)
        listener.process.when_hung_up(reloader.reload)
        await self.registry.preloaded()
        self.when_loaded()
        if self.announcer.loaded():
            notify("READY=1")
            reloader.is_announced = True
        else:
            listener.process.leave(1)

    def _build(self, listener: _Listener) -> tuple[App, Reloader]:
        from server.lean_imports import import_fastapi

        import_fastapi()
        from server.app import create_app
        from server.reload import Reloader

        try:
            app = create_app(self.settings, self.registry, self.start_engine, self.local_key)
        except SettingsError as error:
            raise StartError(str(error)) from None

        def set_receipt_limits(changed: Settings) -> None:
            listener.protocol.limits = changed.receipt_limits()

        return app, Reloader(self.settings, self.reread, app, listener.process, set_receipt_limits)


@dataclass(frozen=True, slots=True)
class _Listener:
    """What answers before there is an app, and for it from then on."""

    doorstep: Doorstep
    protocol: type[HttpProtocol]
    process: ServerProcess

    @classmethod
    def of(cls, settings: Settings, registry: ModelRegistry) -> _Listener:
        from server.doorstep import Doorstep
        from server.http_protocol import protocol_with
        from server.process import ServerProcess

        doorstep = Doorstep()
        protocol = protocol_with(settings.receipt_limits())
        config = _uvicorn_config(doorstep, protocol)
        return cls(doorstep, protocol, ServerProcess(config, registry, settings.drain_s))


@contextmanager
def _local_key(settings: Settings, url: str) -> Generator[ApiKey | None]:
    """The key of this user's commands; None, and a warning, where the data directory cannot be written."""
    import structlog

    from server.local_access import announced

    with ExitStack() as stack:
        key = None
        try:
            key = stack.enter_context(announced(settings.data_dir, url))
        except OSError as error:
            structlog.get_logger().warning(
                "commands such as nibble ps need NIBBLE_ADMIN_KEY: the data directory cannot be written",
                reason=str(error),
            )
        yield key


def _uvicorn_config(doorstep: Doorstep, protocol: type[HttpProtocol]) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        doorstep,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,  # written by RequestObserver: uvicorn's takes a clock that never sleeps
        proxy_headers=False,
        # What is left to wait for when the drain is over: bytes on their way to clients.
        timeout_graceful_shutdown=5,
    )


class Announcer:
    """Tells the person at the terminal, or the log where JSON was asked for, how the start goes."""

    def __init__(self, settings: Settings, registry: ModelRegistry, url: str) -> None:
        import structlog

        self._registry = registry
        self._url = url
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        # Somebody who asks for JSON reads with a machine, which a banner between the lines would disturb.
        self._banner = None if settings.log_format == "json" else Banner()

    def starting(self) -> None:
        for problem in (*unknown_variables(), *self._registry.problems):
            self._log.warning(problem)
        if self._banner:
            self._banner.starting(self._url, self._registry.preload)
        else:
            self._log.info("starting", url=self._url, loading=list(self._registry.preload))

    def loaded(self) -> bool:
        """Tell what came of the preload. False if there is nothing left that could be served."""
        from engine.memory import available_bytes

        cards = self._registry.cards()
        for card in cards:
            if card.state == "failed" and card.adapter is None:
                self._log.error("a model cannot be served", model=card.id, reason=card.failure)
        if self._registry.is_hopeless:
            return False
        if self._banner:
            self._banner.ready(self._url, cards, available_bytes())
        else:
            self._log.info(
                "ready", url=self._url, models=[card.id for card in cards if card.state == "ready"]
            )
        return True
