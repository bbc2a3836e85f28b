"""Quantising with an importance matrix, by the real processes."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from engine.errors import InvalidRequest
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.fixtures.tiny_imatrix import sums_for, write_imatrix, write_legacy_imatrix
from tests.model_registry.quantize.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=256, layers=1))
    return Shop(tmp_path)


@pytest.fixture
def imatrix(shop: Shop) -> Path:
    return write_imatrix(shop.models.parent / "imatrix.gguf", sums_for(shop.models / "tiny.gguf"))


def test_the_smallest_types_can_be_made_with_one(shop: Shop, imatrix: Path) -> None:
    model = shop.model("tiny")
    with pytest.raises(InvalidRequest, match="needs an importance matrix") as caught:
        shop.quantizer.plan(model, "iq2_xxs")
    assert caught.value.param == "to"
    plan = shop.quantizer.plan(model, "iq2_xxs", imatrix=imatrix)
    assert (plan.imatrix, plan.unweighed) == (imatrix, 1), "of the embeddings it does not tell"
    record = shop.quantizer.quantize(model, "iq2_xxs", imatrix=imatrix)
    assert abs(record.file_bytes - plan.target_bytes) < 4096
    assert (record.quantisation, record.parent) == ("IQ2_XXS", "tiny")
    assert "IQ2_XXS" in {tensor.tensor_type.name for tensor in gguf.GGUFReader(record.path).tensors}


def test_it_makes_another_file_and_both_formats_the_same(shop: Shop, imatrix: Path) -> None:
    old = write_legacy_imatrix(imatrix.with_suffix(".dat"), sums_for(shop.models / "tiny.gguf"))
    made = [
        shop.quantizer.quantize(shop.model("tiny"), "q4_k_m", name=name, imatrix=file)
        for name, file in (("without", None), ("new", imatrix), ("old", old))
    ]
    assert made[0].sha256 != made[1].sha256 == made[2].sha256


def test_one_that_is_not_of_this_model_is_refused_before_anything_is_written(
    shop: Shop, imatrix: Path
) -> None:
    other = write_tiny(imatrix.with_name("other.gguf"), Tiny(width=64, layers=1))
    part = {"blk.9.attn_q.weight": sums_for(other)["blk.0.attn_q.weight"]}
    for sums, words in (
        (sums_for(other), "tells of 64 columns of"),
        (part, "tells of no tensor of this model"),
    ):
        with pytest.raises(InvalidRequest, match=words) as caught:
            shop.quantizer.plan(shop.model("tiny"), "q4_0", imatrix=write_imatrix(imatrix, sums))
        assert caught.value.param == "imatrix"
    for bad, words in (
        (other.parent / "none", "there is no file"),
        (shop.models / "tiny.gguf", "tells of no tensor"),
        (Path(__file__), "is no importance matrix"),
    ):
        with pytest.raises(InvalidRequest, match=words) as caught:
            shop.quantizer.plan(shop.model("tiny"), "q4_0", imatrix=bad)
        assert caught.value.param == "imatrix"
    with pytest.raises(InvalidRequest, match="Q8_0 makes no use"):
        shop.quantizer.plan(shop.model("tiny"), "q8_0", imatrix=imatrix)
    assert shop.files() == ["tiny.gguf"]


def test_a_tensor_that_needs_it_and_that_it_does_not_tell_of_ends_it(shop: Shop, imatrix: Path) -> None:
    write_imatrix(imatrix, sums_for(shop.models / "tiny.gguf", but=("blk.0.attn_k.weight",)))
    with pytest.raises(
        InvalidRequest, match=r"does not tell of blk\.0\.attn_k\.weight, and IQ2_XXS needs that"
    ):
        shop.quantizer.quantize(shop.model("tiny"), "iq2_xxs", imatrix=imatrix)
    assert shop.files() == ["tiny.gguf"]
    assert shop.store.records() == {}
