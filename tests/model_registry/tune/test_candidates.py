"""Which twins are tried."""

from __future__ import annotations

import pytest

from engine.quantization_type import QUANTIZATION_TYPES
from model_registry.tune.candidates import candidate_types
from model_registry.tune.sample_text import checked_text, sample_text


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("F16", "Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 IQ4_NL"),
        ("Q8_0", "Q6_K Q5_K_M Q4_K_M Q4_0 IQ4_NL"),
        ("Q4_1", "Q8_0 Q4_K_M Q4_0 IQ4_NL"),
        ("Q4_0", "Q8_0 Q4_K_M IQ4_NL"),
        ("Q2_K", "Q8_0 Q4_K_M Q4_0 IQ4_NL"),
        (None, "Q8_0 Q4_K_M Q4_0 IQ4_NL"),
    ],
)
def test_the_fast_types_and_what_lies_between(source: str | None, names: str) -> None:
    kind = None if source is None else QUANTIZATION_TYPES[source]
    assert [each.name for each in candidate_types(kind)] == names.split()


def test_the_bundled_text_is_there_and_long_enough() -> None:
    assert 2300 < len(sample_text().split()) < 2500


def test_a_text_that_cannot_be_read_is_told() -> None:
    from engine.errors import InvalidRequest

    assert checked_text("\ufeffgrüß".encode(), "a") == "grüß"
    with pytest.raises(InvalidRequest, match=r"a\.txt is no UTF-8 text \(byte 2\)"):
        checked_text(b"ab\xff", "a.txt")
    with pytest.raises(InvalidRequest, match="give a part of it"):
        checked_text(b"x" * (4 << 20) + b"y", "a.txt")
