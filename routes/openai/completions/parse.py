"""Completion body to canonical request."""

from __future__ import annotations

from engine.errors import InvalidRequest
from engine.prompt import InfillPrompt, Prompt, TextPrompt, TokenPrompt
from generation.request import GenerationRequest
from routes.openai.completions.body import CompletionBody
from routes.openai.sampling_fields import MAX_CHOICES

DEFAULT_MAX_TOKENS = 16


def parse(body: CompletionBody, request_id: str) -> GenerationRequest:
    """Raises InvalidRequest for what no field can tell alone."""
    prompts: tuple[Prompt, ...] = _prompts(body.prompt)
    if suffix := body.suffix:
        prompts = tuple(InfillPrompt(prompt, suffix) for prompt in _prompts(body.prompt))
    _check_best_of(body, len(prompts))
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if max_tokens == 0 and not body.echo:
        raise InvalidRequest("'max_tokens': 0 is only allowed when 'echo' is true.", param="max_tokens")
    body.check(prompts=len(prompts), max_tokens=max_tokens, multiplier="prompt" if len(prompts) > 1 else "n")
    return GenerationRequest(
        model=body.model,
        prompts=prompts,
        n=body.choices_per_prompt,
        best_of=body.best_of,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        echo=bool(body.echo),
        stop=body.stop_strings,
        sampling=body.sampling_params(),
        logprobs=body.logprobs,
        constraint=body.constraint(),
        priority=body.priority,
        request_id=request_id,
    )


def _check_best_of(body: CompletionBody, prompts: int) -> None:
    n, best_of = body.choices_per_prompt, body.best_of
    if best_of is None:
        return
    if best_of < n:
        raise InvalidRequest(f"'best_of': {best_of} is less than 'n', which is {n}.", param="best_of")
    if body.stream and best_of > n:
        raise InvalidRequest(
            f"'best_of': only n, which is {n}, can be streamed: which answers are best is known at their end.",
            param="best_of",
        )
    if prompts * best_of > MAX_CHOICES and best_of > n:
        raise InvalidRequest(
            f"'best_of': the request asks for {prompts * best_of} answers; {MAX_CHOICES} are the most.",
            param="best_of",
        )


def _prompts(
    prompt: str | list[str] | list[int] | list[list[int]] | None,
) -> tuple[TextPrompt | TokenPrompt, ...]:
    if prompt is None or isinstance(prompt, str):
        # The engine begins an empty text with the token that begins every text.
        return (TextPrompt(prompt or ""),)
    # One of the four shapes, which the body's class has seen to. Ids come by the thousand: none is looked at again.
    if isinstance(prompt[0], str):
        return tuple(map(TextPrompt, prompt))
    if isinstance(prompt[0], list):
        return tuple(TokenPrompt(tuple(item)) for item in prompt)
    return (TokenPrompt(tuple(prompt)),)
