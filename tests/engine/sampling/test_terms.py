"""What parameters mean in tokens: checked against the vocabulary, and obeyed by the sampler."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InvalidRequest
from engine.sampling.breakers import NO_BREAKERS
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader
from tests.fakes.vocabulary import ByteVocabulary

VOCABULARY = ByteVocabulary()


def _sampler(params: SamplingParams) -> Sampler:
    return Sampler(
        params,
        prompt=np.array([*b"ab"], dtype=np.int32),
        choice=0,
        end_tokens=VOCABULARY.end_tokens,
        scratch=Scratch(VOCABULARY.size),
        terms=TermReader(VOCABULARY).read(params),
    )


def test_words_are_read_with_and_without_a_space() -> None:
    terms = TermReader(VOCABULARY).read(SamplingParams(bad_words=("ab", (7,), (1, 2))))
    assert terms.bad_sequences == {(*b"ab",), (*b" ab",), (7,), (1, 2)}
    assert terms.breakers is NO_BREAKERS


def test_breakers_are_looked_for_only_where_they_matter() -> None:
    reader = TermReader(VOCABULARY)
    assert reader.read(SamplingParams(dry_sequence_breakers=("x",))).breakers is NO_BREAKERS
    breakers = reader.read(SamplingParams(dry_multiplier=1.0, dry_sequence_breakers=("x",))).breakers
    assert np.flatnonzero(breakers.single).tolist() == [ord("x")]


@pytest.mark.parametrize("token", [-1, VOCABULARY.size])
@pytest.mark.parametrize("param", ["logit_bias", "bad_words", "allowed_token_ids"])
def test_ids_outside_the_vocabulary_are_refused_by_name(param: str, token: int) -> None:
    params = {
        "logit_bias": SamplingParams(logit_bias={1: 1.0, token: 1.0}),
        "bad_words": SamplingParams(bad_words=((1, token),)),
        "allowed_token_ids": SamplingParams(allowed_token_ids=(1, token)),
    }[param]
    with pytest.raises(InvalidRequest, match=f"token id {token} ") as caught:
        TermReader(VOCABULARY).read(params)
    assert caught.value.param == param


def test_allowing_nothing_but_what_is_banned_is_refused() -> None:
    params = SamplingParams(allowed_token_ids=(1, 2), logit_bias={1: -100.0}, bad_words=((2,), (1, 3)))
    with pytest.raises(InvalidRequest) as caught:
        TermReader(VOCABULARY).read(params)
    assert caught.value.param == "allowed_token_ids"
    TermReader(VOCABULARY).read(SamplingParams(allowed_token_ids=(1, 2), logit_bias={1: -100.0}))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sequence_is_banned_where_it_would_be_completed(temperature: float) -> None:
    params = SamplingParams(
        temperature=temperature, bad_words=((1, 2, 3), (5,)), logit_bias={3: 50.0}, seed=1
    )
    sampler = _sampler(params)
    history: list[int] = []
    random = np.random.default_rng(0)
    for _ in range(400):
        # Only 1 and 2 come easily, but for 3, which would always come, and 5, which never may.
        logits = np.full(VOCABULARY.size, -1e4, dtype=np.float32)
        logits[[1, 2]] = random.normal(0, 1, 2)
        logits[3], logits[5] = (0.0, 1e5) if history[-1:] == [2] else (-1e5, 1e5)
        history.append(sampler.sample(logits, may_end=True))
    written = ",".join(map(str, history))
    assert "1,2,3" not in written
    assert "2,2,3" in written
    assert 5 not in history


def test_tokens_that_came_otherwise_count_too() -> None:
    sampler = _sampler(SamplingParams(temperature=0.0, bad_words=((1, 2, 3),)))
    sampler.accept(1)
    sampler.accept(2)
    logits = np.zeros(VOCABULARY.size, dtype=np.float32)
    logits[3], logits[4] = 9.0, 5.0
    assert sampler.sample(logits, may_end=True) == 4


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(seed=1),
        SamplingParams(seed=1, top_p=0.9),
        SamplingParams(seed=1, typical_p=0.5, xtc_probability=1.0),
        SamplingParams(seed=1, mirostat=2),
        SamplingParams(seed=1, mirostat=1),
    ],
    ids=range(6),
)
def test_nothing_but_what_is_allowed_and_not_banned_comes(params: SamplingParams) -> None:
    changes = {"allowed_token_ids": (9, 7, 7, 8), "logit_bias": {8: -100.0, 50: 100.0}}
    sampler = _sampler(
        SamplingParams(**{name: getattr(params, name) for name in params.__struct_fields__} | changes)
    )
    random = np.random.default_rng(0)
    logits = random.normal(0, 5, VOCABULARY.size).astype(np.float32)
    assert {sampler.sample(logits.copy(), may_end=True) for _ in range(100)} <= {7, 9}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_everything_is_banned_the_text_ends(temperature: float) -> None:
    sampler = _sampler(SamplingParams(temperature=temperature, top_p=0.5, allowed_token_ids=(1,)))
    logits = np.full(VOCABULARY.size, -np.inf, dtype=np.float32)
    assert sampler.sample(logits, may_end=False) == VOCABULARY.end_tokens[0]
