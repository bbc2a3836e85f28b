from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_registry.memory import estimate_bytes, least_bytes
from model_registry.memory_forecast import forecast

GIB = 1 << 30


def test_each_outlook_tells_its_numbers() -> None:
    assert forecast(4 * GIB, 8 * GIB).text == ""
    slow = forecast(8 * GIB, 4 * GIB)
    assert slow.outlook == "slow"
    assert slow.text == (
        "it needs about 8.8 GB, and this machine lends 4.3 GB: its weights will be read from the disk for every token,"
        " at some 17 s a token where the disk reads 500 MB/s"
    )
    assert forecast(GIB, least_bytes(None) - 1).outlook == "impossible"
    assert forecast(GIB, least_bytes(None)).outlook == "slow"
    assert forecast(GIB, GIB // 2, kv_budget_bytes=GIB).outlook == "impossible"


@given(file_bytes=st.integers(1, 1 << 42), limit=st.integers(0, 1 << 42))
def test_it_fits_exactly_where_the_estimate_does(file_bytes: int, limit: int) -> None:
    told = forecast(file_bytes, limit)
    assert (told.outlook == "fits") == (estimate_bytes(file_bytes, None) <= limit)
    assert bool(told.text) == (told.outlook != "fits")
    # More memory is never worse.
    order = ("impossible", "slow", "fits")
    assert order.index(forecast(file_bytes, limit + GIB).outlook) >= order.index(told.outlook)
