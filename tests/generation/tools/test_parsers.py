"""The parsers of all families: what they read, however it is cut, and what they make of half an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ToolFormatChoice
from generation.tools.formats import FORMATS
from tests.generation.tools.written import ARGUMENTS, BOTH, NAMES, WRITTEN, parser, read


def test_every_family_is_tested() -> None:
    assert FORMATS.keys() == WRITTEN.keys()


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_read_with_text_before_them_or_without(name: ToolFormatChoice) -> None:
    assert read(parser(name), [WRITTEN[name]]) == ("", BOTH, False)
    if name != "llama3" or WRITTEN[name].startswith("<|python_tag|>"):
        assert read(parser(name), [f"I look: \n\n{WRITTEN[name]}\n"]) == ("I look:", BOTH, False)


def test_llama_3_without_a_tag() -> None:
    written = WRITTEN["llama3"].removeprefix("<|python_tag|>")
    assert read(parser("llama3"), [written]) == ("", BOTH, False)
    other = '{"name" : "Bob"}'
    assert read(parser("llama3"), [other]) == (other, [], False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text", ["", "Hello", "a < b <", "  x\n ", '{"a": 1}', "[1]", "< tool_call>", "call:x{}"]
)
def test_text_without_calls_is_left_as_it_is(name: ToolFormatChoice, text: str) -> None:
    assert read(parser(name), [text]) == (text, [], False)
    assert read(parser(name), list(text)) == (text, [], False)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=80)
@given(data=st.data(), before=st.text("a <|[t\n{", max_size=6))
def test_the_result_does_not_depend_on_the_cuts(
    name: ToolFormatChoice, data: st.DataObject, before: str
) -> None:
    whole = before + WRITTEN[name]
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))), label="end")
    at = sorted(data.draw(st.lists(st.integers(0, end), max_size=12), label="cuts"))
    pieces = [whole[start:stop] for start, stop in zip([0, *at], [*at, end], strict=True)]
    assert read(parser(name), pieces) == read(parser(name), [whole[:end]])


@pytest.mark.parametrize("name", NAMES)
def test_no_marker_is_ever_told_as_text_while_it_comes(name: ToolFormatChoice) -> None:
    reader = parser(name)
    for character in WRITTEN[name]:
        assert not any(
            hasattr(item, "text") and not hasattr(item, "index") for item in reader.feed(character)
        )


@pytest.mark.parametrize("name", NAMES)
def test_arguments_come_in_parts(name: ToolFormatChoice) -> None:
    reader = parser(name)
    parts = [item for character in WRITTEN[name] for item in reader.feed(character)]
    assert len(parts) > 10


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_cut_inside_a_call_says_so(name: ToolFormatChoice) -> None:
    cut = WRITTEN[name].index("ln") + 1
    text, calls, is_unfinished = read(parser(name), [WRITTEN[name][:cut]])
    assert (text, [call for call, _ in calls], is_unfinished) == ("", ["look"], True)
    assert json.loads(ARGUMENTS)["city"].startswith("Kö")
    assert calls[0][1].startswith('{"city": "K')


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_nothing_that_a_model_writes_makes_a_parser_fail(name: ToolFormatChoice, data: st.DataObject) -> None:
    parts = [
        *FORMATS[name].markers,
        "call:",
        "look",
        "{",
        "}",
        '"',
        "\\",
        "\n",
        "name",
        ":",
        "<function=",
        ">",
    ]
    pieces = data.draw(st.lists(st.one_of(st.sampled_from(parts), st.text(max_size=3)), max_size=15))
    whole = "".join(pieces)
    assert read(parser(name), pieces) == read(parser(name), [whole])
