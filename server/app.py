"""The app, built as data: routers, layers around them, and what happens at its start and end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from generation.events import Usage
from model_registry.engine_handle import StartEngine
from model_registry.jobs.job_queue import JobQueue
from model_registry.jobs.workshop import Workshop
from model_registry.pruning import Pruning
from model_registry.pull.download_tally import DownloadTally
from model_registry.registry import ModelRegistry
from routes.openai import errors
from routes.router import build_routes
from routes.services import Services
from routes.telemetry import Telemetry
from server.access import idle_word, open_keyring
from server.bind_address import is_loopback
from server.keys.api_key import ApiKey
from server.keys.keyring import Keyring
from server.metrics import Metrics
from server.middleware import HostGuard, Middleware, OriginGuard, RequestObserver, stack
from server.prompt_log import PromptLog
from server.request_record import CURRENT
from server.settings import Settings, SettingsError
from server.telemetry_fan import TelemetryFan
from server.usage.ledger import Ledger
from server.usage.usage_store import UsageStore
from server.version import version_of

if TYPE_CHECKING:
    from server.traces.trace_telemetry import TraceTelemetry

EXPOSED_HEADERS = (
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
)
_END_S = 2.0
"""How long requests that were just told to end may take to do so."""


Lifespan = Callable[[], AbstractAsyncContextManager[None]]


class Switch:
    """The whole app: a reload puts other layers around the same routes. Requests that run end in those they came by."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class _Api(FastAPI):
    """FastAPI with the layers of Starlette alone. Its own are for its telemetry, for limits on bodies and for files of
    forms: the first is not wanted here, and the others are done otherwise.
    """

    def build_middleware_stack(self) -> ASGIApp:
        return Starlette.build_middleware_stack(self)


@dataclass(frozen=True, slots=True)
class App:
    """The ASGI app, and the parts of it that whoever runs it talks to."""

    asgi: Switch
    lifespan: Lifespan
    """Within it ``asgi`` may be asked: models load, and all that runs comes to its end."""
    routes: ASGIApp
    """Without the layers."""
    services: Services
    registry: ModelRegistry
    jobs: JobQueue
    metrics: Metrics
    keyring: Keyring

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """Check all that could be wrong with new settings; what is returned makes them count, and cannot fail.

        Blocking, and for any thread; what it returns is for the event loop. Raises SettingsError and ModelNotFound.
        """
        settings.check()
        keys = open_keyring(settings, lambda key, model, usage: None)
        config = settings.registry_config()
        self.registry.check(config)
        layered = stack(self.routes, _layers(settings, self.metrics))
        policy = settings.request_policy()

        def change() -> None:
            self.keyring.become(keys)
            _warn(idle_word(settings, keys))
            self.registry.reconfigure(config)
            self.jobs.reconfigure(config)
            self.services.policy = policy
            self.asgi.app = layered

        return change


def create_app(
    settings: Settings, registry: ModelRegistry, start_engine: StartEngine, local_key: ApiKey | None = None
) -> App:
    """Put the rooms together. Starts nothing: that is the lifespan's part. Raises SettingsError.

    ``start_engine`` is for models that are tried out; ``local_key`` is that of this machine's user.
    """
    metrics = Metrics(
        registry,
        volumes={"data": settings.data_dir, "models": settings.models_path},
        read_downloads=DownloadTally(settings.data_dir).read,
        with_vllm_names=settings.vllm_metrics,
    )
    traces = _open_traces() if settings.traces else None
    ledger = Ledger(UsageStore(settings.data_dir))

    def enter(key: str, model: str, usage: Usage) -> None:
        ledger.enter(key, model, usage)
        metrics.key_spent(key, usage)
        if (record := CURRENT.get()) is not None:
            record.spend(usage)

    keyring = open_keyring(settings, enter, local_key)
    _warn(idle_word(settings, keyring))
    jobs = JobQueue(Workshop(registry, settings.registry_config(), start_engine))
    services = Services(
        registry=registry,
        jobs=jobs,
        pruning=Pruning(settings.registry_config()),
        callers=keyring,
        telemetry=_telemetry(settings, metrics, traces),
        usage=ledger,
        policy=settings.request_policy(),
        render_metrics=metrics.render,
    )

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        await registry.start()
        try:
            yield
        finally:
            await jobs.stop()
            await registry.drain(_END_S)
            await registry.stop()
            await ledger.close()
            if traces is not None:
                await traces.close()

    api = _Api(
        title="Nibble",
        version=version_of(),
        openapi_url=None,  # a route of our own, which may need a key
        docs_url=None,
        redoc_url=None,
        # A redirect would name the scheme that a proxy spoke with us, and send keys in the clear to who follows it.
        redirect_slashes=False,
        # Its own would tell what validation refuses, and so what people write; ours is in server/traces.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.router.routes.extend(build_routes(services))
    errors.install(api)
    switch = Switch(stack(api, _layers(settings, metrics)))
    return App(switch, lifespan, api, services, registry, jobs, metrics, keyring)


def _warn(problem: str | None) -> None:
    if problem is not None:
        log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        log.warning(problem)


def _telemetry(settings: Settings, metrics: Metrics, traces: TraceTelemetry | None) -> Telemetry:
    """Who is told of requests: the metrics alone, unless more was asked for."""
    members: list[Telemetry] = [metrics]
    if traces is not None:
        members.append(traces)
    if settings.log_prompts:
        members.append(PromptLog())
    return TelemetryFan(members) if len(members) > 1 else metrics


def _open_traces() -> TraceTelemetry:
    """Imported only here: a server without traces starts without what they need. Raises SettingsError."""
    try:
        from server.traces.provider import UnservedVariable, open_provider
        from server.traces.trace_telemetry import TraceTelemetry
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"traces need OpenTelemetry's packages, and {error.name} is missing:"
            " run 'pip install \"nibble-server[tracing]\"', or leave out --traces"
        ) from None
    try:
        return TraceTelemetry(open_provider())
    except UnservedVariable as error:
        raise SettingsError(str(error)) from None


def _layers(settings: Settings, metrics: Metrics) -> Sequence[Middleware]:
    """Outermost first."""
    names = (*settings.allowed_hosts, settings.host.strip("[]"))
    layers: list[Middleware] = [
        partial(RequestObserver, metrics=metrics),
        partial(HostGuard, names=names, any_address=not is_loopback(settings.host)),
        partial(OriginGuard, origins=settings.allowed_origins),
    ]
    if settings.allowed_origins:
        layers.append(
            partial(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=("GET", "POST", "PATCH", "DELETE"),
                allow_headers=("*",),
                expose_headers=EXPOSED_HEADERS,
            )
        )
    if settings.traces:
        from server.traces.trace_context import TraceContext

        layers.append(TraceContext)
    return layers
