"""The route of chat completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from routes.dialect import Dialect
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.encode import ChatCompletionChunk, encoder
from routes.openai.chat.parse import parse
from routes.openai.chat.render import ChatCompletion, render
from routes.openai.documentation import posted
from routes.openai.errors import encode_failure, render_failure
from routes.respond import respond
from routes.services import Services

CHAT = Dialect(
    operation="chat",
    id_prefix="chatcmpl-",
    body=ChatCompletionBody,
    parse=parse,
    encoder=encoder,
    render=render,
    encode_failure=encode_failure,
    render_failure=render_failure,
)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["chat"])

    @posted(router, "/v1/chat/completions", ChatCompletionBody, ChatCompletion, ChatCompletionChunk)
    async def create_chat_completion(request: Request) -> Response:
        """Continue a chat, with the model's own chat template."""
        return await respond(request, services, CHAT)

    return router
