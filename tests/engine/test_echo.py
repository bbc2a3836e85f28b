"""Prompts that come back, and their log-likelihoods: each token once, from its own logits, whoever runs beside."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from engine.echo import read_echo
from engine.prompt import InfillPrompt, Prompt, TextPrompt, TokenPrompt
from engine.prompt_reader import PromptReader, ReadPrompt
from engine.sampling.scratch import Scratch
from engine.scheduler import equal_part
from engine.token_scorer import TokenScorer
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench
from tests.fakes.vocabulary import BEGINNING, END_OF_TURN, ByteVocabulary

LONG = tuple(i * 7 % 200 for i in range(50))


def offsets(prompt: Prompt, tokens: list[int]) -> tuple[str, list[int]]:
    vocabulary = ByteVocabulary()
    scorer = TokenScorer(vocabulary, Scratch(vocabulary.size), top=0)
    echo = read_echo(vocabulary, prompt, ReadPrompt(np.array(tokens, dtype=np.int32)), scorer)
    echo.score(np.zeros((len(tokens), vocabulary.size), dtype=np.float32), 0)
    told = echo.told()
    assert not echo.is_pending
    assert told.logprobs is not None
    assert told.logprobs[0].logprob is None
    assert len(told.logprobs) == len(tokens)
    return told.text, [token.offset for token in told.logprobs]


def test_a_text_is_echoed_as_it_was_sent() -> None:
    tokens = [BEGINNING, *"aé<|im_end|>b".encode()]
    assert offsets(TextPrompt("aé<|im_end|>b"), tokens) == (
        "aé<|im_end|>b",
        [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    )
    tokens = [BEGINNING, *b"a", END_OF_TURN, *b"b"]
    assert offsets(TextPrompt("a<|im_end|>b"), tokens) == ("a<|im_end|>b", [0, 0, 1, 11])
    assert offsets(TextPrompt(""), [BEGINNING]) == ("", [0])


def test_a_space_that_the_vocabulary_adds_is_no_part_of_the_text() -> None:
    # As SentencePiece does: " hi" for a text that begins with "h".
    class Spaced(ByteVocabulary):
        def piece(self, token: int) -> bytes:
            return b" hi" if token == 7 else super().piece(token)

    echo = read_echo(Spaced(), TextPrompt("hi hi!"), ReadPrompt(np.array([7, 7, 33], dtype=np.int32)), None)
    assert (echo.text, echo._offsets) == ("hi hi!", [0, 2, 5])


def test_tokens_are_echoed_as_the_text_that_they_make() -> None:
    assert offsets(TokenPrompt(()), [BEGINNING, *"é".encode(), END_OF_TURN, *b"b"]) == ("éb", [0, 0, 0, 1, 1])
    assert offsets(TokenPrompt(()), [0xC3]) == ("", [0])


@pytest.mark.parametrize("prefix", [TextPrompt("é<s>"), TokenPrompt(tuple("é<s>".encode()))])
def test_of_an_infill_the_prefix_is_echoed(prefix: TextPrompt | TokenPrompt) -> None:
    vocabulary = ByteVocabulary(infills=True)
    prompt = InfillPrompt(prefix, "suffix")
    read = PromptReader(vocabulary, None, context=100).read(prompt, max_tokens=1)
    scorer = TokenScorer(vocabulary, Scratch(vocabulary.size), top=0)
    echo = read_echo(vocabulary, prompt, read, scorer)
    size = len(read.tokens)
    for at in range(0, size, 3):
        echo.score(np.zeros((min(3, size - at), vocabulary.size), dtype=np.float32), at)
    told = echo.told()
    assert not echo.is_pending
    assert told.text == "é<s>"
    assert told.logprobs is not None
    assert [(token.raw, token.offset) for token in told.logprobs] == [
        (b"\xc3", 0),
        (b"\xa9", 0),
        (b"<", 1),
        (b"s", 2),
        (b">", 3),
    ]
    assert all(token.logprob is not None for token in told.logprobs), "there is a marker before them"


@given(st.text(max_size=30))
def test_offsets_are_where_the_characters_begin(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    text = raw.decode()
    _, told = offsets(TextPrompt(text), [BEGINNING, *raw])
    lengths = [len(character.encode()) for character in text]
    assert told == [0] + [at for at, length in enumerate(lengths) for _ in range(length)]


@given(st.integers(1, 5000), st.integers(1, 100))
def test_equal_parts_are_equal(tokens: int, most: int) -> None:
    sizes = []
    left = tokens
    while left:
        sizes.append(equal_part(left, most))
        left -= sizes[-1]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-tokens // most)


@pytest.mark.parametrize("shares_prefixes", [True, False])
@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_a_scored_prompt_takes_nothing_from_the_cache(max_tokens: int, shares_prefixes: bool) -> None:
    bench = Bench(prefix_memory_bytes=100_000, shares_prefixes=shares_prefixes)
    asks = [
        Ask(prompt=LONG, max_tokens=4),
        Ask(prompt=LONG, max_tokens=max_tokens, logprobs=2, echo=True),
        Ask(prompt=(*LONG, 3), max_tokens=max_tokens, logprobs=0, echo=True),
    ]
    numbers = [bench.submit(ask) for ask in asks]
    bench.run()
    numbers += [bench.submit(ask) for ask in asks]
    bench.run()
    bench.check_answers()
    cached = [answer.finish.cached_tokens for n in numbers if (answer := bench.answers[n][0]).finish]
    assert [cached[i] for i in (1, 2, 4, 5)] == [0, 0, 0, 0]
    bench.check_nothing_leaked()


def test_an_echo_without_scores_shares_as_any_prompt_does() -> None:
    bench = Bench()
    bench.submit(Ask(prompt=LONG, max_tokens=1))
    bench.run()
    number = bench.submit(Ask(prompt=LONG, max_tokens=0, echo=True))
    bench.run()
    bench.check_answers()
    finish = bench.answers[number][0].finish
    assert finish is not None
    assert (finish.reason, finish.completion_tokens, finish.cached_tokens) == ("length", 0, len(LONG) - 1)


@pytest.mark.parametrize("max_tokens", [0, 3])
@pytest.mark.parametrize("is_cached", [True, False])
def test_the_choices_of_a_scored_prompt_compute_it_once(max_tokens: int, is_cached: bool) -> None:
    bench = Bench()
    if is_cached:
        bench.submit(Ask(prompt=LONG, max_tokens=1))
        bench.run()
    before = bench.backend.computed
    bench.submit(Ask(prompt=LONG, n=3, max_tokens=max_tokens, logprobs=1, echo=True, ignores_end=True))
    bench.run()
    bench.check_answers()
    # Once in whole, and for each other choice its last token; what is generated is computed but for the last.
    assert bench.backend.computed - before <= len(LONG) + 2 + 3 * max(0, max_tokens - 1)
    bench.check_nothing_leaked()


def test_short_prompts_are_scored_together() -> None:
    bench = Bench()
    for seed in range(4):
        bench.submit(Ask(prompt=(seed, 1, 2, 3), max_tokens=0, logprobs=1, echo=True))
    bench.step()
    assert [count for _, count in bench.backend.steps[0]] == [4, 4, 4, 4]
    bench.check_answers()


def test_a_scored_prompt_leaves_rows_to_running_answers() -> None:
    bench = Bench()
    running = bench.submit(Ask(prompt=(1,), max_tokens=60, ignores_end=True))
    bench.step()
    for seed in range(3):
        bench.submit(Ask(prompt=(seed, *LONG), max_tokens=2, logprobs=1, echo=True))
    for _ in range(8):
        before = bench.answers[running][0].tokens
        bench.step()
        assert bench.sequences[running][0].generated > before
    bench.run()
    bench.check_answers()
