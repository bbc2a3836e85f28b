"""Whatever a grammar lets a model of its family write, its parser reads as calls that fit their schemas."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.backend import Tokens
from engine.config import ToolFormatChoice
from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.constraint import Constraint
from engine.errors import InvalidRequest
from generation.tools.formats import FORMATS
from generation.tools.offered_tool import OfferedTool
from tests.engine.constraint.schemas import Schema, around, schemas
from tests.engine.constraint.walk import SpecialByteVocabulary, WordVocabulary, accepts, allowed
from tests.fakes.vocabulary import ByteVocabulary
from tests.generation.tools.written import NAMES, TOOLS, WRITTEN, parser, read

_MARKERS = tuple(dict.fromkeys(marker for each in FORMATS.values() for marker in each.markers))
_HURRY_AFTER = 80


class MarkerVocabulary(SpecialByteVocabulary):
    """Bytes, and every family's markers as control tokens."""

    size = ByteVocabulary.size + len(_MARKERS)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        if parse_special and text in _MARKERS:
            return np.array([ByteVocabulary.size + _MARKERS.index(text)], dtype=np.int32)
        return super().tokenize(text, add_special=add_special, parse_special=parse_special)

    def special_text(self, token: int) -> str:
        if token >= ByteVocabulary.size:
            return _MARKERS[token - ByteVocabulary.size]
        return super().special_text(token)

    def piece(self, token: int) -> bytes:
        return b"" if token >= ByteVocabulary.size else super().piece(token)


@pytest.fixture(scope="module")
def plain() -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(WordVocabulary())
    yield compiler
    compiler.close()


@pytest.fixture(scope="module")
def marked() -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(MarkerVocabulary())
    yield compiler
    compiler.close()


def compiled(
    compiler: ConstraintCompiler,
    name: ToolFormatChoice,
    tools: Sequence[OfferedTool] = TOOLS,
    *,
    is_forced: bool = False,
    is_parallel: bool = True,
    thought: tuple[str, str] | None = None,
    text_schema: tuple[str, str] | None = None,
) -> Constraint:
    grammar = FORMATS[name].grammar(
        tools, is_forced=is_forced, is_parallel=is_parallel, thought=thought, text_schema=text_schema
    )
    return compiler.compile(grammar, param="tools")


def write(
    constraint: Constraint, vocabulary: ByteVocabulary, rng: random.Random, most: int = 600
) -> str | None:
    """An answer drawn from the masks; None if it was cut."""
    ends = set(vocabulary.end_tokens.tolist())
    tokens: list[int] = []
    while len(tokens) < most:
        if forced := constraint.forced():
            constraint.accept(forced)
            tokens += forced
        if constraint.is_complete:
            return _text(vocabulary, tokens)
        left = allowed(constraint, vocabulary)
        closing = [
            token
            for token in left
            if token in ends
            or vocabulary.piece(token) in (b"}", b"]", b'"', b"<", b"\n")
            or (token >= ByteVocabulary.size and not vocabulary.piece(token))
        ]
        is_hurried = len(tokens) > _HURRY_AFTER and closing and rng.random() < 0.9
        token = rng.choice(closing if is_hurried else left)
        constraint.accept([token])
        if token in ends:
            return _text(vocabulary, tokens)
        tokens.append(token)
    return None


def _text(vocabulary: ByteVocabulary, tokens: list[int]) -> str:
    return b"".join(
        vocabulary.piece(token) or vocabulary.special_text(token).encode() for token in tokens
    ).decode()


