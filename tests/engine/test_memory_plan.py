"""How the KV cache is divided: it fits or it is refused, and what the operator fixed is kept."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from engine.config import EngineConfig
from engine.errors import InsufficientMemory
from engine.memory_plan import DEFAULT_CONTEXT, DEFAULT_PARALLEL, LEAST_CONTEXT, MemoryPlan, plan_memory

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
) -> MemoryPlan:
    config = EngineConfig(
        model_id="m", model_path="m.gguf", context=context, parallel=parallel, kv_budget_bytes=budget
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
)
def test_a_plan_fits_its_budget_or_is_refused(
    context: int | None,
    parallel: int | None,
    budget: int | None,
    trained: int,
    per_token: int,
    available: int,
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
        )
    except InsufficientMemory:
        least_context = context if context is not None else min(LEAST_CONTEXT, trained)
        assert least_context * (parallel or 1) * per_token > limit - 1, "refused although the least fits"
        return
    assert plan.kv_bytes == plan.context * plan.parallel * per_token <= limit
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
    assert _plan() == MemoryPlan(DEFAULT_CONTEXT, DEFAULT_PARALLEL, 8192 * 16 * PER_TOKEN)


def test_a_short_context_that_the_operator_fixed_is_kept() -> None:
    assert _plan(context=256, parallel=4).context == 256


def test_a_model_trained_on_little_gets_no_more() -> None:
    assert _plan(trained=128).context == 128


def test_little_room_shortens_the_context_before_it_gives_up_parallel_requests() -> None:
    plan = _plan(budget=4 * 5000 * PER_TOKEN)
    assert (plan.context, plan.parallel) == (5000, 4)


def test_a_refusal_names_the_numbers_and_the_mend() -> None:
    with pytest.raises(InsufficientMemory, match=r"4 requests of 8192 tokens .* 720 MiB .* 100 MiB.*lower"):
        _plan(context=8192, parallel=4, budget=100 * 2**20)


def test_a_file_that_claims_no_training_context_is_no_division_by_zero() -> None:
    assert _plan(trained=0).context == DEFAULT_CONTEXT
