"""A model's own chat template, rendered in a sandbox.

What a user writes can never become a control token: texts that look like one are marked before rendering and
tokenised as plain text after it, since a rendered prompt no longer tells template and user apart.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage

# Two noncharacters of Unicode's private planes: no vocabulary and no honest text holds them.
_OPEN, _CLOSE = "\U0010fffe", "\U0010ffff"
# What Python raises out of the expressions of a template that does not expect these messages.
_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MARKED = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


class RenderedText:
    """A rendered prompt as pieces: (text, is_plain). Plain pieces are the user's, and hold no control tokens."""

    def __init__(self, pieces: list[tuple[str, bool]]) -> None:
        self.pieces = pieces

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


class ChatTemplate:
    """One compiled template. Safe to use from one thread at a time."""

    def __init__(self, source: str, *, beginning: str, end: str, control_texts: Iterable[str]) -> None:
        """``beginning`` and ``end`` are the texts of the model's special tokens; ``control_texts`` longest first.

        Raises jinja2.TemplateError for a template that does not compile.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=_strftime_now)
        self._template = environment.from_string(source)
        self._specials = {"bos_token": beginning, "eos_token": end}
        self._controls = tuple(control_texts)
        self._control_pattern = (
            re.compile("|".join(map(re.escape, self._controls))) if self._controls else None
        )

    def render(self, messages: Iterable[ChatMessage]) -> RenderedText:
        """The prompt for the next answer. Raises InvalidRequest with the template's own words if it refuses."""
        marked = [self._mark(message) for message in messages]
        try:
            text = self._template.render(messages=marked, add_generation_prompt=True, **self._specials)
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except _TEMPLATE_FAULTS as error:
            raise InvalidRequest(
                f"the model's chat template fails on these messages: {type(error).__name__}: {error}",
                param="messages",
            ) from error
        return self._split(text)

    def _mark(self, message: ChatMessage) -> dict[str, Any]:
        fields = {"role": self._mark_text(message.role), "content": self._mark_text(message.content)}
        if message.name is not None:
            fields["name"] = self._mark_text(message.name)
        return fields

    def _mark_text(self, text: str) -> str:
        # A user's own marks would be taken for ours.
        clean = text.replace(_OPEN, "").replace(_CLOSE, "")
        if self._control_pattern is None:
            return clean
        return self._control_pattern.sub(lambda hit: f"{_OPEN}{self._controls.index(hit[0])}{_CLOSE}", clean)

    def _split(self, text: str) -> RenderedText:
        pieces: list[tuple[str, bool]] = []
        at = 0
        for hit in _MARKED.finditer(text):
            if hit.start() > at:
                pieces.append((text[at : hit.start()], False))
            pieces.append((self._controls[int(hit[1])], True))
            at = hit.end()
        if at < len(text) or not pieces:
            pieces.append((text[at:], False))
        return RenderedText(pieces)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().astimezone().strftime(pattern)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Templates are written for transformers' filter, which, unlike Jinja's own, escapes no HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
