from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_registry.eviction import Resident, choose_victims


def resident(model_id: str, held: int, used_at: float, *, may_go: bool = True) -> Resident:
    return Resident(id=model_id, held_bytes=held, used_at=used_at, may_go=may_go)


def test_the_longest_unused_goes_first_and_no_more_than_needed() -> None:
    residents = [resident("new", 10, 3), resident("old", 10, 1), resident("middle", 10, 2)]
    assert choose_victims(residents, 0) == ()
    assert choose_victims(residents, 10) == ("old",)
    assert choose_victims(residents, 11) == ("old", "middle")


def test_who_may_not_go_stays_and_nobody_goes_in_vain() -> None:
    residents = [resident("busy", 100, 1, may_go=False), resident("idle", 10, 2)]
    assert choose_victims(residents, 10) == ("idle",)
    assert choose_victims(residents, 11) is None


RESIDENTS = st.lists(
    st.builds(
        Resident,
        id=st.uuids().map(str),
        held_bytes=st.integers(0, 100),
        used_at=st.floats(0, 100),
        may_go=st.booleans(),
    ),
    max_size=8,
)


@given(RESIDENTS, st.integers(-10, 300))
def test_enough_is_given_back_by_those_who_may_go(residents: list[Resident], missing: int) -> None:
    chosen = choose_victims(residents, missing)
    idle = [each for each in residents if each.may_go]
    if chosen is None:
        assert sum(each.held_bytes for each in idle) < missing
        return
    freed = [each for each in idle if each.id in chosen]
    assert len(freed) == len(chosen)
    assert sum(each.held_bytes for each in freed) >= missing or missing <= 0
    kept = [each.used_at for each in idle if each.id not in chosen]
    assert not kept or not freed or max(each.used_at for each in freed) <= min(kept)
