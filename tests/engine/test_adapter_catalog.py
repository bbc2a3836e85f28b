"""What requests name, as adapter sets."""

from __future__ import annotations

import pytest

from engine.adapter import Adapter, AdapterUse
from engine.adapter_catalog import AdapterCatalog
from engine.adapter_set import NO_ADAPTERS
from engine.errors import InvalidRequest

_CATALOG = AdapterCatalog([(Adapter("poet", "p.gguf"), "11"), (Adapter("clerk", "c.gguf", 0.5), "22")])


def test_the_order_in_which_adapters_are_named_makes_no_difference() -> None:
    poet, clerk = AdapterUse("poet"), AdapterUse("clerk")
    assert _CATALOG.select([poet, clerk]) == _CATALOG.select([clerk, poet])
    assert _CATALOG.select([poet, clerk]).scales == ((0, 1.0), (1, 0.5))


def test_a_scale_of_the_request_goes_before_the_adapters_own() -> None:
    assert _CATALOG.select([AdapterUse("clerk", 2.0)]).scales == ((1, 2.0),)
    keys = {_CATALOG.select([AdapterUse("clerk", scale)]).key for scale in (None, 0.5, 2.0, -0.5)}
    assert len(keys) == 3, "its own is 0.5"


def test_nothing_and_what_counts_nothing_are_the_model_alone() -> None:
    assert _CATALOG.select([]) == NO_ADAPTERS
    assert _CATALOG.select([AdapterUse("poet", 0.0)]) == NO_ADAPTERS


def test_the_key_follows_what_the_file_holds_and_not_its_name() -> None:
    other = AdapterCatalog([(Adapter("poet", "p.gguf"), "33")])
    assert other.select([AdapterUse("poet")]).key != _CATALOG.select([AdapterUse("poet")]).key


@pytest.mark.parametrize(
    ("uses", "why"),
    [
        ([AdapterUse("painter")], "no adapter 'painter'; it has: poet, clerk"),
        ([AdapterUse("poet"), AdapterUse("poet", 0.1)], "named twice"),
        ([AdapterUse("poet", float("nan"))], "from -16 to 16"),
        ([AdapterUse("poet", float("inf"))], "from -16 to 16"),
        ([AdapterUse("poet", -17.0)], "from -16 to 16"),
    ],
)
def test_what_cannot_be_is_refused_by_name(uses: list[AdapterUse], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        _CATALOG.select(uses)
    assert caught.value.param == "lora"


def test_a_model_without_adapters_says_so() -> None:
    with pytest.raises(InvalidRequest, match="it has: none"):
        AdapterCatalog().select([AdapterUse("poet")])
