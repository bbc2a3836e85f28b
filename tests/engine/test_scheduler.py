"""Who runs when, and that nothing is computed twice: scenes with a known least amount of work."""

from __future__ import annotations

import itertools

import pytest

from engine.sequence import Phase
from engine.step_budget import StepBudget
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench

HEAD = tuple(1 + i % 190 for i in range(512))
_TAILS = itertools.count()


def _own(length: int = 12) -> tuple[int, ...]:
    """Tokens that no other prompt begins with."""
    serial = next(_TAILS)
    return (serial % 250, serial // 250, *(serial * 7 % 199 for _ in range(length - 2)))


def _bench(slots: int = 8) -> Bench:
    return Bench(
        slots=slots,
        slot_tokens=1024,
        batch_tokens=512,
        budget=StepBudget(target_s=0.25, minimum=16, steady=96, maximum=512),
    )


def _generated_work(bench: Bench) -> int:
    """Tokens that decoding alone computes: every generated token but the last of its sequence."""
    return sum(max(s.generated - 1, 0) for sequences in bench.sequences.values() for s in sequences)


def _prefilled(bench: Bench) -> int:
    return bench.backend.computed - _generated_work(bench)


@pytest.mark.parametrize("max_tokens", [1, 2, 30])
@pytest.mark.parametrize("head", [40, 512])
def test_a_head_that_24_requests_share_is_computed_once(head: int, max_tokens: int) -> None:
    bench = _bench()
    for _ in range(24):
        bench.submit(Ask(prompt=HEAD[:head] + _own(), max_tokens=max_tokens))
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == head + 24 * 12


def test_a_prompt_beside_a_stream_is_read_in_equal_chunks_and_one_at_a_time() -> None:
    """Each other length would be a pass of its own over all weights, and an odd rest one step more."""
    bench = Bench(
        slots=4,
        slot_tokens=1024,
        batch_tokens=512,
        budget=StepBudget(target_s=0.25, minimum=16, steady=70, maximum=512),
    )
    bench.submit(Ask(prompt=_own(), max_tokens=40, ignores_end=True))
    bench.step()
    for _ in range(2):
        bench.submit(Ask(prompt=_own(96), max_tokens=1))
    before = len(bench.backend.steps)
    bench.run()
    bench.check_answers()
    read = [[count for _, count in step if count > 1] for step in bench.backend.steps[before:]]
    assert [chunks for chunks in read if chunks] == [[48], [48], [48], [48]]


def test_what_comes_to_its_end_is_read_beside_another_prompt() -> None:
    bench = _bench()
    bench.submit(Ask(prompt=_own(), max_tokens=40, ignores_end=True))
    bench.step()
    for length in (40, 30, 50):
        bench.submit(Ask(prompt=_own(length), max_tokens=1))
    before = len(bench.backend.steps)
    bench.run()
    bench.check_answers()
    read = [[count for _, count in step if count > 1] for step in bench.backend.steps[before:]]
    assert [chunks for chunks in read if chunks] == [[40, 30], [50]]


def test_two_heads_in_turn_are_each_computed_once() -> None:
    bench = _bench()
    heads = [HEAD[:200], HEAD[200:400]]
    for i in range(24):
        bench.submit(Ask(prompt=heads[i % 2] + _own(), max_tokens=5))
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 400 + 24 * 12


def test_choices_of_one_prompt_compute_it_once() -> None:
    bench = _bench()
    number = bench.submit(Ask(prompt=HEAD[:300], n=6, max_tokens=4))
    bench.run()
    bench.check_answers()
    # A copy ends one token before the prompt does: the last is computed by each, for its logits.
    assert _prefilled(bench) == 300 + 5
    assert [s.cached for s in bench.sequences[number]] == [0, 299, 299, 299, 299, 299]


def test_choices_that_share_a_head_with_another_request_compute_the_rest_of_their_prompt_once() -> None:
    bench = _bench()
    bench.submit(Ask(prompt=HEAD[:200] + _own(), max_tokens=4))
    bench.submit(Ask(prompt=HEAD[:200] + _own(100), n=4, max_tokens=4))
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 200 + 12 + 100 + 3


def test_a_chain_of_ever_longer_prompts_computes_each_part_once() -> None:
    bench = _bench()
    for length in (100, 200, 300, 400, 500):
        bench.submit(Ask(prompt=HEAD[:length], max_tokens=4))
    bench.run()
    bench.check_answers()
    # Those whose prompt ends where it is copied compute that last token again.
    assert _prefilled(bench) <= 500 + 4


def test_a_head_is_shared_with_a_stream_that_runs() -> None:
    bench = _bench()
    bench.submit(Ask(prompt=HEAD[:300] + _own(), max_tokens=60, ignores_end=True))
    bench.step()
    bench.step()
    bench.submit(Ask(prompt=HEAD[:300] + _own(), max_tokens=4))
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 300 + 2 * 12


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "running"])
def test_tenants_share_no_head_and_lead_nobody_but_their_own(finished: bool) -> None:
    bench = _bench()
    for tenant in ("one", "two", "one", "two"):
        bench.submit(Ask(prompt=HEAD[:300] + _own(), max_tokens=4, tenant=tenant))
        if finished:
            bench.run()
    bench.run()
    bench.check_answers()
    bench.check_sharing()
    assert _prefilled(bench) == 2 * 300 + 4 * 12


