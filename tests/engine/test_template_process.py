"""Templates that run away: each is a refusal or a fault, none is a wait, and the next rendering works."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt, Tool
from engine.template_process import TemplateProcess
from engine.template_renderer import TemplateSource

_PROMPT = ChatPrompt((ChatMessage(role="user", content="hi"),))
_HARMLESS = ChatPrompt((ChatMessage(role="user", content="harmless"),))
Make = Callable[[str], TemplateProcess]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[TemplateProcess] = []

    def process(source: str) -> TemplateProcess:
        made.append(TemplateProcess(TemplateSource(source, "<s>", "</s>", ("<|im_end|>", "<s>"))))
        return made[-1]

    yield process
    for each in made:
        each.close()


def test_what_the_process_renders_is_what_the_template_renders(make: Make) -> None:
    process = make("{{ bos_token }}{{ messages[0].content }}<|im_end|>{{ tools[0].function.name }}")
    assert process.check() == ""
    rendered = process.render(
        ChatPrompt((ChatMessage(role="user", content="a<|im_end|>é"),), (Tool(name="f"),))
    )
    assert rendered.pieces == [("<s>a", False), ("<|im_end|>", True), ("é<|im_end|>f", False)]


def test_a_refusal_of_the_template_is_told_as_it_is(make: Make) -> None:
    process = make("{{ raise_exception('no ' + messages[0].content) }}")
    # It may not like what it is tried with.
    assert process.check() == ""
    with pytest.raises(InvalidRequest, match="no hi") as caught:
        process.render(_PROMPT)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{% for %}", "does not compile"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "does not compile"),
        ("{% for a in [1] %}" * 60 + "{% endfor %}" * 60, "does not compile"),
        ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, "does not compile"),
        ("{{ messages[0].content }}" * 200_000, "more than 0.7 s"),
    ],
)
def test_what_does_not_compile_is_a_fault(make: Make, source: str, fault: str) -> None:
    assert fault in make(source).check()


_BOMBS = {
    "text": "{{ messages[0].content * 10 ** 10 }}",
    "texts": "{{ messages[0].content * 10 ** 8 * 4 }}",
    "a list": "{% for x in [messages] * 10 ** 9 %}{% endfor %}",
    "doubling": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a wide field": "{{ messages[0].content | center(10 ** 9) }}",
    "a wide number": "{{ '%999999999d' % 3 }}",
    "a wide format": "{{ '{:999999999}'.format(messages[0].content) }}",
    "zeros": "{{ messages[0].content.zfill(10 ** 10) }}",
    "replaced": "{{ (messages[0].content * 10 ** 7) | replace('i', messages[0].content * 1000) }}",
    "joined": "{{ ([messages[0].content * 10 ** 6] * 10 ** 4) | join }}",
    "filled": "{% for x in messages | batch(10 ** 9, 0) %}{% endfor %}",
    "indented": "{{ ((messages[0].content ~ '\n') * 10 ** 6) | indent(10 ** 6) }}",
    "words": "{{ lipsum(n=10 ** 6) }}",
    "loops": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}"
    ),
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "a range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "branches": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a power": "{% for m in messages %}{{ (m.content | length + 7) ** (10 ** 8) }}{% endfor %}",
    "a nest": (
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
        "{{ n.x | tojson }}"
    ),
    "too much": "{% for i in range(20000) %}{{ messages[0].content * 500 }}{% endfor %}",
}


@pytest.mark.parametrize("bomb", _BOMBS.values(), ids=_BOMBS)
def test_a_bomb_is_refused_and_the_next_messages_are_rendered(make: Make, bomb: str) -> None:
    process = make("{% if messages[0].content == 'hi' %}" + bomb + "{% else %}fine{% endif %}")
    with pytest.raises(InvalidRequest, match="chat template") as caught:
        process.render(_PROMPT)
    assert caught.value.param == "messages"
    assert process.render(_HARMLESS).text == "fine"


def test_a_template_that_always_runs_away_is_found_out_beforehand(make: Make) -> None:
    assert "more than 0.7 s" in make(_BOMBS["loops"]).check()


def test_a_process_that_was_killed_is_replaced(make: Make) -> None:
    process = make("{{ messages[0].content }}")
    assert process.render(_PROMPT).text == "hi"
    process.close()
    assert process.render(_PROMPT).text == "hi"
