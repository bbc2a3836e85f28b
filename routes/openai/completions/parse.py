"""Completion body to canonical request."""

from __future__ import annotations

from engine.errors import UnsupportedField
from engine.prompt import Prompt, TextPrompt, TokenPrompt
from generation.request import GenerationRequest
from routes.openai.completions.body import CompletionBody

DEFAULT_MAX_TOKENS = 16


def parse(body: CompletionBody, request_id: str) -> GenerationRequest:
    """Raises InvalidRequest for what no field can tell alone, and UnsupportedField for a true ``best_of``."""
    if body.best_of is not None and body.best_of != body.choices_per_prompt:
        raise UnsupportedField(
            f"'best_of': answers are not ranked; only n, which is {body.choices_per_prompt}, is served.",
            param="best_of",
        )
    prompts = _prompts(body.prompt)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    body.check(prompts=len(prompts), max_tokens=max_tokens, multiplier="prompt" if len(prompts) > 1 else "n")
    return GenerationRequest(
        model=body.model,
        prompts=prompts,
        n=body.choices_per_prompt,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop=body.stop_strings,
        sampling=body.sampling_params(),
        constraint=body.constraint(),
        request_id=request_id,
    )


def _prompts(prompt: str | list[str] | list[int] | list[list[int]] | None) -> tuple[Prompt, ...]:
    if prompt is None or isinstance(prompt, str):
        # The engine begins an empty text with the token that begins every text.
        return (TextPrompt(prompt or ""),)
    texts = tuple(TextPrompt(item) for item in prompt if isinstance(item, str))
    token_lists = tuple(TokenPrompt(tuple(item)) for item in prompt if isinstance(item, list))
    # One of the four shapes: where neither texts nor lists are inside, the prompt is one list of tokens.
    return texts or token_lists or (TokenPrompt(tuple(item for item in prompt if isinstance(item, int))),)
