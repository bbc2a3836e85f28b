"""What a core counts by bucket, and that it survives the worker that counted it."""

from __future__ import annotations

from engine.config import EngineStats
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS, Histogram
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench


def test_a_value_at_a_bound_is_within_it() -> None:
    histogram = Histogram.maker((1.0, 2.0))()
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value, (1.0, 2.0))
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 7.5


def test_totals_of_a_dead_worker_are_added() -> None:
    earlier, later = EngineStats(), EngineStats()
    earlier.token_gaps_total.add(0.02, LATENCY_BOUNDS)
    later.token_gaps_total.add(0.02, LATENCY_BOUNDS)
    later.token_gaps_total.add(9.0, LATENCY_BOUNDS)
    both = later.after(earlier).token_gaps_total
    assert sum(both.counts) == 3
    assert both.counts[-1] == 1
    assert sum(later.token_gaps_total.counts) == 2, "neither is changed by it"
    assert sum(EngineStats().token_gaps_total.counts) == 0, "each has counts of its own"


def test_each_step_and_each_gap_between_tokens_is_counted_once() -> None:
    bench = Bench(slots=4)
    for number in range(3):
        bench.submit(Ask(prompt=(10 + number, 20, 30), max_tokens=6, ignores_end=True))
    bench.submit(Ask(prompt=(50, 60), max_tokens=1, ignores_end=True))
    steps = 0
    while bench.core.has_work:
        bench.step()
        steps += 1
    stats = bench.core.stats
    assert sum(stats.batch_sizes_total.counts) == sum(stats.step_seconds_total.counts) == steps
    assert stats.steps_total == steps
    assert sum(stats.token_gaps_total.counts) == 3 * 5, "first tokens have no gap before them"
    assert stats.generation_tokens_total == 19
    assert stats.batch_sizes_total.total >= 19, "each token had a sequence in a step"
    assert stats.batch_sizes_total.counts[BATCH_BOUNDS.index(4.0)] >= 1


def test_a_cancelled_answer_leaves_no_gap_behind() -> None:
    bench = Bench(slots=1)
    first = bench.submit(Ask(prompt=(1, 2, 3), max_tokens=8, ignores_end=True))
    for _ in range(3):
        bench.step()
    bench.cancel(first)
    gaps = sum(bench.core.stats.token_gaps_total.counts)
    bench.submit(Ask(prompt=(9, 8, 7), max_tokens=1, ignores_end=True))
    while bench.core.has_work:
        bench.step()
    assert sum(bench.core.stats.token_gaps_total.counts) == gaps


def test_every_choice_looks_its_prompt_up_and_one_pays_for_it() -> None:
    bench = Bench(slots=4)
    bench.submit(Ask(prompt=tuple(range(40)), n=3, max_tokens=2, ignores_end=True))
    while bench.core.has_work:
        bench.step()
    stats = bench.core.stats
    assert stats.prompt_tokens_total == 40
    assert stats.prefix_queried_tokens_total == 120
    assert stats.prefix_hit_tokens_total == 2 * 39


def test_a_finished_answer_uses_none_of_the_cache_although_its_prefix_is_kept() -> None:
    bench = Bench(slots=2)
    bench.submit(Ask(prompt=tuple(range(40)), max_tokens=2, ignores_end=True))
    bench.step()
    assert bench.core.stats.kv_tokens > 0
    while bench.core.has_work:
        bench.step()
    assert bench.core.stats.kv_tokens == 0
