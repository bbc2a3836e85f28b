"""Requests to sequences: validated against the model, tokenised, ready for the scheduler. No context is touched."""

from __future__ import annotations

from engine.backend import Tokens
from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import ConstraintSpec
from engine.detokenizer import Detokenizer
from engine.drafter import NO_DRAFTS, Drafter
from engine.errors import InvalidRequest
from engine.prompt_reader import PromptReader, Vocabulary
from engine.request import EngineRequest
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader, Terms
from engine.sequence import Sequence
from engine.stop_matcher import StopMatcher


class Intake:
    """Turns each request into its sequences. Used by the worker's receiving thread alone."""

    def __init__(
        self, vocabulary: Vocabulary, reader: PromptReader, *, context: int, drafts: bool = True
    ) -> None:
        """``drafts`` is whether sequences guess ahead; a memory that cannot be cut cannot take a guess back."""
        self._drafts = drafts
        self._vocabulary = vocabulary
        self._reader = reader
        self._context = context
        self._scratch = Scratch(vocabulary.size)
        self._terms = TermReader(vocabulary)
        self._compiler = ConstraintCompiler(vocabulary)

    def sequences(self, number: int, request: EngineRequest) -> list[Sequence]:
        """The choices of ``request``, in order. Raises InvalidRequest and ContextLengthExceeded."""
        terms = self._terms.read(request.sampling)
        if request.max_tokens == 0:
            raise InvalidRequest("an answer of 0 tokens is not served", param="max_tokens")
        prompts = [self._reader.read(prompt, max_tokens=request.max_tokens) for prompt in request.prompts]
        prediction = self._read_prediction(request)
        sequences = [
            self._sequence(number, request, prompt, p * request.n + j, prediction, terms)
            for p, prompt in enumerate(prompts)
            for j in range(request.n)
        ]
        if request.constraint is not None:
            self._constrain(sequences, request.constraint, request.constraint_param)
        return sequences

    def _constrain(self, sequences: list[Sequence], spec: ConstraintSpec, param: str) -> None:
        """Give each sequence its own constraint. Takes up to a second or two for one that is new."""
        constraint = self._compiler.compile(spec, param=param)
        for sequence in sequences:
            sequence.constraint = constraint.clone()
            # What is free in a constrained answer is short, and its long repetitions are forced anyway.
            sequence.drafter = None

    def close(self) -> None:
        """End what compiling has started."""
        self._compiler.close()

    def _read_prediction(self, request: EngineRequest) -> Tokens:
        if request.prediction is None:
            return NO_DRAFTS
        return self._vocabulary.tokenize(request.prediction, add_special=False, parse_special=False)

    def _sequence(
        self,
        number: int,
        request: EngineRequest,
        prompt: Tokens,
        choice: int,
        prediction: Tokens,
        terms: Terms,
    ) -> Sequence:
        max_tokens = self._context - len(prompt) if request.max_tokens is None else request.max_tokens
        return Sequence(
            request=number,
            choice=choice,
            prompt=prompt,
            max_tokens=max_tokens,
            min_tokens=request.min_tokens,
            ignores_end=request.ignore_eos,
            sampler=Sampler(
                request.sampling,
                prompt=prompt,
                choice=choice,
                end_tokens=self._vocabulary.end_tokens,
                scratch=self._scratch,
                terms=terms,
            ),
            detokenizer=Detokenizer(self._vocabulary.piece),
            stop=StopMatcher(request.stop),
            drafter=Drafter(prediction) if self._drafts else None,
            tenant=request.tenant,
            is_first_choice=choice % request.n == 0,
        )
