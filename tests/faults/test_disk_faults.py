"""A fault at every write, fsync, truncation, rename, removal and new file: the old state or the new, never between.

``make soak ARGS=faults`` does the same with every kind of fault.
"""

from __future__ import annotations

import pytest

from tests.faults.rehearsal import KINDS
from tests.faults.rehearsals import MOST_CALLS, CannotRehearse, Rehearsal, rehearsals

BROKEN, TORN = 1, 3
ACTS = (
    "first key",
    "second key",
    "revoked key",
    "first usage",
    "more usage",
    "aliases",
    "prefix",
    "pull",
    "quantisation",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Rehearsal]:
    try:
        told = rehearsals(tmp_path_factory.mktemp("faults"), (BROKEN, TORN))
    except CannotRehearse as reason:
        pytest.skip(str(reason))
    return {(one["act"], one["kind"]): one for one in told}


@pytest.mark.parametrize("kind", [BROKEN, TORN], ids=lambda kind: KINDS[kind])
@pytest.mark.parametrize("act", ACTS)
def test_what_is_left_is_old_or_new(found: dict[tuple[str, str], Rehearsal], act: str, kind: int) -> None:
    one = found[act, KINDS[kind]]
    assert not one["faults"], one
    assert 2 < one["calls"] < MOST_CALLS, "every call had its fault"
    assert one["outcomes"]["unhurt, new"] == 1
    # A disk that fails is told of, and a process that was killed tells nothing.
    telling = "refused" if kind == BROKEN else "killed"
    assert any(name.startswith(telling) for name in one["outcomes"])
