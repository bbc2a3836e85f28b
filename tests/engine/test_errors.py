"""The error tree: every class crosses the process boundary and comes back as itself."""

from __future__ import annotations

import msgspec
import pytest

from engine import errors
from engine.errors import ErrorRecord, InternalError, NibbleError, error_classes

_OURS = [c for c in error_classes().values() if c.__module__ == errors.__name__]


def _travel(error: NibbleError) -> NibbleError:
    raw = msgspec.msgpack.encode(ErrorRecord.of(error))
    return msgspec.msgpack.decode(raw, type=ErrorRecord).to_error()


@pytest.mark.parametrize("error_class", _OURS, ids=lambda c: c.kind)
def test_every_class_comes_back_as_itself(error_class: type[NibbleError]) -> None:
    back = _travel(error_class("what happened", param="stop", retry_after_s=1.5))
    assert type(back) is error_class
    assert (back.message, back.param, back.retry_after_s) == ("what happened", "stop", 1.5)
    assert str(back) == "what happened"


def test_every_class_has_a_kind_of_its_own() -> None:
    kinds = [c.__dict__.get("kind") for c in _OURS]
    assert None not in kinds
    assert len(set(kinds)) == len(kinds)


def test_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for error_class in _OURS:
        assert error_class.__name__ in errors.__doc__


def test_an_unknown_kind_is_a_defect_of_ours() -> None:
    assert type(ErrorRecord("from the future", "?").to_error()) is InternalError


def test_a_subclass_without_a_kind_does_not_take_its_parents_place() -> None:
    class Special(errors.InvalidRequest):
        """Such as a test or another room may make."""

    back = _travel(errors.InvalidRequest("plain"))
    assert type(back) is errors.InvalidRequest
    assert type(_travel(Special("special"))) is errors.InvalidRequest
