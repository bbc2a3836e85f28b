"""Specs to constraints: checked, tried out in the canary, compiled, and remembered."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from llguidance import LLMatcher, LLTokenizer

from engine.constraint.canary_process import ANSWER_S, CanaryProcess
from engine.constraint.constraint import Constraint
from engine.constraint.grammar import limits
from engine.constraint.mask import Mask
from engine.constraint.mask_thread import MaskThread
from engine.constraint.schema_check import PARAM, check_schema
from engine.constraint.spec import (
    MAX_SPEC_BYTES,
    MAX_TOOLS_BYTES,
    ConstraintSpec,
    JsonSchema,
    ToolGrammar,
    source_of,
)
from engine.constraint.token_bytes import Retokenizer, TokenBytes, Vocabulary, build_tokenizer
from engine.constraint.tool_grammar import lark_of_tools
from engine.errors import InvalidRequest

_REMEMBERED = 16
"""Compiled grammars; each may come to hold tens of megabytes of lexer states."""
_REMEMBERED_REFUSALS = 64
_REASON_CHARACTERS = 300
_POSITION = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_EXCERPT = re.compile(r"\n *\d+ \| ")
"""How llguidance begins to show the lines of a grammar around a fault."""

_Value = TypeVar("_Value")


class _Recent(Generic[_Value]):
    """The values of the specs used last."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[ConstraintSpec, _Value] = OrderedDict()

    def get(self, spec: ConstraintSpec) -> _Value | None:
        if (value := self._values.get(spec)) is not None:
            self._values.move_to_end(spec)
        return value

    def put(self, spec: ConstraintSpec, value: _Value) -> None:
        self._values[spec] = value
        self._values.move_to_end(spec)
        while len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def forget(self, spec: ConstraintSpec) -> None:
        self._values.pop(spec, None)


class _Tools:
    """What is made of a vocabulary once, when the first constraint is asked for."""

    def __init__(self, vocabulary: Vocabulary, answer_s: float) -> None:
        tokens = TokenBytes.of(vocabulary)
        self.canary = CanaryProcess(tokens, answer_s=answer_s)
        self.canary.start()
        retokenizer = Retokenizer(vocabulary)
        self.tokenizer: LLTokenizer = build_tokenizer(tokens, retokenizer)
        retokenizer.fall_back_on(self.tokenizer.greedy_tokenize)
        self.ends = frozenset(tokens.ends)
        self.mask = Mask(vocabulary.size, tokens.ends)


class ConstraintCompiler:
    """Compiles the constraints of one model. ``compile`` and ``warm`` may be called from any one thread at a time,
    which may have to wait for a second; never from the engine thread.
    """

    def __init__(self, vocabulary: Vocabulary, *, answer_s: float = ANSWER_S) -> None:
        """``answer_s`` is how long one grammar may take to compile, in seconds."""
        self._vocabulary = vocabulary
        self._answer_s = answer_s
        self._tools: _Tools | None = None
        self._thread = MaskThread()
        self._compiled: _Recent[LLMatcher] = _Recent(_REMEMBERED)
        self._refusals: _Recent[InvalidRequest] = _Recent(_REMEMBERED_REFUSALS)
        # The engine thread forgets while the compiling thread remembers; neither holds it for long.
        self._remembering = threading.Lock()

    def warm(self) -> None:
        """Make what the first ``compile`` would otherwise make: the trie of the vocabulary, and the canary."""
        self._ready_tools()

    def _ready_tools(self) -> _Tools:
        if self._tools is None:
            self._tools = _Tools(self._vocabulary, self._answer_s)
        return self._tools

    def compile(self, spec: ConstraintSpec, *, param: str = PARAM) -> Constraint:
        """The constraint of a new sequence. Raises InvalidRequest, naming ``param``, for what cannot be enforced."""
        with self._remembering:
            matcher, refusal = self._compiled.get(spec), self._refusals.get(spec)
        if refusal is None and matcher is None:
            try:
                matcher = self._build(spec)
            except InvalidRequest as error:
                # A tool's schema is named by its own field; any other constraint by the one that holds it.
                places = [place for _, place in spec.schemas] if isinstance(spec, ToolGrammar) else []
                refusal = InvalidRequest(error.message, param=error.param if error.param in places else None)
                with self._remembering:
                    self._refusals.put(spec, refusal)
            else:
                with self._remembering:
                    self._compiled.put(spec, matcher)
        if matcher is None:
            assert refusal is not None, "one of the two is set"
            raise InvalidRequest(refusal.message, param=refusal.param or param)
        tools = self._ready_tools()
        return Constraint(
            matcher.deep_copy(),
            mask=tools.mask,
            ends=tools.ends,
            thread=self._thread,
            forget=lambda: self._forget(spec),
            param=param,
        )

    def _forget(self, spec: ConstraintSpec) -> None:
        """Copies of a matcher share its lexer, whose states add up over all answers: start afresh."""
        with self._remembering:
            self._compiled.forget(spec)

    def _build(self, spec: ConstraintSpec) -> LLMatcher:
        source = source_of(spec)
        try:
            size = len(source.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest("the constraint holds lone surrogates, which are no characters") from error
        most = MAX_TOOLS_BYTES if isinstance(spec, ToolGrammar) else MAX_SPEC_BYTES
        if size > most:
            raise InvalidRequest(f"the constraint has {size} bytes, and {most} are served")
        plain = spec
        if isinstance(spec, JsonSchema):
            plain = JsonSchema(check_schema(source), spec.whitespace)
        elif isinstance(spec, ToolGrammar):
            plain = lark_of_tools(spec, self._vocabulary)
        tools = self._ready_tools()
        verdict = tools.canary.judge(plain)
        if verdict.refusal:
            if isinstance(spec, ToolGrammar):
                raise self._refused(spec, verdict.refusal)
            reason = verdict.refusal[:_REASON_CHARACTERS].strip()
            raise InvalidRequest(f"the constraint cannot be enforced: {reason}")
        matcher = LLMatcher(tools.tokenizer, verdict.grammar, log_level=0, limits=limits())
        # The first mask costs most: better here than on the engine's time.
        matcher.compute_bitmask()
        if matcher.is_error():
            raise InvalidRequest(
                f"the constraint cannot be enforced: {matcher.get_error()}"[:_REASON_CHARACTERS]
            )
        return matcher

    def _refused(self, spec: ToolGrammar, refusal: str) -> InvalidRequest:
        """What to say of calls that llguidance refused, which told of a grammar that no client has written.

        By far most often one schema is at fault, and would be alone. Each is tried, as long as one may take.
        """
        ends_s = time.monotonic() + self._answer_s
        for schema, place in spec.schemas:
            if time.monotonic() > ends_s:
                break
            if own := self._ready_tools().canary.judge(JsonSchema(check_schema(schema))).refusal:
                reason = own[:_REASON_CHARACTERS].strip()
                return InvalidRequest(f"'{place}': the JSON schema cannot be enforced: {reason}", param=place)
        reason = _POSITION.sub("", _EXCERPT.split(refusal)[0])[:_REASON_CHARACTERS].strip()
        return InvalidRequest(f"the constraint cannot be enforced: {reason}")

    def close(self) -> None:
        """End the helper process and the mask thread."""
        if self._tools is not None:
            self._tools.canary.close()
        self._thread.close()
