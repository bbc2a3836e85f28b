"""A prompt that an answer begins with: its text, and how likely the model found each of its tokens.

Evaluation harnesses live on the second: they ask for no answer, and compare the likelihoods of texts.
"""

from __future__ import annotations

import codecs

import numpy as np

from engine.backend import Logits, Tokens
from engine.events import Echoed
from engine.prompt import InfillPrompt, Prompt, TextPrompt
from engine.prompt_reader import ReadPrompt, Vocabulary
from engine.token_logprob import TokenLogprob
from engine.token_scorer import TokenScorer


class Echo:
    """One prompt, shared by its choices: the first one computes it, with logits at every token if it is scored.

    The others begin once ``is_pending`` is over. Made by the thread that reads requests, and from then on owned by
    the worker's engine thread.
    """

    __slots__ = ("_offsets", "_scorer", "_scores", "_start", "_tokens", "is_pending", "text")

    def __init__(
        self, text: str, tokens: Tokens, offsets: list[int], scorer: TokenScorer | None, start: int = 0
    ) -> None:
        """``offsets`` tells for each token that is echoed how many characters of ``text`` stand before it.

        The echoed ones begin at ``start``; of an infill, neither markers nor suffix are.
        """
        self.text = text
        self._tokens = tokens
        self._offsets = offsets
        self._start = start
        self._scorer = scorer
        self._scores: list[TokenLogprob] = []
        self.is_pending = scorer is not None
        """Whether tokens are still to be scored."""

    @property
    def is_scored(self) -> bool:
        return self._scorer is not None

    def score(self, logits: Logits, start: int) -> None:
        """Take in the ``logits``, shape (n, v), of the prompt's tokens from index ``start`` on; they are only read.

        What stands behind a token tells how likely the next one was. The last tells of the answer, and of nothing
        here. Nothing that is scored is taken from the cache, which holds no logits.
        """
        if self._scorer is None or not self.is_pending:
            return
        if start == self._start == 0:
            self._scores.append(self._scorer.unscored(int(self._tokens[0]), self._offsets[0]))
        for index, row in enumerate(logits, start + 1):
            if index == len(self._tokens):
                self.is_pending = False
                break
            if 0 <= (at := index - self._start) < len(self._offsets):
                self._scores.append(self._scorer.score(row, int(self._tokens[index]), self._offsets[at]))

    def told(self) -> Echoed:
        """What an answer begins with."""
        return Echoed(self.text, tuple(self._scores) if self.is_scored else None)


def read_echo(vocabulary: Vocabulary, prompt: Prompt, read: ReadPrompt, scorer: TokenScorer | None) -> Echo:
    """The echo of ``prompt``, which was ``read``. ``scorer`` is None where the text is all that is wanted.

    A text is echoed as it was sent, tokens as the text that they make, in which control tokens do not show. Of an
    infill it is the prefix, as OpenAI has it.
    """
    start = read.prefix_start
    tokens = read.tokens if read.prefix_length is None else read.tokens[start : start + read.prefix_length]
    if isinstance(prompt, InfillPrompt):
        prompt = prompt.prefix
    if isinstance(prompt, TextPrompt):
        return Echo(prompt.text, read.tokens, _find(vocabulary, prompt.text, tokens), scorer, start)
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    offsets: list[int] = []
    parts: list[str] = []
    length = 0
    for token in tokens.tolist():
        offsets.append(length)
        parts.append(decode(vocabulary.piece(token)))
        length += len(parts[-1])
    return Echo("".join(parts), read.tokens, offsets, scorer, start)


def _find(vocabulary: Vocabulary, text: str, tokens: Tokens) -> list[int]:
    """Where in ``text`` each of its tokens begins, in characters.

    A token that is not found (a beginning token, a character that the vocabulary normalises) begins where it would
    stand, and takes no text.
    """
    raw = text.encode()
    starts: list[int] = []
    at = 0
    for token in tokens.tolist():
        starts.append(at)
        piece = vocabulary.piece(token) or vocabulary.special_text(token).encode()
        if raw.startswith(piece, at):
            at += len(piece)
        # SentencePiece puts a space before a text.
        elif piece.startswith(b" ") and raw.startswith(piece[1:], at):
            at += len(piece) - 1
    # Characters begin where no continuation byte stands; a token may begin within one.
    begins = (np.frombuffer(raw, dtype=np.uint8) & 0xC0) != 0x80
    before = np.concatenate([[0], np.cumsum(begins)])
    within = np.append(~begins, False)
    return [int(before[start] - within[start]) for start in starts]
