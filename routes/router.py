"""All routes in one flat table, each behind its authorisation."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from routes import document, health, metrics
from routes.admin import jobs, new_jobs, origins, prune, residence, usage
from routes.admin import models as admin_models
from routes.authorization import Access, Admit, authorization
from routes.head import head_of
from routes.llama_cpp import router as llama_cpp
from routes.openai import models, rerank
from routes.openai.chat import router as chat
from routes.openai.completions import router as completions
from routes.openai.embeddings import router as embeddings
from routes.services import Services

ROOMS: Final[dict[Access, tuple[ModuleType, ...]]] = {
    "inference": (chat, completions, embeddings, models, rerank, llama_cpp),
    "public": (health,),
    "diagnostics": (metrics, document),
    "admin": (usage, admin_models, residence, new_jobs, jobs, origins, prune),
}
"""Who may call what; tests/server/test_authorization.py calls every route without a key, and with the wrong one.

In the order in which a request is compared with them, which FastAPI does one after the other: the busiest first.
"""


def build_routes(services: Services) -> list[BaseRoute]:
    """Every route of the server, for the table of the app. ``routes.openai.errors.install`` belongs on that app.

    One table: of routers within routers FastAPI looks through each level twice for every request.
    """
    table: list[BaseRoute] = []
    heads: list[BaseRoute] = []
    for access, rooms in ROOMS.items():
        admit = authorization(access, services)
        for room in rooms:
            for route in room.build_router(services).routes:
                table.append(_admitted(route, admit))
                if "GET" in route.methods:
                    heads.append(_admitted(head_of(route), admit))
    # Last: what is asked for all the time is not compared with them.
    return table + heads


def _admitted(route: APIRoute, admit: Admit) -> APIRoute:
    """``route``, called by whom ``admit`` lets pass.

    Its handler takes the request and returns the answer. FastAPI documents it; to find out, for each request, that
    it has nothing to solve and to serialise would take FastAPI longer than many an answer takes. What it raises is
    answered by the handlers of the app, as what every other part of it raises.
    """
    answer = route.endpoint

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        await admit(request)
        answered: Response = await answer(request)
        await answered(scope, receive, send)

    route.app = app
    return route
