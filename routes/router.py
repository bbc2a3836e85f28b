"""All routes in one."""

from __future__ import annotations

from fastapi import APIRouter

from routes import health, metrics
from routes.openai import models
from routes.openai.chat import router as chat
from routes.openai.completions import router as completions
from routes.services import Services


def build_router(services: Services) -> APIRouter:
    """Every route of the server. ``routes.openai.errors.install`` belongs on the app that includes it."""
    router = APIRouter()
    for room in (health, metrics, models, chat, completions):
        router.include_router(room.build_router(services))
    return router