def written(name: ToolFormatChoice) -> str:
    """As the grammar has it; harmony's first header begins in the prompt, and its calls come alone."""
    if name == "harmony":
        return WRITTEN[name].partition("<|start|>assistant")[2].partition("<|call|>")[0]
    return WRITTEN[name].replace("[CALL_ID]123456789", "").removeprefix("<|python_tag|>")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_family_writes_is_allowed(plain: ConstraintCompiler, name: ToolFormatChoice) -> None:
    calls = written(name)
    for is_forced in (True, False):
        assert accepts(compiled(plain, name, is_forced=is_forced), calls)
    assert not accepts(compiled(plain, name, is_forced=True), "Hello")
    if name != "harmony":
        assert accepts(compiled(plain, name), "Hello <\n")
        assert accepts(compiled(plain, name), "")
        assert accepts(compiled(plain, name), "I look:\n" + calls) or not calls.startswith(
            FORMATS[name].markers[0]
        )
        assert not accepts(compiled(plain, name, is_parallel=False), calls)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_forced", [True, False])
def test_a_thought_may_come_first(plain: ConstraintCompiler, name: ToolFormatChoice, is_forced: bool) -> None:
    if name == "harmony":
        return
    thought = ("<think>", "</think>")
    inner = f"maybe {FORMATS[name].markers[0]} x"
    constraint = compiled(plain, name, is_forced=is_forced, thought=thought)
    assert accepts(constraint, f"<think>{inner}</think>{written(name)}") != is_forced
    assert accepts(constraint, written(name))


def test_a_thought_that_the_prompt_began_is_ended_first(plain: ConstraintCompiler) -> None:
    import msgspec

    grammar = FORMATS["hermes"].grammar(
        TOOLS, is_forced=True, is_parallel=True, thought=("<think>", "</think>")
    )
    constraint = plain.compile(msgspec.structs.replace(grammar, is_thinking=True))
    assert accepts(constraint, f"Hm.\n</think>{written('hermes')}")
    assert not accepts(constraint, written("hermes"))


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_without_calls_can_have_a_form(plain: ConstraintCompiler, name: ToolFormatChoice) -> None:
    schema = (
        '{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}',
        "response_format",
    )
    constraint = compiled(plain, name, text_schema=schema)
    head = "<|channel|>final<|message|>" if name == "harmony" else ""
    assert accepts(constraint, head + '{"x": 1}')
    tag = "<|python_tag|>" if name == "llama3" else ""
    assert accepts(constraint, tag + written(name))
    assert not accepts(constraint, head + "Hello")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_random_answers_are_read_as_calls_that_fit(
    plain: ConstraintCompiler, marked: ConstraintCompiler, name: ToolFormatChoice, seed: int
) -> None:
    for compiler, vocabulary in ((plain, WordVocabulary()), (marked, MarkerVocabulary())):
        constraint = compiled(compiler, name, is_forced=True, is_parallel=seed % 2 == 0)
        text = write(constraint, vocabulary, random.Random(seed))
        # Where a text ends by a mark of several bytes, drawing at random does not end it.
        assert text is not None or name in ("gemma", "gemma4", "harmony", "qwen3_coder")
        if text is not None:
            check(name, text, is_forced=True, is_parallel=seed % 2 == 0)


def check(
    name: ToolFormatChoice,
    text: str,
    *,
    is_forced: bool,
    is_parallel: bool,
    tools: Sequence[OfferedTool] = TOOLS,
) -> int:
    if name == "harmony":
        from generation.reasoning.harmony import HarmonyReader
        from tests.generation.reasoning.pieces import read as read_reasoning

        opening = "<|start|>assistant"
        stage = HarmonyReader(0, opening=opening, keeps_calls=True)
        text = read_reasoning(stage, [text])[1]
    rest, calls, is_unfinished = read(parser(name, tools), [text])
    if is_forced:
        assert rest == ""
        assert calls
        assert is_parallel or len(calls) == 1
    assert not is_unfinished or name == "harmony", text
    parameters = {tool.name: json.loads(tool.parameters) for tool in tools}
    for function, arguments in calls:
        jsonschema.Draft202012Validator(parameters[function]).validate(json.loads(arguments))
    return len(calls)


_JSON_NAMES: list[ToolFormatChoice] = ["hermes", "llama3", "mistral", "mistral_args", "deepseek_v31"]
"""These write llguidance's own JSON, for any schema that is enforced; the others refuse more."""


