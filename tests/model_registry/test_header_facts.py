"""What headers say of models: what a worker finds out by loading them, and nothing worse whatever they say."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gguf
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.engine import Engine
from engine.quantization_type import QUANTIZATION_TYPES
from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.model_import import try_out
from model_registry.sources.directory import DirectorySource
from model_registry.sources.file_look import facts_told
from model_registry.sources.gguf_layout import TYPE_SIZES, read_layout
from model_registry.sources.header_facts import TYPE_NAMES, HeaderFacts, header_facts, part_facts
from tests.fixtures.tiny_gguf import Tiny, write_tiny

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
KINDS = {
    "chats": Tiny(template=TEMPLATE, file_type=0),
    "completes": Tiny(file_type=0),
    "mamba": Tiny("mamba", template=TEMPLATE, context=64, file_type=0),
    "embeds": Tiny("bert", pooling=gguf.PoolingType.CLS, file_type=0),
    "embeds by nature": Tiny("bert", file_type=0),
    "ranks": Tiny("bert", pooling=gguf.PoolingType.RANK, file_type=0),
    "chats in parts": Tiny(template=TEMPLATE, file_type=0, part_tensors=5),
    "chats behind a bare part": Tiny(template=TEMPLATE, file_type=0, part_tensors=8, is_first_bare=True),
}


def told(path: Path) -> HeaderFacts:
    facts = facts_told((path,))
    assert facts is not None
    return facts


@pytest.mark.parametrize("kind", KINDS)
async def test_they_are_what_a_worker_finds_out_by_loading_the_file(tmp_path: Path, kind: str) -> None:
    write_tiny(tmp_path / "tiny.gguf", KINDS[kind])
    source = DirectorySource(tmp_path)
    (found,) = source.find().models
    assert (found.id, found.failure) == ("tiny", None)
    config = RegistryConfig(data_dir=tmp_path, engine=EngineConfig(model_id="", model_path="", threads=1))
    record = await try_out(Model(found, source), config, Engine.start)
    assert found.header == HeaderFacts(
        architecture=record.architecture,
        parameters=record.parameters,
        quantisation="F32",
        context=record.context,
        template_sha256=record.template_sha256,
        capabilities=record.capabilities,
    )
    assert record.quantisation == "F32"


def test_the_names_of_types_are_those_of_the_format() -> None:
    assert {kind: gguf.GGMLQuantizationType(kind).name for kind in TYPE_SIZES} == TYPE_NAMES


def test_parts_are_told_together(tmp_path: Path) -> None:
    tiny = Tiny(template=TEMPLATE, licence="mit")
    whole = told(write_tiny(tmp_path / "whole.gguf", tiny))
    for name, shape in (
        ("split", Tiny(template=TEMPLATE, licence="mit", part_tensors=5)),
        ("bare", Tiny(template=TEMPLATE, licence="mit", part_tensors=5, is_first_bare=True)),
    ):
        (tmp_path / name).mkdir()
        write_tiny(tmp_path / name / "tiny.gguf", shape)
        (model,) = DirectorySource(tmp_path / name).find().models
        assert model.header == whole
    assert (whole.licence, whole.quantisation) == ("mit", "F32")


def _text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
Value = tuple[int, bytes]
"""The number of its type, and its bytes."""


def _text_value(value: str | bytes) -> Value:
    return 8, _text(value)


def _number(kind: int, value: float) -> Value:
    return kind, struct.pack(f"<{_FORMS[kind]}", value)


def _header(
    entries: Sequence[tuple[str, Value]], tensors: Sequence[tuple[tuple[int, ...], int]] = (((1,), 0),)
) -> bytes:
    """A header with tensors of these shapes and types, all at the same place."""
    pairs = (_text(key) + struct.pack("<I", kind) + raw for key, (kind, raw) in entries)
    told = (
        _text(f"t{place}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
        for place, (shape, kind) in enumerate(tensors)
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    return head + b"".join((*pairs, *told)) + bytes(4096)


def _facts(content: bytes) -> HeaderFacts:
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(content)
        file.flush()
        return header_facts([part_facts(read_layout(Path(file.name)))])


@pytest.mark.parametrize("name", QUANTIZATION_TYPES)
def test_the_type_is_named_as_it_is_ordered(name: str) -> None:
    number = QUANTIZATION_TYPES[name].number
    assert _facts(_header([("general.file_type", _number(4, number))])).quantisation == name


@pytest.mark.parametrize(
    "value", [None, _number(4, 999), _number(6, 2.0), _number(7, 1), _text_value("Q8_0")]
)
def test_without_it_most_bytes_decide(value: Value | None) -> None:
    entries = [] if value is None else [("general.file_type", value)]
    # 32 times 18 bytes of Q4_0 against 3 times 128 of F32, and one of a type that nobody knows.
    tensors = [((32, 32), 2), ((32, 1), 0), ((32, 2), 0), ((32, 1000), 99)]
    assert _facts(_header(entries, tensors)).quantisation == "Q4_0"
    assert _facts(_header(entries, [((1,), 99)])).quantisation == ""


def test_what_no_model_has_is_not_believed() -> None:
    many = (2**63, 2**63, 2**63, 2**63)
    facts = _facts(
        _header(
            [
                ("general.architecture", _text_value("lla\x1b[2Jma\u202e" + "x" * 500)),
                ("general.license", _text_value(b"m\xffit\r\n\0" * 40)),
            ],
            [(many, 99)],
        )
    )
    assert facts.architecture == ("lla[2Jma" + "x" * 500)[:80]
    assert facts.licence == ("m\ufffdit" * 40)[:80]
    assert facts.parameters == 0


@pytest.mark.parametrize(
    ("value", "context"),
    [
        (_number(11, 8192), 8192),
        (_number(10, 2**40), 0),
        (_number(5, -1), 0),
        (_number(12, 8192.0), 0),
        (_number(7, 1), 0),
        (_text_value("8192"), 0),
    ],
)
def test_a_context_is_a_whole_number_of_tokens(value: Value, context: int) -> None:
    entries = [("general.architecture", _text_value("llama")), ("llama.context_length", value)]
    assert _facts(_header(entries)).context == context


@pytest.mark.parametrize(
    ("entries", "licence"),
    [
        ({"license": "apache-2.0", "license.name": "x"}, "apache-2.0"),
        ({"license": "other", "license.name": "qwen-research"}, "qwen-research"),
        ({"license": "other"}, "other"),
        ({"license.name": "gemma"}, "gemma"),
        ({"license": "x" * 2000}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_told_by_the_word_that_says_most(entries: dict[str, str], licence: str) -> None:
    told = [(f"general.{key}", _text_value(value)) for key, value in entries.items()]
    assert _facts(_header(told)).licence == licence


@pytest.mark.parametrize(
    ("entries", "capabilities"),
    [
        ({"attention.causal": _number(7, 0)}, ("embedding",)),
        ({"attention.causal": _number(7, 1)}, ("completion",)),
        ({"attention.causal": _number(4, 0)}, ("completion",)),
        ({"pooling_type": _number(4, 0)}, ("completion",)),
        ({"pooling_type": _number(5, 3)}, ("embedding",)),
        ({"pooling_type": _number(4, 4), "attention.causal": _number(7, 0)}, ("rerank",)),
        ({"pooling_type": _number(4, 9)}, ("completion",)),
    ],
)
def test_what_it_can_be_asked_for(entries: dict[str, Value], capabilities: tuple[str, ...]) -> None:
    named = [("general.architecture", _text_value("llama"))]
    told = [*named, *((f"llama.{key}", value) for key, value in entries.items())]
    assert _facts(_header(told)).capabilities == capabilities
    assert _facts(_header([("general.architecture", _text_value("t5encoder"))])).capabilities == (
        "embedding",
    )


_KEYS = st.sampled_from(
    [
        "general.architecture",
        "general.file_type",
        "general.license",
        "general.license.name",
        "general.type",
        "llama.context_length",
        ".context_length",
        "llama.pooling_type",
        "llama.attention.causal",
        "tokenizer.chat_template",
        "split.count",
    ]
)
_VALUES = st.one_of(
    st.binary(max_size=2000).map(_text_value),
    st.text(max_size=200).map(_text_value),
    st.just(_text_value("llama")),
    st.integers(0, 2**64 - 1).map(lambda value: _number(10, value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: _number(11, value)),
    st.floats().map(lambda value: _number(12, value)),
    st.integers(0, 255).map(lambda value: _number(7, value)),
    st.lists(st.text(max_size=9), max_size=9).map(
        lambda texts: (9, struct.pack("<IQ", 8, len(texts)) + b"".join(map(_text, texts)))
    ),
)
_TENSORS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple), st.integers(0, 2**32 - 1) | st.just(99)
    ),
    max_size=5,
)


@settings(deadline=None)  # a loaded machine's disk has none
@given(entries=st.lists(st.tuples(_KEYS, _VALUES), max_size=12), tensors=_TENSORS)
def test_whatever_a_header_says_what_is_told_of_it_is_small_and_can_be_printed(
    entries: list[tuple[str, Value]], tensors: list[tuple[tuple[int, ...], int]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.gguf"
        path.write_bytes(_header(entries, tensors))
        (model,) = DirectorySource(path.parent).find().models or (None,)
    if model is None or model.header is None:
        return  # an adapter, or damaged: told by other tests
    facts = model.header
    assert msgspec.json.decode(msgspec.json.encode(facts), type=HeaderFacts) == facts
    for text in (facts.architecture, facts.licence, facts.quantisation):
        assert text.isprintable()
        assert len(text) <= 80
    assert 0 <= facts.parameters <= 10**15
    assert 0 <= facts.context < 2**31
    assert facts.capabilities
