"""What a model is asked to continue: a chat, a text, or tokens.

These types cross into the worker as they are, because only the worker touches what the model's file
brings: its chat template and its vocabulary.
"""

from __future__ import annotations

import msgspec


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model made earlier in the chat."""

    id: str
    name: str
    arguments: str
    """JSON text of an object."""


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a chat. ``content`` is None only beside tool calls.

    A result of a tool has the role ``tool``, the id of the call it answers, and the name of its function.
    """

    role: str
    content: str | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
    """What the model thought before it said this; templates decide what they show of it."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: str = '{"type": "object", "properties": {}}'
    """JSON text of the schema of its arguments."""
    is_strict: bool | None = None
    """What the client said of ``strict``: for templates to read, since arguments always fit their schema."""


class TemplateOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a chat template is to render messages."""

    adds_generation_prompt: bool = True
    """Whether the prompt ends where the assistant's next message begins."""
    continues_last: bool = False
    """Whether the prompt ends within the last message, which the answer then goes on with."""
    reasoning_effort: str | None = None
    """One of OpenAI's words; refused where the template reads no such thing."""
    kwargs: dict[str, bool | int | str] = {}
    """Variables for the template; one that it does not read is refused."""


class ChatPrompt(msgspec.Struct, frozen=True, tag="chat"):
    """Messages for the model's own chat template. Special-token text inside them is plain text."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[Tool, ...] = ()
    """What the template is told of; empty where the model is to know of none."""
    options: TemplateOptions = TemplateOptions()


class TextPrompt(msgspec.Struct, frozen=True, tag="text"):
    """Raw text, as a person who knows the model would write it: special tokens in it are honoured."""

    text: str


class TokenPrompt(msgspec.Struct, frozen=True, tag="tokens"):
    """Token ids of the model's own vocabulary, taken as they are."""

    tokens: tuple[int, ...]


class InfillPrompt(msgspec.Struct, frozen=True, tag="infill"):
    """What stands before and behind a gap. Special-token text inside both texts is plain text."""

    prefix: TextPrompt | TokenPrompt
    suffix: str


Prompt = ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt
