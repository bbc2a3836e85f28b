"""What was asked and answered, in OpenTelemetry's form of messages, for an operator who wants to read it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.embedding import EmbeddingRequest, PairPrompt
from engine.prompt import ChatMessage, ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from generation.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from generation.request import GenerationRequest

Part = dict[str, object]
Message = dict[str, object]


def input_messages(request: object) -> list[Message]:
    """The messages, texts or tokens of one request; empty for what has none."""
    match request:
        case GenerationRequest(prompts=prompts):
            return [message for prompt in prompts for message in _messages(prompt)]
        case EmbeddingRequest(inputs=inputs):
            return [message for item in inputs for message in _messages(item)]
        case _:
            return []


class Transcript:
    """The answers of one request as far as they have come. Owned by the request's task."""

    def __init__(self) -> None:
        self._parts: dict[int, list[Part]] = {}
        self._reasons: dict[int, str] = {}

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case TextDelta(choice=choice, text=text) if text:
                    self._write(choice, {"type": "text"}, "content", text)
                case ReasoningDelta(choice=choice, text=text):
                    self._write(choice, {"type": "reasoning"}, "content", text)
                case ToolCallStarted(choice=choice, id=call_id, name=name):
                    call: Part = {"type": "tool_call", "id": call_id, "name": name, "arguments": ""}
                    self._parts.setdefault(choice, []).append(call)
                case ToolCallDelta(choice=choice, text=text):
                    self._write(choice, {"type": "tool_call"}, "arguments", text)
                case Finished(choice=choice, reason=reason):
                    self._reasons[choice] = reason
                case _:
                    pass

    def output_messages(self) -> list[Message]:
        """One for each choice that has begun; one that broke off has no reason."""
        choices = sorted(self._parts.keys() | self._reasons.keys())
        return [
            {
                "role": "assistant",
                "parts": self._parts.get(choice, []),
                **({"finish_reason": self._reasons[choice]} if choice in self._reasons else {}),
            }
            for choice in choices
        ]

    def _write(self, choice: int, kind: Part, field: str, text: str) -> None:
        """Go on with the last part if it is of that kind, else begin one."""
        parts = self._parts.setdefault(choice, [])
        if not parts or parts[-1]["type"] != kind["type"]:
            parts.append({**kind, field: ""})
        parts[-1][field] = f"{parts[-1][field]}{text}"


def _messages(prompt: ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt | PairPrompt) -> list[Message]:
    match prompt:
        case ChatPrompt(messages=messages):
            return [{"role": message.role, "parts": _parts(message)} for message in messages]
        case TextPrompt(text=text):
            return [_user(text)]
        case TokenPrompt(tokens=tokens):
            return [{"role": "user", "parts": [{"type": "tokens", "content": list(tokens)}]}]
        case InfillPrompt(prefix=prefix, suffix=suffix):
            return [*_messages(prefix), _user(suffix)]
        case PairPrompt(query=query, text=text):
            return [_user(query, text)]


def _user(*texts: str) -> Message:
    return {"role": "user", "parts": [{"type": "text", "content": text} for text in texts]}


def _parts(message: ChatMessage) -> list[Part]:
    parts: list[Part] = []
    if message.reasoning:
        parts.append({"type": "reasoning", "content": message.reasoning})
    if message.tool_call_id is not None:
        parts.append(
            {"type": "tool_call_response", "id": message.tool_call_id, "response": message.content or ""}
        )
    elif message.content:
        parts.append({"type": "text", "content": message.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    return parts
