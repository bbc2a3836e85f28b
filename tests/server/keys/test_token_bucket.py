from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.keys.token_bucket import TokenBucket


def test_a_minute_fills_it() -> None:
    bucket = TokenBucket(60, 0.0)
    bucket.take(60, 0.0)
    assert bucket.wait_s(1, 0.0) == 1.0
    assert bucket.level(30.0) == 30.0
    assert bucket.wait_s(60, 30.0) == bucket.full_in_s(30.0) == 30.0
    assert bucket.level(1000.0) == 60.0


def test_what_was_overdrawn_is_waited_for() -> None:
    bucket = TokenBucket(60, 0.0)
    bucket.take(90, 0.0)
    assert bucket.level(0.0) == -30.0
    assert bucket.wait_s(1, 0.0) == 31.0
    bucket.take(-1000, 0.0)
    assert bucket.level(0.0) == 60.0, "giving back never makes more than there was"


def test_more_than_the_limit_waits_for_a_full_bucket() -> None:
    bucket = TokenBucket(60, 0.0)
    assert bucket.wait_s(10_000, 0.0) == 0.0


def test_another_limit_keeps_what_was_used() -> None:
    bucket = TokenBucket(60, 0.0)
    bucket.take(20, 0.0)
    bucket.resize(100, 0.0)
    assert bucket.level(0.0) == 80.0


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 20_000)), max_size=50),
)
def test_whoever_waits_as_told_is_let_in_and_no_minute_grants_more_than_twice_the_limit(
    limit: int, asked: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(limit, 0.0), 0.0
    granted: list[tuple[float, int]] = []
    for pause_s, amount in asked:
        now += pause_s
        amount = min(amount, limit)
        now += bucket.wait_s(amount, now)
        # A clock of floats may be a hair early.
        assert bucket.wait_s(amount, now) < 1e-6
        bucket.take(amount, now)
        granted.append((now, amount))
        in_minute = sum(size for at, size in granted if at > now - 60)
        assert in_minute <= 2 * limit + 1e-3
