"""When a dead worker is started again."""

from __future__ import annotations

from engine.restart_policy import BREAKER_DEATHS, BREAKER_WINDOW_S, FIRST_DELAY_S, RestartPolicy


def test_each_death_in_a_row_waits_twice_as_long_until_the_breaker_opens() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_after_death(float(at)) for at in range(BREAKER_DEATHS)]
    assert delays == [FIRST_DELAY_S, 1.0, 2.0, 4.0, None]


def test_deaths_long_ago_are_forgiven() -> None:
    policy = RestartPolicy()
    for at in range(BREAKER_DEATHS - 1):
        policy.delay_after_death(float(at))
    assert policy.delay_after_death(BREAKER_WINDOW_S * 2) == FIRST_DELAY_S


def test_a_death_every_hour_is_always_answered_at_once() -> None:
    policy = RestartPolicy()
    assert {policy.delay_after_death(3600.0 * hour) for hour in range(1, 50)} == {FIRST_DELAY_S}


def test_the_window_slides() -> None:
    policy = RestartPolicy()
    third = BREAKER_WINDOW_S / 3
    delays = [policy.delay_after_death(third * n) for n in range(12)]
    assert None not in delays
    assert max(delay for delay in delays if delay is not None) == FIRST_DELAY_S * 4