def _leader_and_followers(bench: Bench, followers: int) -> tuple[int, list[int]]:
    """A leader part of the way through a head of 512 tokens, beside a stream, and those that wait for it."""
    bench.submit(Ask(prompt=_own(), max_tokens=400, ignores_end=True))
    bench.step()
    leader = bench.submit(Ask(prompt=HEAD + _own(), max_tokens=4))
    waiting = [bench.submit(Ask(prompt=HEAD + _own(), max_tokens=4)) for _ in range(followers)]
    bench.step()
    bench.step()
    assert 0 < bench.sequences[leader][0].computed < len(HEAD)
    return leader, waiting


def test_a_leader_that_is_cancelled_hands_its_work_to_one_follower() -> None:
    bench = _bench()
    leader, followers = _leader_and_followers(bench, 4)
    done = bench.sequences[leader][0].computed
    bench.cancel(leader)
    bench.step()
    states = [bench.sequences[number][0] for number in followers]
    assert states[0].computed > done, "the first follower goes on where the leader stopped"
    assert all(s.leader is states[0] for s in states[1:]), "the others follow the first"
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 12 + 512 + 4 * 12


def test_a_cancelled_leaders_work_is_handed_over_before_its_slot_is_given_away() -> None:
    bench = _bench(slots=4)
    leader, _ = _leader_and_followers(bench, 2)
    bench.submit(Ask(prompt=_own(), max_tokens=4))  # waits for a slot: the leader's will be the only one
    bench.cancel(leader)
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 12 + 512 + 2 * 12 + 12


def test_a_leader_that_ends_with_its_first_token_leaves_its_head_to_its_followers() -> None:
    bench = _bench(slots=3)
    bench.submit(Ask(prompt=HEAD, max_tokens=1))
    for _ in range(2):
        bench.submit(Ask(prompt=HEAD + _own(), max_tokens=3))
    bench.submit(Ask(prompt=_own(), max_tokens=3))
    bench.run()
    bench.check_answers()
    assert _prefilled(bench) == 512 + 2 * 12 + 12


def test_a_chat_with_a_title_request_between_its_turns_prefills_only_what_is_new() -> None:
    bench = _bench(slots=4)
    system = HEAD[:24]
    chat = system
    previous = 0
    for _ in range(6):
        question = _own(30)
        prompt = chat + question
        turn = bench.submit(Ask(prompt=prompt, max_tokens=25, ignores_end=True))
        bench.run()
        sequence = bench.sequences[turn][0]
        # The answer's last token was sampled and never computed.
        assert sequence.cached >= max(previous - 1, 0)
        finish = bench.answers[turn][0].finish
        assert finish is not None
        assert finish.cached_tokens == sequence.cached
        chat = tuple(sequence.tokens[: sequence.length].tolist())
        previous = len(chat)
        title = bench.submit(Ask(prompt=(*system, *_own(40)), max_tokens=6))
        bench.run()
        assert bench.sequences[title][0].cached >= len(system)
    bench.check_answers()


def test_a_chat_outlives_short_strangers_while_slots_are_left() -> None:
    bench = _bench(slots=4)
    chat = bench.submit(Ask(prompt=HEAD[:400], max_tokens=4))
    bench.run()
    for _ in range(2):
        bench.submit(Ask(prompt=_own(), max_tokens=3))
        bench.run()
    again = bench.submit(Ask(prompt=HEAD[:400] + _own(), max_tokens=3))
    bench.run()
    bench.check_answers()
    assert bench.sequences[again][0].cached >= 400
    assert bench.sequences[chat][0].cached == 0


def test_memory_that_cannot_be_cut_shares_nothing() -> None:
    bench = Bench(slots=3, slot_tokens=256, batch_tokens=64, shares_prefixes=False)
    for _ in range(5):
        bench.submit(Ask(prompt=HEAD[:100] + _own(), n=2, max_tokens=4))
    bench.run()
    bench.check_answers()
    assert bench.backend.copies == 0
    assert _prefilled(bench) == 10 * 112


def test_an_arriving_prompt_never_stops_a_running_stream() -> None:
    bench = _bench()
    streams = [bench.submit(Ask(prompt=_own(), max_tokens=200, ignores_end=True)) for _ in range(4)]
    while any(bench.sequences[n][0].phase is not Phase.DECODE for n in streams):
        bench.step()
    bench.submit(Ask(prompt=HEAD + HEAD[:300], max_tokens=4))
    for _ in range(30):
        before = [bench.sequences[n][0].length for n in streams]
        bench.step()
        assert [bench.sequences[n][0].length for n in streams] == [length + 1 for length in before]
        chunks = [count for _, count in bench.backend.steps[-1] if count > 1]
        assert sum(chunks) <= 96
    bench.run()
    bench.check_answers()


