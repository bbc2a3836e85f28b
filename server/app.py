"""The app, built as data: routers, layers around them, and what happens at its start and end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from model_registry.registry import ModelRegistry
from routes.openai import errors
from routes.router import build_router
from routes.services import Services
from server.bind_address import is_loopback
from server.metrics import Metrics
from server.middleware import HostGuard, Middleware, OriginGuard, RequestObserver, stack
from server.settings import Settings
from server.version import version_of

_END_S = 2.0
"""How long requests that were just told to end may take to do so."""


@dataclass(frozen=True, slots=True)
class App:
    """The ASGI app, and the parts of it that whoever runs it talks to."""

    asgi: ASGIApp
    services: Services
    registry: ModelRegistry
    metrics: Metrics


def create_app(settings: Settings, registry: ModelRegistry) -> App:
    """Put the rooms together. Starts nothing: that is the lifespan's part."""
    metrics = Metrics(registry)
    services = Services(
        registry=registry, telemetry=metrics, policy=settings.request_policy(), render_metrics=metrics.render
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await registry.start()
        try:
            yield
        finally:
            await registry.drain(_END_S)
            await registry.stop()

    api = FastAPI(
        title="Nibble",
        version=version_of(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    api.include_router(build_router(services))
    errors.install(api)
    return App(stack(api, _layers(settings, metrics)), services, registry, metrics)


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
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("*",),
                expose_headers=("x-request-id", "retry-after"),
            )
        )
    return layers
