from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from model_registry.memory import estimate_bytes, least_bytes
from model_registry.memory_forecast import Shortage, forecast

GIB = 1 << 30


def test_each_outlook_tells_its_numbers() -> None:
    assert forecast(4 * GIB, 8 * GIB).text == ""
    slow = forecast(8 * GIB, 4 * GIB)
    assert slow.outlook == "slow"
    assert slow.text == (
        "it needs about 8.8 GB, and this machine lends 4.3 GB: its weights will be read from the disk for every token,"
        " at some 17 s a token from an SSD that reads 500 MB/s, and 172 s from an SD card that reads 50 MB/s"
    )
    assert forecast(GIB, least_bytes(None) - 1).outlook == "impossible"
    assert forecast(GIB, least_bytes(None)).outlook == "slow"
    assert forecast(GIB, GIB // 2, kv_budget_bytes=GIB).outlook == "impossible"


def test_the_speed_of_the_disk_makes_the_time_of_a_token() -> None:
    short = Shortage(540_000_000, 740_000_000, 420_000_000)
    assert short.told(900e6) == (
        "it needs about 0.7 GB, and this machine lends 0.4 GB: its weights will be read from the disk for every token,"
        " at some 0.6 s a token: just now the disk read 900 MB/s of them"
    )
    assert "at some 0.077 s a token: just now the disk read 7,000 MB/s" in short.told(7e9)
    assert "at some 257 s a token: just now the disk read 2.1 MB/s" in short.told(2.1e6)
    # The file alone counts: the kernel keeps nothing of it, however little is missing.
    assert (
        short.told(1e9).split(":")[1:]
        == msgspec.structs.replace(short, limit_bytes=1).told(1e9).split(":")[1:]
    )


@given(file_bytes=st.integers(1, 1 << 42), limit=st.integers(0, 1 << 42))
def test_it_fits_exactly_where_the_estimate_does(file_bytes: int, limit: int) -> None:
    told = forecast(file_bytes, limit)
    assert (told.outlook == "fits") == (estimate_bytes(file_bytes, None) <= limit)
    assert bool(told.text) == (told.outlook != "fits")
    # More memory is never worse.
    order = ("impossible", "slow", "fits")
    assert order.index(forecast(file_bytes, limit + GIB).outlook) >= order.index(told.outlook)
