"""The canary as the worker holds it: started when needed, killed when it does not answer in time."""

from __future__ import annotations

import msgspec

from engine.constraint.canary import Question, Verdict
from engine.constraint.spec import ConstraintSpec
from engine.constraint.token_bytes import TokenBytes
from engine.helper_process import HelperProcess

ANSWER_S = 1.0
"""How long a grammar may take to compile, and its first masks to compute."""


class CanaryProcess:
    """Judges grammars in a process of its own. Owned by one thread; ``close`` may come from any."""

    def __init__(self, tokens: TokenBytes, *, answer_s: float = ANSWER_S) -> None:
        self._process = HelperProcess("engine.constraint.canary", msgspec.msgpack.encode(tokens))
        self._answer_s = answer_s

    def judge(self, spec: ConstraintSpec) -> Verdict:
        """The canary's verdict on ``spec``; its death and its silence are refusals."""
        question = msgspec.msgpack.encode(Question(spec))
        for is_second in (False, True):
            try:
                answer = self._process.ask(question, self._answer_s)
            except TimeoutError:
                self.close()
                return Verdict(refusal=f"it takes more than {self._answer_s:g} s to compile")
            if answer is not None:
                return msgspec.msgpack.decode(answer, type=Verdict)
            was_idle = self._process.reap() == 0
            if not was_idle or is_second:
                break
        return Verdict(refusal="it takes too much memory, or is nested too deeply")

    def start(self) -> None:
        """Start the process if there is none. Returns before it is ready."""
        self._process.start()

    def close(self) -> None:
        """End the process."""
        self._process.close()
