"""Prompts to tokens over the byte vocabulary: length checks, beginnings, ids, and the plain pieces of a chat."""

from __future__ import annotations

import pytest

from engine.chat_template import ChatTemplate
from engine.errors import ContextLengthExceeded, InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt, InfillPrompt, Prompt, TextPrompt, TokenPrompt
from engine.prompt_reader import PromptReader
from tests.fakes.vocabulary import BEGINNING, END, END_OF_TURN, START_OF_TURN, ByteVocabulary

_SOURCE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def _reader(
    source: str | None = _SOURCE, *, context: int = 100, begins: bool = True, ends: bool = True
) -> PromptReader:
    vocabulary = ByteVocabulary(begins=begins, ends=ends)
    template = (
        None
        if source is None
        else ChatTemplate(source, beginning="<s>", end="</s>", control_texts=vocabulary.control_texts)
    )
    return PromptReader(vocabulary, template, context=context)


def _chat(content: str) -> ChatPrompt:
    return ChatPrompt((ChatMessage(role="user", content=content),))


def _read(reader: PromptReader, prompt: Prompt) -> list[int]:
    return [int(token) for token in reader.read(prompt, max_tokens=1).tokens]


def test_a_text_begins_as_the_vocabulary_wants_and_its_special_tokens_are_honoured() -> None:
    assert _read(_reader(), TextPrompt("a<|im_end|>")) == [BEGINNING, ord("a"), END_OF_TURN]


@pytest.mark.parametrize("begins", [True, False])
def test_an_infill_is_prefix_suffix_and_middle(begins: bool) -> None:
    vocabulary = ByteVocabulary(begins=begins, infills=True)
    reader = PromptReader(vocabulary, None, context=100)
    beginning = [BEGINNING] if begins else []
    # Special-token text is plain text in it.
    wanted = [*beginning, 1, *b"a</s>", 2, *b"b<s>", 3]
    assert _read(reader, InfillPrompt(TextPrompt("a</s>"), "b<s>")) == wanted
    assert _read(reader, InfillPrompt(TokenPrompt((*b"a", END)), "")) == [*beginning, 1, *b"a", END, 2, 3]
    assert _read(reader, InfillPrompt(TextPrompt(""), "b")) == [*beginning, 1, 2, *b"b", 3]


def test_an_infill_is_refused_by_the_name_of_its_suffix_where_there_are_no_markers() -> None:
    with pytest.raises(InvalidRequest, match="filling in the middle") as caught:
        _reader().read(InfillPrompt(TextPrompt("a"), "b"), max_tokens=1)
    assert caught.value.param == "suffix"


def test_a_chats_control_tokens_are_the_templates_alone() -> None:
    tokens = _read(_reader(), _chat("a<|im_end|>"))
    assert tokens == [BEGINNING, START_OF_TURN, ord("a"), *b"<|im_end|>", END_OF_TURN]


def test_a_beginning_that_the_template_writes_too_is_kept_once() -> None:
    assert _read(_reader("{{ bos_token }}" + _SOURCE), _chat("a"))[:2] == [BEGINNING, START_OF_TURN]
    tokens = _read(_reader("{{ bos_token }}" + _SOURCE, begins=False), _chat("a"))
    assert tokens[:2] == [BEGINNING, START_OF_TURN]


def test_a_beginning_that_a_user_types_is_text_even_at_the_very_start() -> None:
    assert _read(_reader("{{ messages[0].content }}"), _chat("<s>")) == [BEGINNING, *b"<s>"]


def test_ids_are_taken_as_they_are() -> None:
    assert _read(_reader(), TokenPrompt((5, END, 0))) == [5, END, 0]


@pytest.mark.parametrize("wrong", [-1, ByteVocabulary.size, 2**31, 2**63])
def test_ids_outside_the_vocabulary_are_refused_by_name(wrong: int) -> None:
    with pytest.raises(InvalidRequest, match=str(wrong)) as caught:
        _read(_reader(), TokenPrompt((1, wrong)))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", [TextPrompt(""), TokenPrompt(())])
def test_nothing_still_has_a_token_to_go_on_from(prompt: TextPrompt | TokenPrompt) -> None:
    assert _read(_reader(), prompt) == [BEGINNING]
    assert _read(_reader(begins=False), prompt) == [END]
    with pytest.raises(InvalidRequest, match="empty"):
        _read(_reader(begins=False, ends=False), prompt)


def test_a_chat_for_a_model_without_a_template_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="no chat template") as caught:
        _read(_reader(None), _chat("hi"))
    assert caught.value.param == "messages"


def test_a_prompt_and_its_answer_may_fill_the_context_and_no_more() -> None:
    reader = _reader(context=10)
    prompt = TokenPrompt((1,) * 7)
    assert reader.read(prompt, max_tokens=3).tokens.size == 7
    with pytest.raises(ContextLengthExceeded, match=r"10 tokens.* 11 \(7 in the prompt, 4 for the answer\)"):
        reader.read(prompt, max_tokens=4)


def test_without_a_token_limit_one_token_must_fit() -> None:
    reader = _reader(context=10)
    assert reader.read(TokenPrompt((1,) * 9), max_tokens=None).tokens.size == 9
    with pytest.raises(ContextLengthExceeded, match=r"10 tokens.* 11 \(10 in the prompt\)"):
        reader.read(TokenPrompt((1,) * 10), max_tokens=None)


def test_a_chat_tells_what_its_template_wrote_last_and_never_what_a_user_typed() -> None:
    opened = _reader(_SOURCE + "{{ '<|im_start|>assistant\\n<think>\\n' }}")
    assert opened.read(_chat("a"), max_tokens=1).opening.endswith("<|im_start|>assistant\n<think>\n")
    assert _reader("{{ messages[0].content }}").read(_chat("a<s>"), max_tokens=1).opening == ""
    assert _reader().read(TextPrompt("<think>"), max_tokens=1).opening == ""
