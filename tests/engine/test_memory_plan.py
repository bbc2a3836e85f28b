"""How the KV cache is divided: it fits or it is refused, and what the operator fixed is kept."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from engine.config import EngineConfig, KvLayoutChoice
from engine.errors import InsufficientMemory
from engine.memory_plan import (
    DEFAULT_CONTEXT,
    DEFAULT_PARALLEL,
    LEAST_CONTEXT,
    LEAST_PARTITIONS,
    MemoryPlan,
    most_kv_bytes,
    padded,
    plan_memory,
)

GIB = 2**30
PER_TOKEN = 23_040  # SmolLM2-135M


def _plan(
    *,
    context: int | None = None,
    parallel: int | None = None,
    budget: int | None = None,
    trained: int = 8192,
    per_token: int = PER_TOKEN,
    available: int = 64 * GIB,
    layout: KvLayoutChoice = "auto",
) -> MemoryPlan:
    config = EngineConfig(
        model_id="m",
        model_path="m.gguf",
        context=context,
        parallel=parallel,
        kv_budget_bytes=budget,
        kv_layout=layout,
    )
    return plan_memory(config, context_trained=trained, kv_bytes_per_token=per_token, available=available)


@settings(deadline=None, max_examples=500)
@given(
    context=st.none() | st.integers(1, 200_000),
    parallel=st.none() | st.integers(1, 256),
    budget=st.none() | st.integers(1, 64 * GIB),
    trained=st.integers(1, 1_000_000),
    per_token=st.integers(1, 2_000_000),
    available=st.integers(0, 512 * GIB),
    layout=st.sampled_from(["auto", "partitioned", "unified"]),
)
def test_a_plan_fits_its_budget_or_is_refused(
    context: int | None,
    parallel: int | None,
    budget: int | None,
    trained: int,
    per_token: int,
    available: int,
    layout: KvLayoutChoice,
) -> None:
    limit = available * 0.4 if budget is None else budget
    try:
        plan = _plan(
            context=context,
            parallel=parallel,
            budget=budget,
            trained=trained,
            per_token=per_token,
            available=available,
            layout=layout,
        )
    except InsufficientMemory:
        least_context = context if context is not None else min(LEAST_CONTEXT, trained)
        least_parallel = parallel or 1 if layout == "partitioned" else 1
        assert padded(least_context) * least_parallel * per_token > limit - 1, (
            "refused although the least fits"
        )
        return
    assert plan.kv_bytes == plan.kv_tokens * per_token <= limit
    assert plan.reason
    if plan.layout == "partitioned":
        assert plan.kv_tokens == padded(plan.context) * plan.parallel
    else:
        assert padded(plan.context) <= plan.kv_tokens <= padded(plan.context) * plan.parallel
    if layout != "auto":
        assert plan.layout == layout
    else:
        wanted = context or min(DEFAULT_CONTEXT, trained)
        enough = limit // per_token // padded(wanted) >= (parallel or LEAST_PARTITIONS)
        assert plan.layout == ("partitioned" if enough else "unified")
    assert plan.parallel >= 1
    if context is not None:
        assert plan.context == context
    else:
        assert min(LEAST_CONTEXT, trained) <= plan.context <= min(DEFAULT_CONTEXT, trained)
    if parallel is not None:
        assert plan.parallel == parallel
    else:
        assert plan.parallel <= DEFAULT_PARALLEL


def test_with_room_everything_is_as_wished() -> None:
    plan = _plan()
    assert (plan.context, plan.parallel, plan.layout) == (DEFAULT_CONTEXT, DEFAULT_PARALLEL, "partitioned")
    assert plan.kv_bytes == 8192 * 16 * PER_TOKEN


def test_a_short_context_that_the_operator_fixed_is_kept() -> None:
    assert _plan(context=256, parallel=4).context == 256


def test_a_model_trained_on_little_gets_no_more() -> None:
    assert _plan(trained=128).context == 128


def test_little_room_is_shared_as_a_pool_where_each_may_have_the_full_context() -> None:
    plan = _plan(budget=3 * 8192 * PER_TOKEN)
    assert (plan.layout, plan.context, plan.kv_tokens) == ("unified", 8192, 3 * 8192)
    assert plan.parallel == 16
    assert "holds 3 requests of 8192 tokens" in plan.reason


def test_four_full_contexts_are_partitions() -> None:
    plan = _plan(budget=4 * 8192 * PER_TOKEN)
    assert (plan.layout, plan.context, plan.parallel) == ("partitioned", 8192, 4)


def test_a_pool_smaller_than_the_context_shortens_it() -> None:
    plan = _plan(budget=3000 * PER_TOKEN)
    assert (plan.layout, plan.context, plan.kv_tokens, plan.parallel) == ("unified", 2816, 2816, 4)


def test_partitions_that_were_asked_for_shorten_the_context_first() -> None:
    plan = _plan(budget=4 * 5000 * PER_TOKEN, layout="partitioned")
    assert (plan.context, plan.parallel) == (4864, 4)


def test_a_state_is_never_a_pool_by_itself() -> None:
    config = EngineConfig(model_id="m", model_path="m.gguf", kv_budget_bytes=8192 * PER_TOKEN)
    plan = plan_memory(
        config, context_trained=8192, kv_bytes_per_token=PER_TOKEN, available=0, can_share_pool=False
    )
    assert plan.layout == "partitioned"


def test_a_refusal_names_the_numbers_and_the_mend() -> None:
    with pytest.raises(InsufficientMemory, match=r"4 requests of 8192 tokens .* 720 MiB .* 100 MiB.*lower"):
        _plan(context=8192, parallel=4, budget=100 * 2**20, layout="partitioned")
    with pytest.raises(InsufficientMemory, match=r"8192 tokens .* 180 MiB .* 100 MiB.*lower"):
        _plan(context=8192, parallel=4, budget=100 * 2**20)


def test_a_file_that_claims_no_training_context_is_no_division_by_zero() -> None:
    assert _plan(trained=0).context == DEFAULT_CONTEXT


def test_where_the_weights_do_not_fit_the_cache_is_small() -> None:
    plans = [
        plan_memory(
            EngineConfig(model_id="x", model_path="x", spares_memory=spares),
            context_trained=8192,
            kv_bytes_per_token=1000,
            available=100_000_000,
        )
        for spares in (False, True)
    ]
    assert plans[0].kv_bytes > 30_000_000
    assert plans[1].kv_bytes <= 10_000_000


@pytest.mark.parametrize("available", [32_000_000, 60_000_000, 200_000_000])
def test_where_the_weights_do_not_fit_there_is_a_cache_that_serves_all_the_same(available: int) -> None:
    """Once a tenth of what was free was less than the least context takes, and the model was refused."""
    config = EngineConfig(model_id="x", model_path="x", spares_memory=True)
    plan = plan_memory(config, context_trained=8192, kv_bytes_per_token=23_040, available=available)
    assert plan.context >= LEAST_CONTEXT
    assert plan.kv_bytes <= most_kv_bytes(available)
    assert plan.kv_bytes <= max(0.1 * available, LEAST_CONTEXT * 23_040)


@pytest.mark.parametrize("spares", [True, False])
def test_a_refusal_tells_what_the_least_context_needs(*, spares: bool) -> None:
    config = EngineConfig(model_id="x", model_path="x", spares_memory=spares)
    with pytest.raises(
        InsufficientMemory, match=r"1 requests of 512 tokens need 11 MiB .+ the budget is 4 MiB"
    ):
        plan_memory(config, context_trained=8192, kv_bytes_per_token=23_040, available=11_000_000)
