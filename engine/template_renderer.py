"""The process that renders a model's chat template: ``python -m engine.template_renderer``, spoken to over its pipes.

A template is a program that comes with a model's file. The sandbox keeps it from reaching out, and not from taking
gigabytes (``'a' * 10**9``) or computing for ever, so it runs where it can be killed: its memory and its time of
the processor are limited by the kernel, which no expression gets around. Messages are MessagePack
(``engine.helper_pipe``): ``TemplateSource`` once, then a ``ChatPrompt`` each time, each answered by a ``Rendering``.
"""

from __future__ import annotations

import os
import signal

import msgspec

from engine import helper_pipe
from engine.chat_template import ChatTemplate
from engine.errors import ErrorRecord, InvalidRequest, NibbleError
from engine.prompt import ChatPrompt

CPU_S = 0.7
"""Seconds of the processor that a rendering may take; an honest one of a few messages takes a thousandth."""
MAX_CHARACTERS = 16_000_000
_MEMORY_BYTES = 512 << 20
"""Of addresses, the interpreter's included."""


class TemplateSource(msgspec.Struct, frozen=True):
    """What ``ChatTemplate`` is made of."""

    source: str
    beginning: str
    end: str
    control_texts: tuple[str, ...]
    tool_use: str = ""
    """A template of its own for chats with tools, which some files have."""


class Rendering(msgspec.Struct, frozen=True):
    """What a template wrote, or why it did not."""

    pieces: list[tuple[str, bool]] = []
    """See ``RenderedText``."""
    error: ErrorRecord | None = None


def _compile(source: TemplateSource) -> ChatTemplate | str:
    """The template, or why it does not compile."""
    try:
        return ChatTemplate(
            source.source,
            beginning=source.beginning,
            end=source.end,
            control_texts=source.control_texts,
            tool_use=source.tool_use,
        )
    except MemoryError:
        return "it takes too much memory to compile"
    except (
        Exception
    ) as error:  # besides Jinja's own, what Python's compiler says of the code that Jinja writes
        return f"it does not compile: {type(error).__name__}: {error}"


def _render(template: ChatTemplate, prompt: ChatPrompt) -> Rendering:
    try:
        rendered = template.render(prompt)
    except NibbleError as error:
        return Rendering(error=ErrorRecord.of(error))
    except MemoryError:
        refusal = "the model's chat template takes too much memory on these messages"
        return Rendering(error=ErrorRecord.of(InvalidRequest(refusal, param="messages")))
    if sum(len(text) for text, _ in rendered.pieces) > MAX_CHARACTERS:
        refusal = f"the model's chat template makes more than {MAX_CHARACTERS} characters of these messages"
        return Rendering(error=ErrorRecord.of(InvalidRequest(refusal, param="messages")))
    return Rendering(rendered.pieces)


def _answer(rendering: Rendering) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    helper_pipe.answer(msgspec.msgpack.encode(rendering))


def main() -> None:
    helper_pipe.confine(_MEMORY_BYTES)
    source = msgspec.msgpack.decode(helper_pipe.receive(), type=TemplateSource)
    # Its signal ends the process, whatever Python or a C function is doing; waiting does not count.
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    compiled = _compile(source)
    if isinstance(compiled, str):
        _answer(Rendering(error=ErrorRecord.of(InvalidRequest(compiled))))
        os._exit(0)
    _answer(Rendering())
    prompts = msgspec.msgpack.Decoder(ChatPrompt)
    while True:
        body = helper_pipe.receive()
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        _answer(_render(compiled, prompts.decode(body)))


if __name__ == "__main__":
    main()
