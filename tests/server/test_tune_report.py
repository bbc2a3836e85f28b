"""The table of ``nibble tune`` on a terminal of the usual width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from model_registry.store.twin_record import Measurement
from model_registry.tune.tuning import Tuning
from server.tune_report import table_of


def choice(quantisation: str, file_bytes: int, perplexity: float, rates: tuple[float, ...]) -> Measurement:
    prefill, decode_1, decode_8 = rates
    return Measurement(
        quantisation=quantisation,
        file_bytes=file_bytes,
        memory_bytes=file_bytes + 1_300_000_000,
        prefill=prefill,
        decode_1=decode_1,
        decode_8=decode_8,
        perplexity=perplexity,
        perplexity_ratio=perplexity / 11.237,
        ratio_error=0.0031,
    )


def shown(*choices: Measurement) -> list[str]:
    original, *twins = choices
    tuning = Tuning(
        model="qwen2.5-7b-instruct",
        original=original,
        twins=tuple(twins),
        tokens=3_211,
        text_sha256="",
        build="0.3.16",
        threads=2,
        measured_at=0,
    )
    screen = io.StringIO()
    Console(file=screen, width=80).print(table_of(tuning))
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("longest", ["Q4_K_M", "MXFP4_MOE"])
def test_eighty_columns_hold_every_figure_of_every_type(longest: str) -> None:
    lines = shown(
        choice("F16", 15_237_853_184, 11.237, (1_412.0, 101.0, 1_250.0)),
        choice("Q8_0", 8_098_525_888, 12.999, (1_500.0, 180.0, 1_302.0)),
        choice(longest, 4_683_073_632, 12.954, (1_600.0, 261.0, 1_444.0)),
    )
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    (row,) = [line for line in lines if longest in line]
    assert row.split() == [
        *("*", longest, "4,683.1", "5,983", "1,600", "261", "1,444", "12.954", "+15.28%", "±", "0.31%")
    ]
    (row,) = [line for line in lines if "Q8_0" in line]
    assert row.split()[:3] == ["Q8_0", "8,098.5", "9,399"], "it is beaten"
    heading = " ".join(lines)
    for word in ("type", "MB", "memory", "prefill", "decode", "perplexity", "change"):
        assert word in heading


def test_a_change_too_wide_for_a_line_takes_two_and_costs_no_type() -> None:
    ruined = choice("IQ2_XXS", 102_135_000_000, 1_123_456.789, (1_412.0, 101.0, 1_250.0))
    lines = shown(choice("F16", 415_237_853_184, 11.237, (1_412.0, 101.0, 1_250.0)), ruined)
    assert all(len(line) <= 80 for line in lines)
    assert any("IQ2_XXS" in line and "1123456.789" in line for line in lines)
    assert any(line.endswith("0.31%") for line in lines)
