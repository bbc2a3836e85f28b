"""Giving a pull up: at once, wherever it is, and with what has come kept for the next."""

from __future__ import annotations

import asyncio
import threading

import pytest

from engine.config import EngineConfig
from model_registry.pull.file_lock import file_lock
from model_registry.pull.pull import pull_model
from model_registry.pull.pull_error import PullCancelled
from tests.model_registry.fake_engine import FakeEngine
from tests.model_registry.pull.file_server import (
    FileServer,
    Handler,
    drops_after,
    honest,
    stalls_after,
)
from tests.model_registry.pull.house import House

pytestmark = pytest.mark.usefixtures("only_loopback")


def test_cancelling_keeps_what_is_here_and_the_next_pull_goes_on(
    house: House, server: FileServer, tiny: bytes
) -> None:
    """Between pieces: the server sends the second half when the pull has seen the first, and was cancelled."""
    half = len(tiny) // 2
    cancelled = threading.Event()

    def slowly(handler: Handler) -> None:
        handler.head(200, len(tiny), etag=handler.server.etag)
        handler.wfile.write(tiny[:half])
        handler.wfile.flush()
        assert cancelled.wait(30)
        handler.wfile.write(tiny[half:])

    def progress(here: int, whole: int | None) -> None:
        if here >= half:
            house.cancel.set()
            cancelled.set()

    server.steps = [slowly]
    with pytest.raises(PullCancelled, match="it goes on"):
        pull_model(server.url, house.config, house.start, progress=progress, cancel=house.cancel)
    assert house.names() == [".model.gguf.part", ".model.gguf.part.json"]
    kept = (house.models / ".model.gguf.part").stat().st_size
    assert kept >= half
    assert not house.started, "nothing was tried out"
    house.cancel.clear()
    house.pull(server.url)
    assert server.seen[-1]["range"] == f"bytes={kept}-"
    assert (house.models / "model.gguf").read_bytes() == tiny


def test_cancelling_ends_the_wait_for_another_process(house: House, server: FileServer) -> None:
    house.models.mkdir(parents=True)
    with file_lock(house.models / ".model.gguf.lock"):
        pulled = threading.Thread(target=_expect_cancelled, args=(house, server.url))
        pulled.start()
        while not house.said:
            pulled.join(0.01)
        house.cancel.set()
        pulled.join(30)
    assert not pulled.is_alive()
    assert house.said == ["model.gguf is being fetched by another process"]


def test_cancelling_ends_the_pause_between_two_attempts(house: House, server: FileServer) -> None:
    server.steps = [drops_after(0)] * 5

    def say(text: str) -> None:
        house.cancel.set()

    with pytest.raises(PullCancelled):
        pull_model(server.url, house.config, house.start, say=say, cancel=house.cancel)
    assert len(server.seen) == 1


def test_cancelling_while_it_is_tried_out_ends_the_engine(house: House, server: FileServer) -> None:
    ended: list[str] = []

    async def start(config: EngineConfig) -> FakeEngine:
        house.cancel.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(config.model_id)
            raise
        raise AssertionError

    with pytest.raises(PullCancelled, match="while the model was tried out"):
        pull_model(server.url, house.config, start, cancel=house.cancel)
    assert ended == ["model"]
    assert house.store.records() == {}


def test_cancelling_a_pull_that_stalls_counts_at_once(house: House, server: FileServer) -> None:
    """The server is silent until the pull has ended, so only the cancel can have ended it."""
    server.steps = [stalls_after(100)]
    ended = threading.Event()
    caught: list[Exception] = []

    def pull() -> None:
        try:
            house.pull(server.url)
        except PullCancelled as error:
            caught.append(error)
        ended.set()

    thread = threading.Thread(target=pull)
    thread.start()
    while not house.seen or house.seen[-1][0] < 100:
        assert not ended.wait(0.01)
    house.cancel.set()
    assert ended.wait(20), "only the read's time-out could end it"
    thread.join()
    assert len(caught) == 1
    server.release.set()
    house.cancel.clear()
    server.steps = [honest]
    assert house.pull(server.url).id == "model"


def _expect_cancelled(house: House, url: str) -> None:
    with pytest.raises(PullCancelled):
        house.pull(url)
