"""The slow, obvious model of what one sequence must answer, computed from the definitions."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.token_logprob import Alternative, TokenLogprob
from tests.fakes.backend import HashModel
from tests.fakes.vocabulary import END, ByteVocabulary

_E_ACUTE = "é".encode()
ALPHABET = (*b"abcdefgh", *_E_ACUTE, *_E_ACUTE, _E_ACUTE[1], END)
"""What the fake model likes to say: letters, so that stop strings come up, bytes of a split character, an end."""
GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Ask:
    """One request in the terms of the core: a prompt of token ids, ``n`` choices."""

    prompt: tuple[int, ...]
    n: int = 1
    max_tokens: int = 8
    min_tokens: int = 0
    ignores_end: bool = False
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = GREEDY
    prediction: tuple[int, ...] | None = None
    """What is drafted from besides the sequence itself; None drafts nothing."""
    logprobs: int | None = None
    echo: bool = False
    tenant: str = ""
    priority: int = 0
    adapters: AdapterSet = NO_ADAPTERS


@dataclass(frozen=True)
class Expected:
    text: str
    tokens: int
    reason: str
    logprobs: list[TokenLogprob]
    mean_logprob: float = 0.0
    """Of the tokens that were drawn."""


def answer_alone(model: HashModel, ask: Ask, choice: int = 0) -> Expected:
    """Compute one choice from the definitions, whole text at every token, nothing shared and nothing held back."""
    sampler = sampler_of(ask, choice, Scratch(model.vocabulary_size))
    vocabulary = ByteVocabulary()
    ends = set(vocabulary.end_tokens.tolist())
    tokens = list(ask.prompt)
    raw = before_stops = b""
    echo, echoed = echo_alone(model, ask) if ask.echo else ("", [])
    scores: list[TokenLogprob] = []
    drawn: list[float] = []

    def expected(text: str, count: int, reason: str, *, is_cut: bool = False) -> Expected:
        kept = [score for score in scores if score.offset < len(echo + text) or not is_cut]
        mean = sum(drawn) / len(drawn) if drawn else 0.0
        return Expected(echo + text, count, reason, echoed + kept, mean)

    for count in range(1, ask.max_tokens + 1):
        may_end = count > ask.min_tokens and not ask.ignores_end
        token = sampler.sample(model.logits_after(tokens, ask.adapters), may_end=may_end)
        logprobs = log_softmax(model.logits_after(tokens, ask.adapters))
        drawn.append(logprobs[token])
        if token in ends:
            return expected(_whole_characters(raw), count, "stop")
        scores.append(scored(logprobs, token, len(echo + _whole_characters(raw)), ask))
        tokens.append(token)
        raw += vocabulary.piece(token)
        if count <= ask.min_tokens:
            before_stops = raw
            continue
        unwatched, text = len(_whole_characters(before_stops)), _whole_characters(raw)
        cuts = [at for stop in ask.stop if (at := text.find(stop, unwatched)) >= 0]
        if cuts:
            return expected(text[: min(cuts)], count, "stop", is_cut=True)
    return expected(_whole_characters(raw), ask.max_tokens, "length")


def echo_alone(model: HashModel, ask: Ask) -> tuple[str, list[TokenLogprob]]:
    """The text of a prompt of tokens, and their log-probabilities from the definition."""
    scores: list[TokenLogprob] = []
    raw = b""
    for at, token in enumerate(ask.prompt):
        offset = len(_whole_characters(raw))
        logprobs = log_softmax(model.logits_after(ask.prompt[:at], ask.adapters))
        score = scored(logprobs, token, offset, ask)
        scores.append(score if at else TokenLogprob(score.raw, None, 0, (), score.is_text))
        raw += ByteVocabulary().piece(token)
    return _whole_characters(raw), scores


def scored(logprobs: npt.NDArray[np.float64], token: int, offset: int, ask: Ask) -> TokenLogprob:
    likeliest = np.argsort(-logprobs, kind="stable")[: ask.logprobs or 0].tolist()
    top = tuple(Alternative(name(other), logprobs[other], other < 256) for other in likeliest)
    return TokenLogprob(name(token), logprobs[token], offset, top, token < 256)


def name(token: int) -> bytes:
    """What a token of the byte vocabulary adds to a text, or the name of a control token."""
    vocabulary = ByteVocabulary()
    return vocabulary.piece(token) or vocabulary.special_text(token).encode()


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """By its definition, in double precision."""
    exact = logits.astype(np.float64)
    exact -= exact.max()
    normaliser: np.float64 = np.log(np.exp(exact).sum())
    return exact - normaliser


def check_logprobs(told: Iterable[TokenLogprob], expected: Iterable[TokenLogprob]) -> None:
    """The same tokens and places; the figures as near as single precision lets them be."""
    for one, other in zip(told, expected, strict=True):
        assert (one.raw, one.is_text, one.offset) == (other.raw, other.is_text, other.offset)
        assert one.logprob == (None if other.logprob is None else pytest.approx(other.logprob, abs=1e-5))
        assert [(top.raw, top.is_text) for top in one.top] == [(top.raw, top.is_text) for top in other.top]
        assert [top.logprob for top in one.top] == pytest.approx([t.logprob for t in other.top], abs=1e-5)


def _whole_characters(raw: bytes) -> str:
    """All but an unfinished character at the end."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(raw)


def sampler_of(ask: Ask, choice: int, scratch: Scratch) -> Sampler:
    return Sampler(
        ask.sampling,
        prompt=np.array(ask.prompt, dtype=np.int32),
        choice=choice,
        end_tokens=ByteVocabulary().end_tokens,
        scratch=scratch,
    )