def test_streams_are_computed_in_the_order_of_their_slots() -> None:
    """In any other, llama.cpp takes a pass over all weights for each slot that does not follow the one before it."""
    bench = _bench(slots=4)
    first, *_ = [bench.submit(Ask(prompt=_own(), max_tokens=200, ignores_end=True)) for _ in range(4)]
    while len(bench.backend.steps[-1:] and bench.backend.steps[-1]) < 4:
        bench.step()
    bench.cancel(first)
    late = bench.submit(Ask(prompt=_own(), max_tokens=200, ignores_end=True))
    while not bench.sequences[late] or bench.sequences[late][0].phase is not Phase.DECODE:
        bench.step()
    bench.step()
    assert [slot for slot, _ in bench.backend.steps[-1]] == [0, 1, 2, 3]


def test_a_prompt_that_is_read_between_two_streams_does_not_part_them() -> None:
    """The first token of its chunk is computed with them; were it behind all, they would take a pass each side."""
    bench = _bench(slots=4)
    _, second, *_ = [bench.submit(Ask(prompt=_own(), max_tokens=200, ignores_end=True)) for _ in range(4)]
    while len(bench.backend.steps[-1:] and bench.backend.steps[-1]) < 4:
        bench.step()
    bench.cancel(second)
    late = bench.submit(Ask(prompt=_own(300), max_tokens=200, ignores_end=True))
    bench.step()
    assert bench.sequences[late][0].phase is Phase.PREFILL
    (before, *_), (place, chunk), *after = bench.backend.steps[-1]
    assert (before, place, [slot for slot, _ in after]) == (0, 1, [2, 3])
    assert chunk > 1


def test_prompts_are_read_in_the_order_of_their_arrival() -> None:
    bench = _bench()
    numbers = [bench.submit(Ask(prompt=_own(200), max_tokens=3)) for _ in range(8)]
    ended: list[int] = []
    while bench.core.has_work:
        ended += [piece.request for piece in bench.step().pieces if piece.finish]
    assert ended == numbers


def test_more_requests_than_slots_wait_and_are_all_answered() -> None:
    bench = _bench(slots=2)
    for _ in range(200):
        bench.submit(Ask(prompt=_own(), max_tokens=3))
    assert bench.core.waiting == 200
    bench.run()
    bench.check_answers()
    bench.check_nothing_leaked()


def test_a_failed_step_ends_the_requests_in_it_and_no_other() -> None:
    bench = _bench(slots=2)
    running = bench.submit(Ask(prompt=HEAD[:50], n=2, max_tokens=9))
    bench.step()
    waiting = bench.submit(Ask(prompt=HEAD[:60], max_tokens=9))
    bench.backend.fail_decode = lambda: True
    report = bench.step()
    bench.backend.fail_decode = lambda: False
    assert [failure.request for failure in report.failures] == [running]
    assert report.failures[0].error.kind == "internal_error"
    bench.run()
    assert bench.answers[waiting][0].finish is not None
    bench.check_answers()
    # What a failed step left in a slot is not to be trusted.
    assert bench.sequences[waiting][0].cached == 0


@pytest.mark.parametrize("when", ["queued", "prefilling", "following", "decoding"])
def test_cancelling_frees_the_place_for_the_next_step(when: str) -> None:
    bench = _bench(slots=3)
    leader, (follower,) = _leader_and_followers(bench, 1)
    queued = [bench.submit(Ask(prompt=_own(), max_tokens=3)) for _ in range(2)]
    stream = min(bench.sequences)
    states = {n: bench.sequences[n][0] for n in (stream, leader, follower, queued[0])}
    assert states[stream].phase is Phase.DECODE
    assert states[leader].phase is Phase.PREFILL
    assert states[leader].leader is None
    assert states[follower].leader is states[leader]
    assert states[queued[0]].phase is Phase.WAITING
    victim = {"queued": queued[0], "prefilling": leader, "following": follower, "decoding": stream}[when]
    bench.cancel(victim)
    bench.step()
    assert bench.core.waiting == 1
    assert bench.core.stats.running == 3
    bench.run()
    bench.check_answers()
    bench.check_nothing_leaked()


def test_what_is_urgent_gets_the_next_slot_and_takes_none_away() -> None:
    bench = _bench(slots=1)
    running = bench.submit(Ask(prompt=_own(), max_tokens=6, priority=50))
    bench.step()
    idle = [bench.submit(Ask(prompt=_own(), max_tokens=2, priority=50)) for _ in range(3)]
    urgent = bench.submit(Ask(prompt=_own(), max_tokens=2, priority=-50))
    bench.run()
    bench.check_answers()
    began = {number: sequences[0].prefill_started_s for number, sequences in bench.sequences.items()}
    assert sorted(began, key=began.__getitem__) == [running, urgent, *idle]
