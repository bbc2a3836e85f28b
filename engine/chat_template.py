"""A model's own chat template, rendered in a sandbox.

What a user writes can never become a control token: texts that look like one are marked before rendering and
tokenised as plain text after it, since a rendered prompt no longer tells template and user apart.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable
from typing import NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import msgspec

from engine.errors import InvalidRequest
from engine.prompt import ChatPrompt
from engine.reasoning_effort import effort_variables
from engine.template_message import (
    CALL_STYLES,
    NAMED_PROBE,
    PROBE,
    CallStyle,
    fits_probe,
    message_fields,
    shows_name,
    tool_fields,
    with_name_said,
)

# Two noncharacters of Unicode's private planes: no vocabulary and no honest text holds them.
_OPEN, _CLOSE = "\U0010fffe", "\U0010ffff"
# What Python raises out of the expressions of a template that does not expect these messages.
_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MARKED = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_MARK_OR_NOT = re.compile(f"{_OPEN}\\d*{_CLOSE}|[^{_OPEN}]+")
_END_OF_LAST = _OPEN + _CLOSE
"""Put behind the content of a message that is to be continued: all that the template writes behind it is cut off."""


Variables = dict[str, bool | int | str]


class _MarkedText(str):
    """Text with marks, which stay as they are where a template prints a list of texts in Python's notation."""

    __slots__ = ()

    def __repr__(self) -> str:
        parts = _MARK_OR_NOT.findall(self)
        return "'" + "".join(part if part[0] == _OPEN else repr(part)[1:-1] for part in parts) + "'"


class RenderedText:
    """A rendered prompt as pieces: (text, is_plain). Plain pieces are the user's, and hold no control tokens."""

    def __init__(self, pieces: list[tuple[str, bool]]) -> None:
        self.pieces = pieces

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


class ChatTemplate:
    """One compiled template. Safe to use from one thread at a time."""

    def __init__(
        self, source: str, *, beginning: str, end: str, control_texts: Iterable[str], tool_use: str = ""
    ) -> None:
        """``beginning`` and ``end`` are the texts of the model's special tokens; ``control_texts`` longest first.

        ``tool_use`` is the template for chats with tools, where that is another one.
        Raises jinja2.TemplateError for a template that does not compile.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=_strftime_now)
        self._template = environment.from_string(source)
        self._with_tools = environment.from_string(tool_use) if tool_use else self._template
        self._reads = {
            template: jinja2.meta.find_undeclared_variables(environment.parse(text))
            for template, text in ((self._template, source), (self._with_tools, tool_use or source))
        }
        self._words = set(re.findall("""["'](none|minimal|xhigh|max)["']""", source + tool_use))
        """Efforts that the template has a word for, besides those that all know."""
        self._specials = {"bos_token": beginning, "eos_token": end}
        self._controls = tuple(control_texts)
        self._control_pattern = (
            re.compile("|".join(map(re.escape, self._controls))) if self._controls else None
        )

    def render(self, prompt: ChatPrompt) -> RenderedText:
        """``prompt`` as the model reads it. Raises InvalidRequest with the template's own words if it refuses."""
        variables = self._variables(prompt)
        if any(message.name is not None for message in prompt.messages) and not self._shows_names:
            prompt = msgspec.structs.replace(prompt, messages=tuple(map(with_name_said, prompt.messages)))
        try:
            text = self._render(prompt, variables)
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except _TEMPLATE_FAULTS as error:
            raise InvalidRequest(
                f"the model's chat template fails on these messages: {type(error).__name__}: {error}",
                param="messages",
            ) from error
        return self._split(self._cut(text) if prompt.options.continues_last else text)

    def _variables(self, prompt: ChatPrompt) -> Variables:
        """What the template is told besides messages and tools. Raises InvalidRequest for what it does not read."""
        options, reads = prompt.options, self._reads[self._template_for(prompt)]
        variables: Variables = {}
        for name, value in options.kwargs.items():
            if name not in reads:
                param = f"chat_template_kwargs.{name}"
                raise InvalidRequest(f"'{param}': the model's chat template does not read it.", param=param)
            variables[name] = self._mark_text(value) if isinstance(value, str) else value
        if options.reasoning_effort is not None:
            for name, value in effort_variables(options.reasoning_effort, reads, self._words).items():
                if variables.setdefault(name, value) != value:
                    param = f"chat_template_kwargs.{name}"
                    raise InvalidRequest(f"'{param}': contradicts 'reasoning_effort'.", param=param)
        return variables

    def _template_for(self, prompt: ChatPrompt) -> jinja2.Template:
        return self._with_tools if prompt.tools else self._template

    def _render(self, prompt: ChatPrompt, variables: Variables, style: CallStyle | None = None) -> str:
        if style is None:
            has_calls = any(message.tool_calls for message in prompt.messages)
            style = self._call_style if has_calls else CALL_STYLES[0]
        messages = [message_fields(message, style, self._mark_text) for message in prompt.messages]
        if prompt.options.continues_last:
            messages[-1]["content"] = _MarkedText((messages[-1]["content"] or "") + _END_OF_LAST)
        return self._template_for(prompt).render(
            messages=messages,
            # None, as templates are written for transformers: some ask whether there are tools by `is not none`.
            tools=[tool_fields(tool, self._mark_text) for tool in prompt.tools] or None,
            add_generation_prompt=prompt.options.adds_generation_prompt,
            **self._specials,
            **variables,
        )

    def _cut(self, text: str) -> str:
        """What stands before the end of the last message."""
        at = text.rfind(_END_OF_LAST)
        if at < 0:
            raise InvalidRequest(
                "'continue_final_message': the model's chat template does not show the end of the last message.",
                param="continue_final_message",
            )
        return text[:at].replace(_END_OF_LAST, "")

    @functools.cached_property
    def _shows_names(self) -> bool:
        """Whether the template tells the model who speaks. Most do not, and then the text says so."""
        try:
            return shows_name(self._render(ChatPrompt(NAMED_PROBE), {}, CALL_STYLES[0]))
        except (jinja2.TemplateError, *_TEMPLATE_FAULTS):
            return False

    @functools.cached_property
    def _call_style(self) -> CallStyle:
        """The first style in which the template shows a call; the usual one where it shows calls in none."""
        for style in CALL_STYLES:
            try:
                text = self._render(ChatPrompt(PROBE), {}, style)
            except (jinja2.TemplateError, *_TEMPLATE_FAULTS):
                continue
            if fits_probe(text):
                return style
        return CALL_STYLES[0]

    def _mark_text(self, text: str) -> str:
        # A user's own marks would be taken for ours.
        clean = text.replace(_OPEN, "").replace(_CLOSE, "")
        if self._control_pattern is None:
            return clean
        return _MarkedText(
            self._control_pattern.sub(lambda hit: f"{_OPEN}{self._controls.index(hit[0])}{_CLOSE}", clean)
        )

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


class _Generation(jinja2.ext.Extension):
    """``{% generation %}...{% endgeneration %}``, by which some tell what an assistant wrote: it is printed."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja has it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


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
