"""The process that meets every grammar first: ``python -m engine.constraint.canary``, spoken to over its pipes.

A hostile grammar can overflow the stack, take gigabytes, or compute for minutes with no way to stop it. Here it
does that to a process which serves nobody. What survives, within limits tighter than the worker's own, is safe
to compile in the worker. Messages are MessagePack (``engine.helper_pipe``): ``TokenBytes`` once, then a
``Question`` each time, each answered by a ``Verdict``. The process ends when its input does, or when it is idle.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import msgspec
from llguidance import LLMatcher, LLTokenizer

from engine import helper_pipe
from engine.constraint.grammar import grammar_of, limits
from engine.constraint.spec import ConstraintSpec
from engine.constraint.token_bytes import TokenBytes, build_tokenizer

_MEMORY_BYTES = 2 << 30
"""Of addresses: several times what an honest grammar takes, with the vocabulary."""
# The worker compiles and masks on threads of 8 MB at the least.
_STACK_BYTES = 2 << 20
_IDLE_S = 60.0
_WALK_STEPS = 24
_WALK_S = 0.3
_LONGEST_S = 10.0


class Question(msgspec.Struct, frozen=True):
    """May this be compiled?"""

    spec: ConstraintSpec


class Verdict(msgspec.Struct, frozen=True):
    """The grammar as llguidance reads it, or the reason why it is refused."""

    grammar: str = ""
    refusal: str = ""


def judge(tokenizer: LLTokenizer, spec: ConstraintSpec) -> Verdict:
    """Compile ``spec`` and walk some tokens into it, since some bombs go off at the first mask."""
    try:
        grammar = grammar_of(spec)
    except ValueError as error:
        return Verdict(refusal=str(error))
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits())
    refusal = matcher.get_error() or "; ".join(matcher.get_grammar_warnings()) or _walk(matcher)
    return Verdict(refusal=refusal) if refusal else Verdict(grammar)


def _walk(matcher: LLMatcher) -> str:
    """Why the grammar fails while it is used; empty if it does not."""
    ends_s = time.monotonic() + _WALK_S
    for step in range(_WALK_STEPS):
        if time.monotonic() > ends_s or matcher.is_stopped():
            break
        bits = matcher.compute_bitmask()
        if matcher.is_error():
            return matcher.get_error()
        # Any spread will do: a different corner of the vocabulary at each step.
        token = _first_allowed(bits, step * 7919 % len(bits))
        if token is None:
            return "no text can satisfy it"
        matcher.consume_token(token)
    # The end token may have been drawn, which stops a matcher without an error.
    return matcher.get_error() if matcher.is_error() else ""


def _first_allowed(bits: bytes, start: int) -> int | None:
    """The first token with a bit from byte ``start`` on, or else from the beginning on."""
    for offset, part in ((start, bits[start:]), (0, bits[:start])):
        if rest := part.lstrip(b"\0"):
            lowest = rest[0] & -rest[0]
            return (offset + len(part) - len(rest)) * 8 + lowest.bit_length() - 1
    return None


def _serve() -> None:
    tokenizer = build_tokenizer(msgspec.msgpack.decode(helper_pipe.receive(_IDLE_S), type=TokenBytes))
    helper_pipe.answer(msgspec.msgpack.encode(Verdict()))
    while True:
        question = msgspec.msgpack.decode(helper_pipe.receive(_IDLE_S), type=Question)
        # The parent kills earlier, unless it was killed itself: then nobody else would end a bomb.
        signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
        verdict = judge(tokenizer, question.spec)
        signal.setitimer(signal.ITIMER_REAL, 0)
        helper_pipe.answer(msgspec.msgpack.encode(verdict))


def main() -> None:
    helper_pipe.confine(_MEMORY_BYTES)
    threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=_serve)
    thread.start()
    thread.join()
    # Only an exception brings it here: whoever waits reads the end of the pipe.
    os._exit(1)


if __name__ == "__main__":
    main()
