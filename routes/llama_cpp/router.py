"""The routes, and what each asks of the model."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from engine.errors import InvalidRequest, NibbleError
from engine.prompt import ChatPrompt
from engine.question import Answer, ApplyTemplate, Describe, Detokenize, Question, Tokenize
from generation.engine_port import EnginePort
from generation.tools.formats import tool_format_of
from routes.account import Account
from routes.allowed_models import models_for
from routes.caller import caller_of
from routes.llama_cpp.bodies import ApplyTemplateBody, DetokenizeBody, TokenizeBody
from routes.llama_cpp.render import (
    Content,
    Prompt,
    Properties,
    Tokens,
    render_content,
    render_prompt,
    render_properties,
    render_tokens,
)
from routes.model_choice import chosen_model
from routes.openai.chat.history import read_history
from routes.openai.chat.tool_fields import check_names, told_functions
from routes.openai.documentation import WITHOUT_BODY, answers, posted
from routes.openai.errors import render_failure
from routes.operation import Operation, answer
from routes.queue_patience import queue_patience
from routes.respond import CLIENT_CLOSED_REQUEST
from routes.services import LeasePort, Services
from routes.telemetry import UNOBSERVED
from routes.work import Work, outlast


async def ask(engine: EnginePort, question: Question) -> Answer:
    return await engine.ask(question)


def _tokenize(body: TokenizeBody, request_id: str) -> Question:
    parse_special = True if body.parse_special is None else body.parse_special
    return Tokenize(body.content, add_special=bool(body.add_special), parse_special=parse_special)


def _detokenize(body: DetokenizeBody, request_id: str) -> Question:
    return Detokenize(tuple(body.tokens))


def _apply_template(body: ApplyTemplateBody, request_id: str) -> Question:
    messages, tools = read_history(body.messages), told_functions(body.tools)
    check_names([tool.name for tool in tools], "tools", ".function.name")
    return ApplyTemplate(ChatPrompt(messages, tools, options=body.template_options(messages)))


async def _ask_as_in_a_chat(engine: EnginePort, question: Question) -> Answer:
    """Where the model's template knows nothing of tools, a chat tells of them in its messages."""
    if isinstance(question, ApplyTemplate):
        question = ApplyTemplate(tool_format_of(engine.facts).prompt(question.prompt))
    return await engine.ask(question)


TOKENIZE = Operation(None, TokenizeBody, _tokenize, ask, render_tokens, render_failure)
DETOKENIZE = Operation(None, DetokenizeBody, _detokenize, ask, render_content, render_failure)
APPLY_TEMPLATE = Operation(
    None, ApplyTemplateBody, _apply_template, _ask_as_in_a_chat, render_prompt, render_failure
)

_MODEL = {
    "name": "model",
    "in": "query",
    "required": False,
    "description": "Which model; may be left out where there is only one, or only one loaded.",
    "schema": {"type": "string", "minLength": 1},
}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"])

    @posted(router, "/tokenize", TokenizeBody, Tokens)
    async def tokenize(request: Request) -> Response:
        """The tokens of a text, as it stands: nothing is added unless it is asked for."""
        return await answer(request, services, TOKENIZE)

    @posted(router, "/detokenize", DetokenizeBody, Content)
    async def detokenize(request: Request) -> Response:
        """The text of tokens, special ones as they are written."""
        return await answer(request, services, DETOKENIZE)

    @posted(router, "/apply-template", ApplyTemplateBody, Prompt)
    async def apply_template(request: Request) -> Response:
        """What the model's chat template makes of messages, without answering them."""
        return await answer(request, services, APPLY_TEMPLATE)

    @router.get(
        "/props",
        response_model=None,
        responses=answers(Properties, never=WITHOUT_BODY),
        openapi_extra={"parameters": [_MODEL]},
    )
    async def properties(request: Request) -> Response:
        """What a model brings along, and what a request to it gets by default. Loads the model if need be."""
        try:
            return await _properties(request, services)
        except NibbleError as error:
            return render_failure(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)

    return router


async def _properties(request: Request, services: Services) -> Response:
    if unknown := [name for name in request.query_params if name != "model"]:
        raise InvalidRequest(f"'{unknown[0][:100]}': this route does not know it.", param=unknown[0][:100])
    caller = caller_of(request)
    caller.count_request()
    card = chosen_model(request.query_params.get("model"), models_for(caller, services.registry))
    account = Account(caller, caller.reserve(0))
    patience = queue_patience(request, services.policy.queue_timeout_s)
    work = Work(services, card.id, getattr(request.state, "request_id", ""), UNOBSERVED, account, patience)
    rendered = b""

    async def act(lease: LeasePort) -> None:
        nonlocal rendered
        rendered = render_properties(await lease.engine.ask(Describe()), lease.card, lease.engine.facts)

    await outlast(request, work.run(act))
    return Response(rendered, media_type="application/json", headers=caller.limit_headers())
