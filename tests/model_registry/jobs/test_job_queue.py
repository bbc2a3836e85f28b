"""Jobs begin in turn, tell how far they are, and end once: well, badly, or because they were told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InsufficientMemory, JobNotFound, ModelUnavailable, QueueFull
from model_registry.config import RegistryConfig
from model_registry.jobs.job import ENDS, JobSnapshot
from model_registry.jobs.job_order import PullOrder
from model_registry.jobs.job_queue import JobQueue
from model_registry.pull.pull_error import PullError
from model_registry.store.twin_record import Measurement
from model_registry.tune.tuning import Tuning
from tests.model_registry.jobs.gated_work import PATIENCE_S, GatedWork


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def ended(queue: JobQueue, job: JobSnapshot) -> JobSnapshot:
    async with asyncio.timeout(PATIENCE_S):
        return [each async for each in queue.watch(job.id)][-1]


async def test_so_many_at_a_time_and_the_others_in_turn() -> None:
    work = GatedWork()
    queue = work.queue(at_once=2)
    jobs = [queue.submit(PullOrder(name)) for name in "abcd"]
    await until(lambda: len(work.begun) == 2)
    assert [queue.job(job.id).state for job in jobs] == ["running", "running", "queued", "queued"]
    work.gate("b").set()
    assert (await ended(queue, jobs[1])).model == "model-of-b"
    await until(lambda: len(work.begun) == 3)
    for name in "acd":
        work.gate(name).set()
    for job in jobs:
        last = await ended(queue, job)
        assert (last.state, last.error) == ("succeeded", None)
        assert last.created <= (last.started or 0) <= (last.ended or 0)
    assert work.begun[2:] == ["c", "d"]
    assert work.most_at_once == 2
    assert [job.about for job in queue.jobs()] == ["d", "c", "b", "a"]


async def test_a_work_goes_by_the_configuration_that_it_begins_with() -> None:
    work = GatedWork()
    queue = work.queue(at_once=1)
    jobs = [queue.submit(PullOrder(name)) for name in "ab"]
    await until(lambda: len(work.begun) == 1)
    queue.reconfigure(RegistryConfig(data_dir=Path("after")))
    for name, job in zip("ab", jobs, strict=True):
        work.gate(name).set()
        await ended(queue, job)
    assert work.data_dirs == ["before", "after"]


async def test_what_is_under_way_is_not_begun_twice() -> None:
    work = GatedWork()
    queue = work.queue()
    first = queue.submit(PullOrder("a"))
    assert queue.submit(PullOrder("a")).id == first.id
    work.gate("a").set()
    await ended(queue, first)
    again = queue.submit(PullOrder("a"))
    assert again.id != first.id
    await ended(queue, again)


async def test_who_watches_sees_the_present_then_each_change_and_the_end() -> None:
    work = GatedWork()
    queue = work.queue()
    job = queue.submit(PullOrder("a"))
    watch = queue.watch(job.id)
    assert (await anext(watch)).state == "running"
    await until(lambda: "a" in work.reports)
    report = work.reports["a"]
    report.progress(10, 100)
    told = await anext(watch)
    assert (told.done, told.total, told.unit) == (10, 100, "bytes")
    report.say("fetching a.gguf")
    assert (await anext(watch)).message == "fetching a.gguf"
    late = queue.watch(job.id)
    seen = await anext(late)
    assert (seen.done, seen.message) == (10, "fetching a.gguf"), (
        "whoever asks again misses nothing but the past"
    )
    await late.aclose()
    report.progress(100, 100)
    work.gate("a").set()
    last = [each async for each in watch][-1]
    assert (last.state, last.done, last.message) == ("succeeded", 100, "model-of-a works")
    assert [each.state async for each in queue.watch(job.id)] == ["succeeded"]


async def test_each_piece_of_a_work_is_told_from_its_beginning_in_its_own_unit() -> None:
    work = GatedWork()
    queue = work.queue()
    job = queue.submit(PullOrder("a"))
    watch = queue.watch(job.id)
    assert (await anext(watch)).result is None
    await until(lambda: "a" in work.reports)
    report = work.reports["a"]
    report.progress(90, 100)
    assert (await anext(watch)).done == 90
    report.turn_to("measuring Q8_0", "tokens")
    told = await anext(watch)
    assert (told.message, told.done, told.total, told.unit) == ("measuring Q8_0", 0, None, "tokens")
    report.progress(5, 7)
    assert (await anext(watch)).total == 7, "its first figure is told at once, however soon it comes"
    measured = Measurement(
        quantisation="F32",
        file_bytes=1,
        memory_bytes=2,
        prefill=3.0,
        decode_1=4.0,
        decode_8=5.0,
        perplexity=6.0,
    )
    tuning = Tuning(
        model="a", original=measured, tokens=7, text_sha256="", build="", threads=1, measured_at=0
    )
    report.conclude("a was measured", tuning.report())
    work.gate("a").set()
    last = [each async for each in watch][-1]
    assert (last.message, last.done, last.result) == ("a was measured", 5, tuning.report())
    assert last.result is not None
    assert last.result.unbeaten == (True,)


async def test_what_was_ordered_is_let_go_of_at_the_end() -> None:
    """It may hold megabytes of text, and jobs are remembered for a day."""
    work = GatedWork()
    queue = work.queue(at_once=1)
    jobs = [queue.submit(PullOrder(name)) for name in "ab"]
    queue.cancel(jobs[1].id)
    work.gate("a").set()
    await ended(queue, jobs[0])
    assert [queue._jobs[job.id].order for job in jobs] == [None, None]


async def test_the_rate_is_of_the_last_seconds_and_not_of_what_was_there_before() -> None:
    work, now = GatedWork(), 0.0
    queue = work.queue(clock=lambda: now)
    job = queue.submit(PullOrder("a"))
    noted = queue._jobs[job.id]
    noted.note(5000, 10_000)
    assert queue.job(job.id).rate_per_s is None, "what an earlier pull had fetched is not this one's speed"
    now = 2.0
    noted.note(6000, 10_000)
    assert queue.job(job.id).rate_per_s == 500
    assert queue.job(job.id).left_s == 8
    now = 8.0
    assert queue.job(job.id).rate_per_s == 125, "work that stalls slows down"
    noted.note(0, 10_000)
    assert queue.job(job.id).rate_per_s is None, "it began anew"
    work.gate("a").set()
    await ended(queue, job)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InsufficientMemory("too large: take a smaller one"), "insufficient_memory"),
        (PullError("there is no such file: check the address"), "pull_failed"),
        (ZeroDivisionError("a secret"), "internal_error"),
    ],
)
async def test_a_failure_is_told_with_its_kind_and_its_mend(error: Exception, code: str) -> None:
    work = GatedWork(errors={"a": error})
    queue = work.queue()
    job = queue.submit(PullOrder("a"))
    work.gate("a").set()
    last = await ended(queue, job)
    assert last.state == "failed"
    assert last.error is not None
    assert last.error.code == code
    assert "secret" not in last.error.message
    assert last.message == last.error.message
    other = queue.submit(PullOrder("b"))
    work.gate("b").set()
    assert (await ended(queue, other)).state == "succeeded"


async def test_a_job_is_cancelled_in_the_queue_and_at_work() -> None:
    work = GatedWork()
    queue = work.queue(at_once=1)
    running, waiting = queue.submit(PullOrder("a")), queue.submit(PullOrder("b"))
    await until(lambda: work.begun == ["a"])
    assert queue.cancel(waiting.id).state == "cancelled"
    assert queue.cancel(running.id).state == "cancelling"
    assert (await ended(queue, running)).state == "cancelled"
    assert queue.cancel(running.id).state == "cancelled", "harmless"
    assert work.begun == ["a"]
    with pytest.raises(JobNotFound):
        queue.cancel("job-none")


async def test_one_that_ends_well_although_it_was_told_to_end_has_succeeded() -> None:
    work = GatedWork(is_deaf=True)
    queue = work.queue()
    job = queue.submit(PullOrder("a"))
    await until(lambda: work.begun == ["a"])
    queue.cancel(job.id)
    assert queue.submit(PullOrder("a")).id != job.id, "one that is on its way out is not joined"
    work.gate("a").set()
    assert (await ended(queue, job)).state == "succeeded"
    await queue.stop()


async def test_work_on_the_event_loop_is_cancelled_with_its_job() -> None:
    forever = asyncio.Event()
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await forever.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    work = GatedWork()
    queue = work.queue()
    job = queue.submit(PullOrder("a"))
    await until(lambda: "a" in work.reports)
    begun = work.reports["a"].begin(wait())
    await asyncio.sleep(0)
    queue.cancel(job.id)
    await cancelled.wait()
    assert begun.cancelled()
    await ended(queue, job)


async def test_the_queue_and_the_memory_of_ended_jobs_are_bounded() -> None:
    work = GatedWork()
    queue = work.queue(at_once=1)
    queue.submit(PullOrder("first"))
    for number in range(32):
        queue.submit(PullOrder(str(number)))
    with pytest.raises(QueueFull):
        queue.submit(PullOrder("one more"))
    await queue.stop()
    assert {job.state for job in queue.jobs()} == {"cancelled"}
    with pytest.raises(ModelUnavailable):
        queue.submit(PullOrder("late"))
    other = GatedWork()
    queue = other.queue()
    for number in range(80):
        job = queue.submit(PullOrder(str(number)))
        other.gate(str(number)).set()
        await ended(queue, job)
    assert len(queue.jobs()) == 64
    assert queue.jobs()[0].about == "79"


Step = st.tuples(st.sampled_from(["submit", "cancel", "open", "break", "run"]), st.integers(0, 5))


@settings(max_examples=30, deadline=None)
@given(st.lists(Step, max_size=25), st.integers(1, 3))
def test_in_any_order_every_job_ends_once_and_never_too_many_run(
    steps: list[tuple[str, int]], at_once: int
) -> None:
    async def live() -> None:
        work = GatedWork()
        queue = work.queue(at_once=at_once)
        made: list[JobSnapshot] = []
        for action, number in steps:
            if action == "submit":
                made.append(queue.submit(PullOrder(str(number))))
            elif action == "cancel" and number < len(made):
                queue.cancel(made[number].id)
            elif action == "open":
                work.gate(str(number)).set()
            elif action == "break":
                work.errors[str(number)] = PullError("broken")
            else:
                await asyncio.sleep(0.001 * number)
        for number in range(6):
            work.gate(str(number)).set()
        for job in made:
            assert (await ended(queue, job)).state in ENDS
        assert work.most_at_once <= at_once
        await queue.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(live())
