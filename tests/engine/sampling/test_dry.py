"""DRY against its definition, looked up anew for every token of the history."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from engine.sampling.breakers import NO_BREAKERS, BreakerIndex, Breakers
from engine.sampling.dry import Dry
from engine.sampling.params import SamplingParams
from tests.fakes.vocabulary import ByteVocabulary

_SIZE = 5


def _breakers(single: set[int], tails: dict[int, set[tuple[int, ...]]]) -> Breakers:
    mask = np.zeros(_SIZE, dtype=np.bool_)
    mask[list(single)] = True
    return Breakers(mask, tails, tuple(sorted({len(tail) for some in tails.values() for tail in some})))


def _unbroken(tokens: list[int], breakers: Breakers) -> int:
    """How many of the last ``tokens`` come behind the breaker that begins last."""
    for start in reversed(range(len(tokens))):
        lengths = [0] if breakers.single[tokens[start] :][:1].any() else []
        for tail in breakers.tails.get(tokens[start], ()):
            if tuple(tokens[start + 1 : start + 1 + len(tail)]) == tail:
                lengths.append(len(tail))
        if lengths:
            return len(tokens) - 1 - start - max(lengths)
    return len(tokens)


def _expected(params: SamplingParams, history: list[int], breakers: Breakers) -> dict[int, float]:
    tokens = history[-params.dry_penalty_last_n :] if params.dry_penalty_last_n > 0 else history
    limit = _unbroken(tokens, breakers)
    allowed = params.dry_allowed_length
    if len(tokens) <= allowed or limit < allowed:
        return {}
    longest: dict[int, int] = {}
    for end in range(1, len(tokens)):  # what came before position ``end`` may be what came last
        length = 0
        while length < min(end, limit) and tokens[end - 1 - length] == tokens[len(tokens) - 1 - length]:
            length += 1
        if length >= allowed and not breakers.single[tokens[end] :][:1].any():
            longest[tokens[end]] = max(length, longest.get(tokens[end], 0))
    return {
        # A repeat of forty tokens costs a number of which no more than this is taken off: it bans well enough.
        token: min(params.dry_multiplier * params.dry_base ** (length - allowed), 1e9)
        for token, length in longest.items()
    }


_tokens = st.lists(st.integers(0, _SIZE - 1), max_size=40)
_some_breakers = st.one_of(
    st.just(NO_BREAKERS),
    st.builds(
        _breakers,
        st.sets(st.integers(0, _SIZE - 1), max_size=1),
        st.dictionaries(
            st.integers(0, _SIZE - 1),
            st.sets(st.lists(st.integers(0, _SIZE - 1), min_size=1, max_size=3).map(tuple), min_size=1),
            max_size=2,
        ),
    ),
)


@settings(deadline=None, max_examples=400)
@given(
    prompt=_tokens,
    generated=_tokens,
    allowed=st.integers(0, 4),
    last_n=st.one_of(st.just(-1), st.integers(1, 30)),
    base=st.sampled_from([1.0, 1.75]),
    breakers=_some_breakers,
)
@example(prompt=[1] * 300, generated=[1] * 300, allowed=2, last_n=-1, base=1.0, breakers=NO_BREAKERS)
@example(prompt=[], generated=[0, 1, 2] * 150, allowed=2, last_n=7, base=1.75, breakers=NO_BREAKERS)
@example(prompt=[], generated=[0] * 45, allowed=0, last_n=-1, base=1.75, breakers=NO_BREAKERS)
@example(
    prompt=[], generated=[2, *[0] * 23, 2, 0], allowed=2, last_n=25, base=1.0, breakers=NO_BREAKERS
)  # the only repeat begins before the window
def test_a_token_costs_what_the_longest_repeat_that_it_continues_asks_for(
    prompt: list[int], generated: list[int], allowed: int, last_n: int, base: float, breakers: Breakers
) -> None:
    params = SamplingParams(
        dry_multiplier=0.8, dry_base=base, dry_allowed_length=allowed, dry_penalty_last_n=last_n
    )
    dry = Dry(params, np.array(prompt, dtype=np.int32), breakers)
    for token in generated:
        dry.accept(token)
    logits = np.zeros(_SIZE, dtype=np.float32)
    dry.apply(logits)
    expected = _expected(params, prompt + generated, breakers)
    assert logits.tolist() == pytest.approx([-expected.get(t, 0.0) for t in range(_SIZE)], rel=1e-4)


def test_an_endless_repeat_costs_much_and_overflows_nothing() -> None:
    dry = Dry(SamplingParams(dry_multiplier=100.0, dry_base=100.0), np.array([1], dtype=np.int32))
    for _ in range(2000):
        dry.accept(1)
    logits = np.zeros(3, dtype=np.float32)
    dry.apply(logits)
    assert logits.tolist() == [0.0, -1e9, 0.0]


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(dry_multiplier=1, dry_penalty_last_n=0)])
def test_it_is_made_only_where_it_does_something(params: SamplingParams) -> None:
    assert not Dry.is_needed(params)


PIECES = [b"a", b"b", b"ab", b"xa", b"xab", b"bx", b"\xc3", b"\xa9", b"\xc3\xa9", b""]


def _index() -> BreakerIndex:
    """Texts are tokenised byte by byte, to ids far from the pieces'."""
    return BreakerIndex(len(PIECES), PIECES.__getitem__, lambda text: [1000 + b for b in text.encode()])


def test_a_breaker_is_found_inside_tokens_and_across_two() -> None:
    breakers = _index().find(("ab",))
    assert np.flatnonzero(breakers.single).tolist() == [2, 4]
    assert breakers.tails == {0: {(1000 + ord("b"),)}, 3: {(1000 + ord("b"),)}}
    assert breakers.tail_lengths == (1,)


def test_a_tail_that_begins_within_a_character_is_left_out() -> None:
    breakers = _index().find(("é",))
    assert np.flatnonzero(breakers.single).tolist() == [8]
    assert breakers.tails == {}


def test_several_breakers_add_up_and_are_found_once() -> None:
    index = _index()
    breakers = index.find(("x", "b"))
    assert np.flatnonzero(breakers.single).tolist() == [1, 2, 3, 4, 5]
    assert index.find(("x", "b")) is breakers
    assert index.find(()) is NO_BREAKERS
    for number in range(20):
        assert not index.find((f"z{number}",)).single.any()
    assert index.find(("x", "b")).single.tolist() == breakers.single.tolist()


_pieces = st.lists(st.text("abc", max_size=4).map(str.encode), min_size=1, max_size=8)


@settings(deadline=None, max_examples=300)
@given(pieces=_pieces, text=st.text("abc", min_size=1, max_size=5))
def test_the_search_of_a_vocabulary_by_its_definition(pieces: list[bytes], text: str) -> None:
    raw = text.encode()
    found = BreakerIndex(len(pieces), pieces.__getitem__, lambda tail: list(tail.encode())).find((text,))
    for token, piece in enumerate(pieces):
        assert found.single[token] == (raw in piece)
        tails = {tuple(raw[n:]) for n in range(1, len(raw)) if piece.endswith(raw[:n]) and raw not in piece}
        assert found.tails.get(token, set()) == tails


def test_the_default_breakers_in_a_vocabulary_of_bytes() -> None:
    vocabulary = ByteVocabulary()
    index = BreakerIndex(vocabulary.size, vocabulary.piece, lambda text: list(text.encode()))
    breakers = index.find(SamplingParams().dry_sequence_breakers)
    assert np.flatnonzero(breakers.single).tolist() == sorted(b'\n:"*')