def test_random_schemas(marked: ConstraintCompiler, plain: ConstraintCompiler) -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        name=st.sampled_from([*NAMES, *_JSON_NAMES]),
        made=st.lists(schemas, min_size=1, max_size=3),
        is_marked=st.booleans(),
        is_forced=st.sampled_from([True, True, False]),
        seed=st.integers(0, 2**32),
    )
    def walks(
        name: ToolFormatChoice, made: list[Schema], is_marked: bool, is_forced: bool, seed: int
    ) -> None:
        tools = [
            OfferedTool(
                f"f{index}",
                around(copy.deepcopy(schema)),
                f"tools[{index}].function.parameters",
            )
            for index, schema in enumerate(made)
        ]
        compiler, vocabulary = (marked, MarkerVocabulary()) if is_marked else (plain, WordVocabulary())
        try:
            constraint = compiled(compiler, name, tools, is_forced=is_forced)
        except InvalidRequest as error:
            is_named = error.param in ("tools", *(tool.param for tool in tools))
            outcomes["refused" if is_named else "refused without a name"] += 1
            return
        text = write(constraint, vocabulary, random.Random(seed), most=400)
        if text is None:
            outcomes["cut"] += 1
            return
        count = check(name, text, is_forced=is_forced, is_parallel=True, tools=tools)
        outcomes["called" if count else "text"] += 1

    walks()
    assert outcomes["called"] >= 50, outcomes
    assert outcomes["refused without a name"] == 0


@pytest.mark.parametrize("name", ["hermes", "llama3", "mistral", "qwen3_coder", "deepseek", "harmony"])
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"type": "array", "items": {"type": "string", "pattern": "(?=a)b"}}, "look-ahead"),
    ],
)
def test_a_schema_that_only_llguidance_refuses_is_named_and_nothing_of_ours_is_told(
    plain: ConstraintCompiler, name: ToolFormatChoice, schema: Schema, reason: str
) -> None:
    parameters = json.dumps({"type": "object", "properties": {"x": schema}, "required": ["x"]})
    bad = OfferedTool("bad", parameters, "tools[2].function.parameters")
    with pytest.raises(InvalidRequest, match=reason) as caught:
        compiled(plain, name, (*TOOLS, bad))
    assert caught.value.param == "tools[2].function.parameters"
    assert_nothing_leaks(caught.value.message)


def test_tools_that_are_too_much_together_are_refused_without_the_grammar(plain: ConstraintCompiler) -> None:
    values = [f"{index:x}" * 2 for index in range(6000)]
    large = json.dumps({"type": "object", "properties": {"x": {"enum": values}}})
    tools = [OfferedTool(f"f{index}", large, f"tools[{index}].function.parameters") for index in range(2)]
    compiled(plain, "hermes", tools[:1])
    with pytest.raises(InvalidRequest) as caught:
        compiled(plain, "hermes", tools)
    assert caught.value.param == "tools"
    assert "too big" in caught.value.message
    assert_nothing_leaks(caught.value.message)


def assert_nothing_leaks(message: str) -> None:
    """The grammar of calls, and the options in it, are no business of a client's."""
    assert not [word for word in (" | ", "call0", "x-guidance", "%json") if word in message], message


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_that_cannot_be_enforced_is_named(plain: ConstraintCompiler, name: ToolFormatChoice) -> None:
    bad = OfferedTool(
        "bad",
        '{"type": "object", "properties": {"x": {"type": "string", "nonsense": 1}}}',
        "tools[2].function.parameters",
    )
    with pytest.raises(InvalidRequest) as caught:
        compiled(plain, name, (*TOOLS, bad))
    assert caught.value.param == "tools[2].function.parameters"
    with pytest.raises(InvalidRequest) as again:
        compiled(plain, name, (*TOOLS, bad))
    assert again.value.param == "tools[2].function.parameters"
