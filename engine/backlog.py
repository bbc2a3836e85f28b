"""What has been asked of one engine and is not done: bounded in requests and in tokens, by tenant and in total.

Where it is full, a request is refused before anything is done for it, and told when what waits now will be done: the
tokens that wait, divided by the tokens a second that the engine was seen to compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.embedding import EmbeddingRequest, PairPrompt
from engine.errors import KeyQueueFull, QueueFull
from engine.pace import Pace
from engine.prompt import ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from engine.request import EngineRequest

_LETTERS_PER_TOKEN = 4
"""Of English text: a guess, until the worker has read the prompt."""
_LEAST_RETRY_S = 0.1
_MOST_RETRY_S = 600.0
_UNKNOWN_RETRY_S = 1.0
"""Before the engine was seen to compute anything."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may be under way or wait. A tenant is whoever the server tells apart; nobody in particular is none."""

    choices: int
    """That run or wait, together."""
    tenant_choices: int
    tokens: int
    """That wait, of prompts and of answers as long as they may become."""
    tenant_tokens: int


@dataclass(slots=True)
class Entry:
    """One request. ``answer_tokens`` is for all its choices."""

    tenant: str
    choices: int
    prompt_tokens: int
    answer_tokens: int
    is_waiting: bool = True

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


@dataclass(slots=True)
class _Sum:
    """Over all requests, or those of one tenant."""

    choices: int = 0
    waiting_tokens: int = 0
    begun_tokens: int = 0

    def add(self, entry: Entry, sign: int) -> None:
        self.choices += sign * entry.choices
        if entry.is_waiting:
            self.waiting_tokens += sign * entry.tokens
        else:
            self.begun_tokens += sign * entry.tokens


class Backlog:
    """The requests of one engine by their numbers. Owned by the event loop."""

    def __init__(self, model_id: str, pace: Pace) -> None:
        self._model_id = model_id
        self._pace = pace
        self._entries: dict[int, Entry] = {}
        self._all = _Sum()
        self._tenants: dict[str, _Sum] = {}

    @property
    def choices(self) -> int:
        """Under way or waiting."""
        return self._all.choices

    @property
    def waiting_tokens(self) -> int:
        return self._all.waiting_tokens

    def is_waiting(self, number: int) -> bool:
        """Whether the worker has not begun with it."""
        return number in self._entries and self._entries[number].is_waiting

    @property
    def retry_after_s(self) -> float:
        """Seconds until what waits now is done, by the pace of late."""
        seconds = self._pace.seconds_for(self._all.waiting_tokens or self._all.begun_tokens)
        if seconds is None:
            return _UNKNOWN_RETRY_S
        return min(_MOST_RETRY_S, max(_LEAST_RETRY_S, seconds))

    def check(self, entry: Entry, limits: QueueLimits) -> None:
        """Raise KeyQueueFull or QueueFull where there is no room for ``entry``.

        Whatever the limits of tokens are, there is room for a request before which nobody waits.
        """
        if entry.tenant:
            own = self._tenants.get(entry.tenant, _Sum())
            if own.choices + entry.choices > limits.tenant_choices:
                raise self._key_full(
                    f"has {own.choices} answers running or waiting, and one key may have {limits.tenant_choices}"
                )
            if own.waiting_tokens and own.waiting_tokens + entry.tokens > limits.tenant_tokens:
                raise self._key_full(
                    f"has {own.waiting_tokens} tokens waiting, and one key may have {limits.tenant_tokens}"
                )
        every = self._all
        if every.choices + entry.choices > limits.choices:
            raise self._full(f"{every.choices} answers running or waiting, and takes {limits.choices}")
        if every.waiting_tokens and every.waiting_tokens + entry.tokens > limits.tokens:
            raise self._full(f"{every.waiting_tokens} tokens waiting, and takes {limits.tokens}")

    def add(self, number: int, entry: Entry) -> None:
        self._entries[number] = entry
        self._count(entry, 1)

    def remove(self, number: int) -> None:
        """Take out a request that has ended in whatever way."""
        self._count(self._entries.pop(number), -1)

    def read(self, number: int, prompt_tokens: int) -> None:
        """Take in how many tokens the prompts of a request turned out to have. Unknown numbers have ended."""
        if entry := self._entries.get(number):
            self._count(entry, -1)
            entry.prompt_tokens = prompt_tokens
            self._count(entry, 1)

    def begin(self, number: int) -> None:
        """Take in that the worker has begun with a request. Unknown numbers have ended."""
        if entry := self._entries.get(number):
            self._count(entry, -1)
            entry.is_waiting = False
            self._count(entry, 1)

    def _count(self, entry: Entry, sign: int) -> None:
        self._all.add(entry, sign)
        if entry.tenant:
            own = self._tenants.setdefault(entry.tenant, _Sum())
            own.add(entry, sign)
            if own == _Sum():
                del self._tenants[entry.tenant]

    def _full(self, why: str) -> QueueFull:
        return QueueFull(f"{self._model_id} has {why}", retry_after_s=self.retry_after_s)

    def _key_full(self, why: str) -> KeyQueueFull:
        return KeyQueueFull(f"this API key {why} at {self._model_id}", retry_after_s=self.retry_after_s)


def entry_of(request: EngineRequest | EmbeddingRequest, pace: Pace, *, context: int) -> Entry:
    """What ``request`` is likely to cost. Inputs of an embedding take turns with others', and count as one choice.

    What is longer than the context counts as that: the worker refuses it, in better words than those of a queue.
    """
    prompts = request.inputs if isinstance(request, EmbeddingRequest) else request.prompts
    prompt_tokens = sum(min(context, _prompt_tokens(prompt)) for prompt in prompts)
    if isinstance(request, EmbeddingRequest):
        return Entry(request.tenant, 1, prompt_tokens, 0)
    choices = request.n * len(request.prompts)
    each = pace.answer_tokens if request.max_tokens is None else request.max_tokens
    return Entry(request.tenant, choices, prompt_tokens, round(choices * min(context, each)))


def _prompt_tokens(prompt: TextPrompt | TokenPrompt | ChatPrompt | InfillPrompt | PairPrompt) -> int:
    match prompt:
        case TokenPrompt(tokens=tokens):
            return len(tokens)
        case TextPrompt(text=text):
            return _guess(len(text))
        case PairPrompt(query=query, text=text):
            return _guess(len(query) + len(text))
        case InfillPrompt(prefix=prefix, suffix=suffix):
            return _prompt_tokens(prefix) + _guess(len(suffix))
        case ChatPrompt(messages=messages, tools=tools):
            told = sum(len(message.content or "") for message in messages)
            return _guess(told + sum(len(tool.parameters) + len(tool.description or "") for tool in tools))


def _guess(length: int) -> int:
    return length // _LETTERS_PER_TOKEN + 1
