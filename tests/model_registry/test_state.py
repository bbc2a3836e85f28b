from __future__ import annotations

import itertools

import pytest

from engine.errors import InternalError
from model_registry.state import STATES, TRANSITIONS, ModelState, check_transition


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATES, STATES)))
def test_only_the_edges_of_the_diagram_are_legal(old: ModelState, new: ModelState) -> None:
    if new in TRANSITIONS[old]:
        check_transition("m", old, new)
    else:
        with pytest.raises(InternalError, match=f"from {old} to {new}"):
            check_transition("m", old, new)


def test_every_state_is_left_and_reached() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert all(TRANSITIONS.values())
    assert set().union(*TRANSITIONS.values()) | {"registered"} == set(STATES)
