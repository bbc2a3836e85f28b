"""What an engine tells of one request, read as canonical events."""

from __future__ import annotations

import msgspec

from engine import events as engine_events
from engine.config import ModelFacts
from engine.constraint.spec import JsonObject, JsonSchema, ToolGrammar
from engine.prompt import ChatPrompt
from engine.request import EngineRequest
from engine.token_logprob import TokenLogprob
from generation.chain import Chain, Stage
from generation.events import (
    Delta,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from generation.reasoning.reasoning_format import ReasoningFormat, format_of
from generation.request import Constraint, GenerationRequest
from generation.tools.formats import tool_format_of
from generation.tools.tool_reader import ToolReader


class AnswerReader:
    """Reads the answers to one request, each choice through a chain of stages of its own.

    Owned by the task of the request.
    """

    def __init__(self, request: GenerationRequest, facts: ModelFacts) -> None:
        self._request = request
        self._reasoning = _reasoning_of(request, facts)
        self._tool_format = tool_format_of(facts)
        self._calls: dict[int, ToolReader] = {}
        self._opening = ""
        self._chains: dict[int, Chain] = {}
        self._reasoning_tokens: dict[int, int] = {}
        self._untold: dict[int, int] = {}
        """Tokens that have made nothing to tell yet."""
        self._scores: dict[int, tuple[TokenLogprob, ...]] = {}
        """Log-probabilities of tokens of which it is not known yet whether they are text."""

    def asked(self) -> EngineRequest:
        """What to ask of the engine. Raises InvalidRequest for tools that this model cannot be offered."""
        request = self._request
        shown: tuple[str, ...] = self._reasoning.markers if self._reasoning else ()
        if request.is_chat:
            prompts = tuple(
                self._tool_format.prompt(prompt) if isinstance(prompt, ChatPrompt) else prompt
                for prompt in request.prompts
            )
            request = msgspec.structs.replace(request, prompts=prompts)
        if (use := request.tools) is not None:
            grammar = self._tool_format.grammar(
                use.tools,
                is_forced=use.is_required,
                is_parallel=use.is_parallel,
                thought=self._reasoning.thought if self._reasoning else None,
                text_schema=use.text_schema,
            )
            param = "functions" if use.is_legacy else "tools"
            grammar = self._begun(grammar)
            request = msgspec.structs.replace(request, constraint=Constraint(grammar, param))
            shown = tuple(dict.fromkeys((*shown, *self._tool_format.markers)))
        elif self._reasoning and request.constraint and (schema := _schema_of(request.constraint)):
            grammar = self._begun(self._reasoning.shaped(schema))
            constraint = Constraint(grammar, request.constraint.param)
            request = msgspec.structs.replace(request, constraint=constraint)
        return request.for_engine(shown_controls=shown)

    def _begun(self, grammar: ToolGrammar) -> ToolGrammar:
        """``grammar`` as it goes on from what the last message has begun; the engine knows what the template has."""
        is_thinking = self._reasoning is not None and self._reasoning.is_thinking(self._request.prompts[0])
        return msgspec.structs.replace(grammar, is_thinking=is_thinking)

    def read(self, item: engine_events.Event) -> list[Event]:
        """The events of one item; none where it tells nothing new."""
        if isinstance(item, engine_events.Accepted):
            self._opening = item.opening
            return [Started(item.prompt_tokens)]
        events: list[Event] = list(self._deltas(item))
        if item.finish:
            events.append(self._finished(item.choice, item.finish))
        return events

    def _deltas(self, item: engine_events.Piece) -> list[Delta]:
        chain = self._chains.get(item.choice)
        if chain is None:
            chain = self._chains[item.choice] = Chain(self._stages(item.choice))
        if chain.is_empty:
            text, logprobs = item.text, item.logprobs
            if echo := item.echo:
                text = echo.text + text
                logprobs = None if logprobs is None else (echo.logprobs or ()) + logprobs
            tokens = self._untold.pop(item.choice, 0) + item.tokens
            if text or logprobs:
                return [TextDelta(item.choice, text, tokens, logprobs)]
            self._untold[item.choice] = tokens
            return []
        deltas: list[Delta] = []
        for delta in _by_token(item):
            deltas += self._scored(item.choice, chain.add(delta), delta.logprobs)
        if item.finish:
            deltas += self._scored(item.choice, chain.end(), None)
            if (scores := self._scores.pop(item.choice, ())) and not self._has_called(item.choice):
                deltas.append(TextDelta(item.choice, "", 0, scores))
        self._count(deltas)
        return self._joined(item.choice, deltas)

    def _scored(
        self, choice: int, deltas: list[Delta], logprobs: tuple[TokenLogprob, ...] | None
    ) -> list[Delta]:
        """``deltas`` with the log-probabilities of their tokens: those of text alone, as OpenAI tells them."""
        if self._request.logprobs is None:
            return deltas
        scores = self._scores.pop(choice, ()) + (logprobs or ())
        if any(isinstance(delta, ReasoningDelta) for delta in deltas):
            return deltas
        for index, delta in enumerate(deltas):
            if isinstance(delta, TextDelta) and delta.text:
                deltas[index] = msgspec.structs.replace(delta, logprobs=scores)
                return deltas
        if all(isinstance(delta, TextDelta) for delta in deltas):
            self._scores[choice] = scores
        return deltas

    def _has_called(self, choice: int) -> bool:
        reader = self._calls.get(choice)
        return reader is not None and reader.has_called

    def _stages(self, choice: int) -> list[Stage]:
        """In the order in which they read: reasoning first, and what is left to the parser of tool calls."""
        stages: list[Stage] = []
        if self._reasoning:
            prompt = self._request.prompts[0]
            has_tools = self._request.tools is not None
            stages.append(self._reasoning.stage(choice, prompt, self._opening, keeps_calls=has_tools))
        if (use := self._request.tools) is not None:
            parser = self._tool_format.parser(use.tools)
            self._calls[choice] = ToolReader(choice, parser, is_legacy=use.is_legacy)
            stages.append(self._calls[choice])
        return stages

    def _count(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            if isinstance(delta, ReasoningDelta):
                before = self._reasoning_tokens.get(delta.choice, 0)
                self._reasoning_tokens[delta.choice] = before + delta.tokens

    def _joined(self, choice: int, deltas: list[Delta]) -> list[Delta]:
        """Neighbours of one kind as one, and none that is empty: what one step brought is one chunk.

        The tokens of what is empty are told with the next that is not, be it of a later step.
        """
        joined: list[Delta] = []
        untold = self._untold.pop(choice, 0)
        for delta in deltas:
            tokens = untold + delta.tokens
            if _is_empty(delta):
                untold = tokens
                continue
            match joined, delta:
                case [*_, TextDelta() as last], TextDelta():
                    joined[-1] = TextDelta(
                        choice, last.text + delta.text, last.tokens + tokens, _sum(last, delta)
                    )
                case [*_, ReasoningDelta() as last], ReasoningDelta():
                    joined[-1] = ReasoningDelta(choice, last.text + delta.text, last.tokens + tokens)
                case [*_, ToolCallDelta() as last], ToolCallDelta(index=index) if last.index == index:
                    joined[-1] = ToolCallDelta(choice, index, last.text + delta.text, last.tokens + tokens)
                case _:
                    joined.append(msgspec.structs.replace(delta, tokens=tokens) if untold else delta)
            untold = 0
        if untold:
            self._untold[choice] = untold
        return joined

    def _finished(self, choice: int, finish: engine_events.Finish) -> Finished:
        # Drafts are looked up in the text as well; only where there is a prediction does OpenAI's count apply.
        predicted = (
            (finish.accepted_tokens, finish.drafted_tokens)
            if self._request.prediction is not None
            else (0, 0)
        )
        usage = Usage(
            finish.prompt_tokens,
            finish.cached_tokens,
            finish.completion_tokens,
            accepted_prediction_tokens=predicted[0],
            rejected_prediction_tokens=predicted[1] - predicted[0],
            reasoning_tokens=self._reasoning_tokens.get(choice, 0),
        )
        timings = Timings(
            queue_s=finish.queue_s,
            prefill_s=finish.prefill_s,
            decode_s=finish.decode_s,
            drafted_tokens=finish.drafted_tokens,
            accepted_tokens=finish.accepted_tokens,
            forced_tokens=finish.forced_tokens,
        )
        has_logprobs = self._request.logprobs is not None
        mean_logprob = finish.mean_logprob if self._request.is_ranked else None
        reader = self._calls.get(choice)
        reason = reader.reason(finish.reason) if reader else finish.reason
        untold = self._untold.pop(choice, 0)
        return Finished(choice, reason, usage, timings, has_logprobs, mean_logprob, untold)


def _reasoning_of(request: GenerationRequest, facts: ModelFacts) -> ReasoningFormat | None:
    # Raw prompts are answered raw; and what a grammar or an expression demands is the whole answer, from its first
    # character. JSON may come behind a thought, and a grammar of tools has room for thoughts.
    if not request.is_chat or (request.constraint is not None and _schema_of(request.constraint) is None):
        return None
    return format_of(facts)


def _schema_of(constraint: Constraint) -> tuple[str, str] | None:
    """The schema that JSON is asked for by, and the field that holds it."""
    match constraint.spec:
        case JsonSchema(schema=schema):
            return schema, constraint.param
        case JsonObject():
            return '{"type": "object"}', constraint.param
        case _:
            return None


def _by_token(item: engine_events.Piece) -> list[TextDelta]:
    """The piece token by token, so that each is counted for what it is."""
    if not item.lengths:
        return [TextDelta(item.choice, item.text, item.tokens, item.logprobs)]
    scores = item.logprobs or ()
    is_aligned = len(scores) == len(item.lengths)
    deltas: list[TextDelta] = []
    at = 0
    for index, length in enumerate(item.lengths):
        own = scores[index : index + 1] if is_aligned else ()
        deltas.append(TextDelta(item.choice, item.text[at : at + length], 1, own))
        at += length
    if not is_aligned:
        # What a stop string held back comes with the text that it let go, and not token by token.
        deltas[-1] = msgspec.structs.replace(deltas[-1], logprobs=scores)
    return deltas


def _is_empty(delta: Delta) -> bool:
    """Whether there is nothing in it to tell. Log-probabilities are told, if need be without a text."""
    if isinstance(delta, ToolCallStarted) or delta.text:
        return False
    return not (isinstance(delta, TextDelta) and delta.logprobs)


def _sum(first: TextDelta, second: TextDelta) -> tuple[TokenLogprob, ...] | None:
    if first.logprobs is None and second.logprobs is None:
        return None
    return (first.logprobs or ()) + (second.logprobs or ())
