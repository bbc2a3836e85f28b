"""``nibble serve``: from settings to a process that serves, and its exit status."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import NibbleError
from model_registry.engine_handle import EngineHandle, StartEngine
from model_registry.registry import ModelRegistry
from server.banner import Banner
from server.bind_address import BindError, bind, url_of
from server.settings import Settings, SettingsError, unknown_variables


class StartError(Exception):
    """The server cannot start; the message is one line that names the mend."""


def run(settings: Settings, start_engine: StartEngine | None = None) -> int:
    """Serve until a signal ends it; the exit status. Raises StartError before anything is served.

    ``start_engine`` is how models are loaded; None means by the engine room's workers.
    """
    try:
        settings.check()
        check_build()
        # First the socket: a port in use is known before anything slow is imported or loaded.
        bound = bind(settings.host, settings.port)
    except (SettingsError, BindError) as error:
        raise StartError(str(error)) from None
    with bound:
        return _serve(settings, bound, start_engine)


def check_build() -> None:
    """Whether llama.cpp was built, told by its files: loading it is the worker's part. Raises StartError."""
    mend = "run 'make setup', which builds it (a C and C++ compiler and CMake are needed)"
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise StartError(f"llama-cpp-python is not installed: {mend}")
    libraries = Path(spec.origin).parent / "lib"
    if not any(libraries.glob("*llama.*")):
        raise StartError(f"llama-cpp-python is installed without its library: {mend}")


def _serve(settings: Settings, bound: socket.socket, start_engine: StartEngine | None) -> int:
    # Imported late: what a person is most likely to have got wrong was told without waiting for these.
    import uvicorn

    from server.log import configure_log

    configure_log(settings.log_format, settings.log_level)
    registry = ModelRegistry(settings.registry_config(), start_engine or _start_engine)
    try:
        registry.scan()
    except NibbleError as error:
        raise StartError(error.message) from None
    announcer = Announcer(settings, registry, url_of(bound))
    announcer.starting()

    from server.app import create_app
    from server.process import ServerProcess

    app = create_app(settings, registry)
    config = uvicorn.Config(
        app.asgi,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # What is left to wait for when the drain is over: bytes on their way to clients.
        timeout_graceful_shutdown=5,
    )
    server = ServerProcess(config, app, settings.drain_s)

    async def announce() -> None:
        await registry.preloaded()
        if not announcer.loaded():
            server.leave(1)

    server.when_started(announce)
    server.run(sockets=[bound])
    return server.exit_code


async def _start_engine(config: EngineConfig) -> EngineHandle:
    # Imported by the first load: what is told before it does not wait for the engine room.
    from engine.engine import Engine

    return await Engine.start(config)


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
            if card.state == "failed":
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
