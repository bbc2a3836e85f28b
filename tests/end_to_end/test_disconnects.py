"""Clients that go away: while they queue, while their prompt is read, while their answer is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.end_to_end.live_server import MOST_POOL_THREADS, Figures, LiveServer, Resources
from tests.end_to_end.patience import eventually
from tests.end_to_end.raw_request import RawRequest, raw_request

pytestmark = pytest.mark.model

LONG_ANSWER = {"max_tokens": 900, "ignore_eos": True, "temperature": 1}
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with one place, so that a second request queues."""
    home = tmp_path_factory.mktemp("narrow")
    with LiveServer(home, "--context", "2048", "--parallel", "1") as running:
        yield running.ready()


def is_idle(figures: Figures) -> bool:
    return figures.running == figures.waiting == 0


def wait_until_idle(server: LiveServer) -> None:
    eventually(server.figures, is_idle, "no request runs or waits")


def wait_for_aborts(server: LiveServer, count: float) -> None:
    eventually(lambda: server.figures().aborted, lambda seen: seen == count, f"{count} requests were aborted")


@contextmanager
def decoding(server: LiveServer, *, stream: bool = True, prompt: object = "1, 2, 3,") -> Iterator[RawRequest]:
    """A request whose answer is being made, and would be for some time."""
    before = server.figures().generated
    body = {"prompt": prompt, "stream": stream, **LONG_ANSWER}
    with raw_request(server.port, "/v1/completions", body) as request:
        request.send()
        if stream:
            request.read_until(b'"text":')
        eventually(
            lambda: server.figures().generated, lambda seen: seen > before + 2, "tokens are being generated"
        )
        yield request


@STREAMED
def test_a_disconnect_while_decoding_frees_the_place(narrow: LiveServer, stream: bool) -> None:
    wait_until_idle(narrow)
    aborted, generated = narrow.figures().aborted, narrow.figures().generated
    with decoding(narrow, stream=stream) as request:
        request.leave()
        wait_for_aborts(narrow, aborted + 1)
        wait_until_idle(narrow)
    assert narrow.figures().generated < generated + 900, "it was cancelled, and did not just end"
    assert narrow.answers()


@STREAMED
def test_a_disconnect_while_reading_the_prompt_frees_the_place(narrow: LiveServer, stream: bool) -> None:
    wait_until_idle(narrow)
    before = narrow.figures()
    # Four steps long, of which the first tells that it runs; one for each test, as the cache spares reading.
    prompt = [260 + stream, *range(1000, 3000)]
    body = {"prompt": prompt, "stream": stream, "max_tokens": 2}
    with raw_request(narrow.port, "/v1/completions", body) as request:
        request.send()
        eventually(narrow.figures, lambda seen: seen.running == 1, "the prompt is being read")
        request.leave()
        wait_for_aborts(narrow, before.aborted + 1)
        wait_until_idle(narrow)
    after = narrow.figures()
    assert after.generated == before.generated
    assert after("nibble_prompt_tokens_total") == before("nibble_prompt_tokens_total"), "it was never read"
    assert narrow.answers()


@STREAMED
def test_a_disconnect_in_the_queue_frees_the_place(narrow: LiveServer, stream: bool) -> None:
    wait_until_idle(narrow)
    aborted = narrow.figures().aborted
    with decoding(narrow):
        body = {"prompt": "4, 5, 6,", "stream": stream, **LONG_ANSWER}
        with raw_request(narrow.port, "/v1/completions", body) as queued:
            queued.send()
            eventually(narrow.figures, lambda seen: seen.waiting == 1, "the second request waits")
            queued.leave()
            wait_for_aborts(narrow, aborted + 1)
            seen = eventually(narrow.figures, lambda seen: seen.waiting == 0, "nothing waits any more")
            assert seen.running == 1, "the first request was left alone"
    wait_for_aborts(narrow, aborted + 2)
    wait_until_idle(narrow)
    assert narrow.answers()


def test_a_hundred_requests_can_leave_the_queue_in_any_order(narrow: LiveServer) -> None:
    wait_until_idle(narrow)
    aborted = narrow.figures().aborted
    with decoding(narrow), ExitStack() as held:
        queue = [
            held.enter_context(
                raw_request(
                    narrow.port, "/v1/completions", {"prompt": "7, 8,", "stream": i % 2 == 0, **LONG_ANSWER}
                )
            )
            for i in range(100)
        ]
        for request in queue:
            request.send()
        eventually(narrow.figures, lambda seen: seen.waiting == 100, "all of them wait")
        for request in (*queue[::3], *queue[1::3], *queue[2::3]):
            request.leave(reset=True)
        wait_for_aborts(narrow, aborted + 100)
        eventually(narrow.figures, lambda seen: seen.waiting == 0, "the queue is empty")
    wait_until_idle(narrow)


def test_nothing_leaks_over_hundreds_of_aborts(server: LiveServer) -> None:
    """In every phase, with a polite close and with a reset. There are more of each than may come by itself, so a
    leak of one file or thread a request shows, whichever phase and way of leaving it has."""
    abort_in_every_phase(server, rounds=1)
    resources = Resources(server)
    before = resources.count()
    abort_in_every_phase(server, rounds=max(20, MOST_POOL_THREADS + 1))
    eventually(
        resources.count,
        lambda seen: all(now.fits(then) for now, then in zip(seen, before, strict=True)),
        f"files and threads are back near {before}",
    )
    assert server.answers()


def abort_in_every_phase(server: LiveServer, *, rounds: int) -> None:
    """Twelve aborts a round, each round overlapping with itself."""
    for number in range(rounds):
        with ExitStack() as held:

            def started(stream: bool, held: ExitStack = held, number: int = number) -> RawRequest:
                body = {"prompt": f"{number}, 2, 3,", "stream": stream, **LONG_ANSWER}
                return held.enter_context(raw_request(server.port, "/v1/completions", body))

            for reset in (False, True):
                started(stream=True).leave(reset=reset)
                halfway = started(stream=False)
                halfway.send(len(halfway.message) // 2)
                halfway.leave(reset=reset)
                for stream in (False, True):
                    unheard = started(stream=stream)
                    unheard.send()
                    unheard.leave(reset=reset)
                accepted = started(stream=True)
                accepted.send()
                accepted.read_until(b"\r\n\r\n")
                accepted.leave(reset=reset)
                talking = started(stream=True)
                talking.send()
                talking.read_until(b'"text":')
                talking.leave(reset=reset)
    wait_until_idle(server)
