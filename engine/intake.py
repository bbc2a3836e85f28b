"""Requests to sequences: validated against the model, tokenised, ready for the scheduler. No context is touched."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.adapter_catalog import AdapterCatalog
from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.answer_scores import AnswerScores
from engine.backend import Tokens
from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import ConstraintSpec, ToolGrammar
from engine.detokenizer import Detokenizer
from engine.drafter import NO_DRAFTS, Drafter
from engine.echo import Echo, read_echo
from engine.errors import InvalidRequest, blaming
from engine.prompt import Prompt
from engine.prompt_reader import PromptReader, ReadPrompt, Vocabulary
from engine.request import EngineRequest
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader, Terms
from engine.sequence import Sequence
from engine.stop_matcher import StopMatcher
from engine.token_scorer import TokenScorer


class Intake:
    """Turns each request into its sequences. Used by the worker's receiving thread alone."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        reader: PromptReader,
        *,
        context: int,
        drafts: bool = True,
        adapters: AdapterCatalog | None = None,
    ) -> None:
        """``drafts`` is whether sequences guess ahead; a memory that cannot be cut cannot take a guess back."""
        self._drafts = drafts
        self._adapters = adapters or AdapterCatalog()
        self._vocabulary = vocabulary
        self._reader = reader
        self._context = context
        self._scratch = Scratch(vocabulary.size)
        self._terms = TermReader(vocabulary)
        self._compiler = ConstraintCompiler(vocabulary)
        self._piece_readers: dict[tuple[str, ...], Callable[[int], bytes]] = {}
        """By the control tokens they show: as many as there are families of models."""

    def sequences(self, number: int, request: EngineRequest) -> list[Sequence]:
        """The choices of ``request``, in order. Raises InvalidRequest and ContextLengthExceeded."""
        terms = self._terms.read(request.sampling)
        adapters = self._adapters.select(request.adapters) if request.adapters else NO_ADAPTERS
        if request.max_tokens == 0 and not request.echo:
            raise InvalidRequest("an answer of 0 tokens is served with `echo` alone", param="max_tokens")
        are_several = len(request.prompts) > 1
        prompts = [
            self._reader.read(
                prompt,
                max_tokens=request.max_tokens,
                param=f"prompt[{p}]" if are_several else None,
                max_tokens_param=request.max_tokens_param,
            )
            for p, prompt in enumerate(request.prompts)
        ]
        prediction = self._read_prediction(request)
        piece_of = self._piece_reader(request.shown_controls)
        echoes = [self._echo(request, *each) for each in zip(request.prompts, prompts, strict=True)]
        sequences = [
            self._sequence(
                number, request, prompt, p * request.n + j, prediction, terms, piece_of, echoes[p], adapters
            )
            for p, prompt in enumerate(prompts)
            for j in range(request.n)
        ]
        if request.constraint is not None:
            spec = request.constraint
            if isinstance(spec, ToolGrammar) and spec.thought is not None:
                spec = _opened(spec, spec.thought, prompts[0].opening.rstrip())
            self._constrain(sequences, spec, request.constraint_param)
        return sequences

    def _constrain(self, sequences: list[Sequence], spec: ConstraintSpec, param: str) -> None:
        """Give each sequence its own constraint. Takes up to a second or two for one that is new."""
        constraint = self._compiler.compile(spec, param=param)
        for sequence in sequences:
            sequence.constraint = constraint.clone()
            # What is free in a constrained answer is short, and its long repetitions are forced anyway.
            sequence.drafter = None

    def _scores(self, request: EngineRequest, echo: Echo | None) -> AnswerScores | None:
        if request.logprobs is None and not request.is_ranked:
            return None
        base = 0 if echo is None else len(echo.text)
        return AnswerScores(self._scorer(request), is_told=request.logprobs is not None, base=base)

    def _echo(self, request: EngineRequest, prompt: Prompt, read: ReadPrompt) -> Echo | None:
        if not request.echo:
            return None
        scorer = None if request.logprobs is None else self._scorer(request)
        return read_echo(self._vocabulary, prompt, read, scorer)

    def _scorer(self, request: EngineRequest) -> TokenScorer:
        return TokenScorer(self._vocabulary, self._scratch, top=request.logprobs or 0)

    def close(self) -> None:
        """End what compiling has started."""
        self._compiler.close()

    def _read_prediction(self, request: EngineRequest) -> Tokens:
        if request.prediction is None:
            return NO_DRAFTS
        with blaming("prediction"):
            return self._vocabulary.tokenize(request.prediction, add_special=False, parse_special=False)

    def _piece_reader(self, shown_controls: tuple[str, ...]) -> Callable[[int], bytes]:
        """What gives a token's bytes: none for control tokens but those of ``shown_controls``."""
        reader = self._piece_readers.get(shown_controls)
        if reader is None:
            shown: dict[int, bytes] = {}
            for text in shown_controls:
                tokens = self._vocabulary.tokenize(text, add_special=False, parse_special=True)
                if tokens.size == 1:
                    shown[int(tokens[0])] = text.encode()
            piece = self._vocabulary.piece
            reader = piece if not shown else lambda token: shown.get(token) or piece(token)
            self._piece_readers[shown_controls] = reader
        return reader

    def _sequence(
        self,
        number: int,
        request: EngineRequest,
        prompt: ReadPrompt,
        choice: int,
        prediction: Tokens,
        terms: Terms,
        piece_of: Callable[[int], bytes],
        echo: Echo | None,
        adapters: AdapterSet,
    ) -> Sequence:
        max_tokens = self._context - len(prompt.tokens) if request.max_tokens is None else request.max_tokens
        return Sequence(
            request=number,
            choice=choice,
            prompt=prompt.tokens,
            opening=prompt.opening,
            max_tokens=max_tokens,
            min_tokens=request.min_tokens,
            ignores_end=request.ignore_eos,
            sampler=Sampler(
                request.sampling,
                prompt=prompt.tokens,
                choice=choice,
                end_tokens=self._vocabulary.end_tokens,
                scratch=self._scratch,
                terms=terms,
            ),
            detokenizer=Detokenizer(piece_of),
            stop=StopMatcher(request.stop),
            drafter=Drafter(prediction) if self._drafts else None,
            scores=self._scores(request, echo),
            echo=echo,
            tenant=request.tenant,
            priority=request.priority,
            adapters=adapters,
            is_first_choice=choice % request.n == 0,
        )


def _opened(spec: ToolGrammar, tags: tuple[str, str], opening: str) -> ToolGrammar:
    """``spec`` for an answer to a prompt that ends in ``opening``, in which the template may have opened a thought."""
    if opening.endswith(tags[1]):
        # So templates say that there is to be no thought.
        return msgspec.structs.replace(spec, thought=None)
    return msgspec.structs.replace(spec, is_thinking=spec.is_thinking or opening.endswith(tags[0]))
