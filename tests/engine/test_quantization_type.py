"""The types by name: what is offered can be asked for, and what cannot be made says why."""

from __future__ import annotations

import llama_cpp
import pytest

from engine.errors import InvalidRequest
from engine.quantization_type import (
    OFFERED_TYPES,
    QUANTIZATION_TYPES,
    WEIGHED_TYPES,
    quantization_type,
    type_of_number,
)


def test_the_numbers_are_those_of_this_build() -> None:
    prefixes = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
    known = {
        name.removeprefix(prefix): getattr(llama_cpp, name)
        for name in dir(llama_cpp)
        for prefix in prefixes
        if name.startswith(prefix)
    }
    # 38 is named for what it is made for; NVFP4 is not made by the quantiser.
    known = {name: number for name, number in known.items() if name != "NVFP4"}
    assert {name: number for name, number in known.items() if name in QUANTIZATION_TYPES} == {
        each.name: each.number for each in QUANTIZATION_TYPES.values() if each.name in known
    }
    assert set(known) <= set(QUANTIZATION_TYPES)


@pytest.mark.parametrize("name", OFFERED_TYPES)
def test_case_and_dashes_do_not_matter(name: str) -> None:
    for spelt in (name, name.lower(), name.replace("_", "-").lower(), f" {name} "):
        assert quantization_type(spelt).name == name
    assert type_of_number(QUANTIZATION_TYPES[name].number) == QUANTIZATION_TYPES[name]


def test_what_is_no_type_is_told_with_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"did you mean Q4_K_M.*Q8_0, Q6_K") as caught:
        quantization_type("q4_km")
    assert caught.value.param == "to"
    with pytest.raises(InvalidRequest, match="no type of quantisation") as caught:
        quantization_type("", param="types")
    assert caught.value.param == "types"


def test_what_needs_more_than_the_file_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"needs an importance matrix.*quantize --imatrix") as caught:
        quantization_type("iq2_xxs")
    assert caught.value.param == "to"
    assert "IQ2_XXS" not in OFFERED_TYPES
    assert set(OFFERED_TYPES) | set(WEIGHED_TYPES) == set(QUANTIZATION_TYPES)
    assert quantization_type("iq2_xxs", is_weighed=True).name == "IQ2_XXS"


def test_a_matrix_that_would_be_of_no_use_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Q8_0 makes no use of an importance matrix") as caught:
        quantization_type("q8_0", is_weighed=True)
    assert caught.value.param == "imatrix"
