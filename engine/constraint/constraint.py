"""The constraint of one answer: which token may come next, which must, and whether it may end here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn

from llguidance import LLMatcher

from engine.backend import Logits
from engine.constraint.mask import Mask
from engine.constraint.mask_thread import MaskThread
from engine.errors import InternalError, InvalidRequest

# llguidance's stop reason does not always tell a limit from a wrong token; its words do.
_WRONG_TOKEN = "doesn't satisfy the grammar"


class Constraint:
    """The state of one grammar in one sequence. Owned by the engine thread.

    The order is: ``start_mask`` before the model computes, ``apply`` to its logits, ``accept`` what was sampled,
    then ``forced`` and ``accept`` of that. ``apply`` without ``start_mask`` computes the mask itself. Who has one
    token in mind may ask whether that one is allowed, and mostly needs no mask.
    Every method may raise InvalidRequest for a grammar that outgrows its limits half-way: the answer is then
    neither valid nor cut short by its length, so the request fails.
    """

    __slots__ = (
        "_agreed",
        "_bits",
        "_ends",
        "_forget",
        "_has_mask",
        "_is_unforced",
        "_mask",
        "_matcher",
        "_param",
        "_pending",
        "_thread",
    )

    def __init__(
        self,
        matcher: LLMatcher,
        *,
        mask: Mask,
        ends: frozenset[int],
        thread: MaskThread,
        forget: Callable[[], None],
        param: str,
    ) -> None:
        """``forget`` is called when the grammar has outgrown its limits, which then hold it back everywhere."""
        self._matcher = matcher
        self._mask = mask
        self._ends = ends
        self._thread = thread
        self._forget = forget
        self._param = param
        self._bits = mask.empty()
        self._has_mask = False
        self._is_unforced = False
        self._agreed = True
        # Held while the mask thread works on this constraint.
        self._pending = threading.Lock()

    def clone(self) -> Constraint:
        """The same state, for another choice."""
        self._settle()
        return Constraint(
            self._matcher.deep_copy(),
            mask=self._mask,
            ends=self._ends,
            thread=self._thread,
            forget=self._forget,
            param=self._param,
        )

    # -- masks --------------------------------------------------------------------------------------------------

    def start_mask(self) -> None:
        """Begin to compute the mask for the next token, on another thread."""
        self._settle()
        # Whoever disagreed about one token may agree about the one behind this.
        self._agreed = True
        if not self._has_mask:
            self._pending.acquire()
            self._thread.run(self._compute_pending)

    def _compute_pending(self) -> None:
        try:
            self._compute()
        except BaseException:
            # A thread that dies of it would leave every later mask undone: `apply` computes it again, and raises.
            self._has_mask = False
        finally:
            self._pending.release()

    def _compute(self) -> None:
        """Fill the bits; whoever reads them looks for errors."""
        matcher = self._matcher
        if not matcher.is_error():
            matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
            # A grammar can name end tokens, and must not end an answer half-way by one.
            self._mask.set_ends(self._bits, are_allowed=matcher.is_accepting())
        self._has_mask = True

    def _settle(self) -> None:
        """Wait for the mask thread, with which a matcher cannot be shared."""
        with self._pending:
            pass

    @property
    def can_be_asked(self) -> bool:
        """Whether ``allows`` tells what the mask would: it knows nothing of tokens that are forced, of which the mask
        leaves the first alone.
        """
        self._settle()
        return self._is_unforced and not self._has_mask

    @property
    def is_likely_to_agree(self) -> bool:
        """Whether the mask for the next token can be done without, as could the last."""
        return self._is_unforced and self._agreed

    def allows(self, token: int) -> bool:
        """Whether ``token`` may come next: some microseconds, of which the mask takes a hundred."""
        self._settle()
        matcher = self._matcher
        if matcher.is_error():
            self._agreed = False
        elif token in self._ends:
            self._agreed = matcher.is_accepting()
        else:
            self._agreed = matcher.validate_tokens([token]) == 1
        return self._agreed

    def apply(self, logits: Logits) -> None:
        """Set the logits, shape (v,), of all tokens that may not come next to -inf, in place.

        At least one token is left, an end token where the answer may end.
        """
        self._settle()
        if not self._has_mask:
            self._compute()
        if self._matcher.is_error() or not self._bits.any():
            self._fail()
        self._mask.apply(self._bits, logits)

    # -- tokens -------------------------------------------------------------------------------------------------

    def accept(self, tokens: list[int]) -> None:
        """Go on by ``tokens``, which were sampled under the mask, or forced. An end token changes nothing."""
        self._settle()
        text = [token for token in tokens if token not in self._ends]
        if text:
            self._has_mask = self._is_unforced = False
            if not self._matcher.consume_tokens(text):
                self._fail()
        if len(text) < len(tokens) and not self._matcher.is_accepting():
            raise InternalError("an answer was ended where its constraint does not let it end")

    def forced(self) -> list[int]:
        """The tokens that must come next and can be had without sampling, often none. Changes nothing."""
        self._settle()
        if self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        ends = next((at for at, token in enumerate(tokens) if token in self._ends), len(tokens))
        self._is_unforced = not tokens
        return tokens[:ends]

    def count_allowed(self, tokens: list[int]) -> int:
        """How many of ``tokens``, from the first on, the constraint lets come next. Changes nothing."""
        self._settle()
        return self._matcher.validate_tokens(tokens)

    def rollback(self, count: int) -> None:
        """Take back the last ``count`` tokens that were accepted, end tokens not counted."""
        self._settle()
        if count:
            self._has_mask = self._is_unforced = False
            if not self._matcher.rollback(count):
                raise InternalError(f"{count} tokens cannot be taken back")

    @property
    def may_end(self) -> bool:
        """Whether what was accepted so far is a whole answer."""
        self._settle()
        return self._matcher.is_accepting()

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole and nothing may follow it but an end token: no need to sample that."""
        self._settle()
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def _fail(self) -> NoReturn:
        matcher = self._matcher
        if not matcher.is_error():
            self._forget()
            raise InvalidRequest(
                "the constraint leads to a place where no token of this model can follow", param=self._param
            )
        reason = matcher.get_error().splitlines()[0]
        if _WRONG_TOKEN in reason:
            raise InternalError(f"a token went past the constraint: {reason}")
        self._forget()
        raise InvalidRequest(f"the constraint outgrew its limits: {reason}", param=self._param)
