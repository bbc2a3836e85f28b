"""Chat completion body to canonical request."""

from __future__ import annotations

from engine.errors import InvalidRequest
from engine.prompt import ChatPrompt
from generation.request import GenerationRequest
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.history import read_history
from routes.openai.chat.tool_fields import told_tools, tool_use


def parse(body: ChatCompletionBody, request_id: str) -> GenerationRequest:
    """Raises InvalidRequest for what no field can tell alone."""
    max_tokens = _max_tokens(body)
    body.check(prompts=1, max_tokens=max_tokens, multiplier="n")
    tools = tool_use(body)
    messages = read_history(body.messages)
    return GenerationRequest(
        model=body.model,
        prompts=(ChatPrompt(messages, told_tools(body), options=body.template_options(messages)),),
        n=body.choices_per_prompt,
        max_tokens=max_tokens,
        max_tokens_param="max_tokens" if body.max_completion_tokens is None else "max_completion_tokens",
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop=body.stop_strings,
        sampling=body.sampling_params(),
        logprobs=_logprobs(body),
        # What the answer may be besides calls is in the grammar of the tools.
        constraint=None if tools else body.constraint(),
        tools=tools,
        prediction=body.prediction.text() if body.prediction else None,
        priority=body.priority,
        request_id=request_id,
    )


def _logprobs(body: ChatCompletionBody) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("'top_logprobs': only allowed when 'logprobs' is true.", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _max_tokens(body: ChatCompletionBody) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"'max_tokens': {old} contradicts 'max_completion_tokens', {new}. Send only the latter.",
            param="max_tokens",
        )
    return old if new is None else new
