from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from generation.events import Usage
from routes.caller import SCOPES
from routes.http_errors import InvalidApiKey, RateLimited
from server.keys.api_key import ApiKey, KeyLimits, digest_of
from server.keys.client import duration
from server.keys.key_store import KeyStore, KeyStoreError, StoredKey
from server.keys.keyring import Keyring
from tests.server.keys.test_places import Clock

LOCAL = "a-key-of-one-run"
OWN = "a-key-of-the-operator"


class Entries:
    def __init__(self) -> None:
        self.made: list[tuple[str, str, Usage]] = []

    def __call__(self, key: str, model: str, usage: Usage) -> None:
        self.made.append((key, model, usage))


def keyring(
    store: KeyStore, clock: Clock, *static: ApiKey, is_local: bool = True, is_insecure: bool = False
) -> Keyring:
    local = ApiKey(name="local", digest=digest_of(LOCAL), scopes=frozenset(SCOPES))
    return Keyring(
        store, static, Entries(), is_local=is_local, local=local, is_insecure=is_insecure, clock=clock
    )


def create(store: KeyStore, name: str, **limits: int) -> str:
    return store.create(name, scopes=frozenset({"inference"}), limits=KeyLimits(**limits))


async def test_open_until_there_is_a_key_and_never_again(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    ring = keyring(store, clock)
    assert ring.is_open
    assert (await ring.identify("whatever")).name == ""
    assert (await ring.identify(None)).scopes == {"inference"}
    secret = create(store, "alice")
    clock.now += 1
    assert (await ring.identify(secret)).name == "alice"
    for wrong in (None, "whatever", secret[:-1], secret + "x", "x" * 10_000, "ü\udcff"):
        with pytest.raises(InvalidApiKey) as told:
            await ring.identify(wrong)
        assert secret not in told.value.message
    store.revoke("alice")
    assert (await ring.identify(secret)).name == "alice", "looked at a moment ago"
    clock.now += 1
    with pytest.raises(InvalidApiKey):
        await ring.identify(secret)
    assert not ring.is_open, "whoever revokes the last key does not open the door"
    assert not keyring(store, clock).is_open
    assert keyring(store, clock, is_insecure=True).is_open, "unless he says so"


async def test_nobody_administers_without_a_key_but_the_servers_own_user(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    for is_local in (True, False):
        ring = keyring(store, Clock(), is_local=is_local, is_insecure=not is_local)
        assert ring.is_open, "the local key is none that closes a server"
        for credential in (None, "anything", LOCAL + "x", "x" * 1000, ""):
            assert (await ring.identify(credential)).scopes == {"inference"}
        assert (await ring.identify(LOCAL)).scopes == set(SCOPES)
    create(store, "alice")
    with pytest.raises(InvalidApiKey):
        await keyring(KeyStore(tmp_path / "none"), Clock(), is_local=False).identify(None)
    closed = keyring(store, Clock())
    assert not closed.is_open
    assert (await closed.identify(LOCAL)).name == "local"
    with pytest.raises(InvalidApiKey):
        await closed.identify(None)


async def test_a_name_of_file_or_environment_goes_before_one_of_the_store(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    secret = create(store, "alice")
    ring = keyring(store, clock, ApiKey(name="alice", digest=digest_of(OWN)))
    assert (await ring.identify(OWN)).name == "alice"
    with pytest.raises(InvalidApiKey):
        await ring.identify(secret)


async def test_a_key_says_how_urgent_its_requests_are(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    ring = keyring(store, clock)
    operator = await ring.identify(None)
    assert (operator.priority, operator.most_urgent) == (0, -100), (
        "where nobody needs a key, he may say it all"
    )
    abroad = await keyring(store, clock, is_local=False, is_insecure=True).identify(None)
    assert (abroad.priority, abroad.most_urgent) == (0, 0)
    urgent, usual = create(store, "urgent", priority=-7), create(store, "usual")
    clock.now += 1
    for secret, expected in ((urgent, -7), (usual, 0)):
        client = await ring.identify(secret)
        assert (client.priority, client.most_urgent) == (expected, expected)


async def test_limits_stay_used_when_keys_change(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    secret = create(store, "alice", requests_per_minute=2)
    ring = keyring(store, clock)
    (await ring.identify(secret)).count_request()
    create(store, "bob")
    clock.now += 1
    alice = await ring.identify(secret)
    alice.count_request()
    with pytest.raises(RateLimited) as told:
        alice.count_request()
    assert told.value.retry_after_s == pytest.approx(29.0), "one of two a minute, a second ago"
    assert told.value.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "59s",
    }


async def test_tokens_are_reserved_then_settled(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    secret = create(store, "alice", tokens_per_minute=600)
    alice = await keyring(store, clock).identify(secret)
    charge = alice.reserve(500)
    with pytest.raises(RateLimited) as told:
        alice.reserve(200)
    assert told.value.retry_after_s == pytest.approx(10.0), "a hundred are missing, ten come each second"
    charge.settle(100)
    alice.reserve(500).settle(500)
    assert alice.limit_headers()["x-ratelimit-remaining-tokens"] == "0"
    alice.reserve(0).settle(0)
    clock.now += 60
    whole = alice.reserve(10**9)
    whole.settle(1200)
    assert alice.limit_headers()["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 30
    with pytest.raises(RateLimited) as told:
        alice.reserve(1)
    assert told.value.retry_after_s == pytest.approx(30.1), "what was used beyond the guess is owed"


async def test_places(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path), Clock()
    secret = create(store, "alice", concurrent=1)
    alice = await keyring(store, clock).identify(secret)
    async with alice.place():
        with pytest.raises(RateLimited, match="1 requests at a time, and 0 waiting"):
            async with alice.place():
                pass
        clock.now += 8
    async with alice.place():
        with pytest.raises(RateLimited) as told:
            async with alice.place():
                pass
    assert told.value.retry_after_s == 8.0
    with pytest.raises(ValueError, match="passes through"):
        async with alice.place():
            raise ValueError("passes through")
    async with alice.place():
        pass


class BrokenStore:
    """A disk that fails, or hangs until the gate opens."""

    def __init__(self, stored: list[StoredKey]) -> None:
        self.is_broken = False
        self.gate: threading.Event | None = None
        self.looks = 0
        self._stored = stored

    def stored(self) -> list[StoredKey]:
        if self.is_broken:
            raise KeyStoreError("disk I/O error")
        return self._stored

    def stamp(self) -> tuple[int, ...]:
        self.looks += 1
        if self.gate is not None:
            self.gate.wait(30)
        return (self.looks,)


async def test_a_disk_that_fails_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    real = KeyStore(tmp_path)
    secret = create(real, "alice")
    store, clock = BrokenStore(real.stored()), Clock()
    ring = Keyring(store, (), Entries(), is_local=True, clock=clock)
    store.is_broken = True
    clock.now += 1
    assert (await ring.identify(secret)).name == "alice"
    with pytest.raises(InvalidApiKey):
        await ring.identify(None)


async def test_a_hundred_requests_share_one_look(tmp_path: Path) -> None:
    real = KeyStore(tmp_path)
    secret = create(real, "alice")
    store, clock = BrokenStore(real.stored()), Clock()
    ring = Keyring(store, (), Entries(), is_local=True, clock=clock)
    store.gate = threading.Event()
    clock.now += 1
    asked = [asyncio.create_task(ring.identify(secret)) for _ in range(100)]
    await asyncio.sleep(0)
    store.gate.set()
    assert {client.name for client in await asyncio.gather(*asked)} == {"alice"}
    assert store.looks == 2, "one at the start, and one now"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "0ms"), (0.02, "20ms"), (1.5, "1.5s"), (59.99, "59.99s"), (360.2, "6m0s")]
)
def test_durations_are_written_as_openai_does(seconds: float, told: str) -> None:
    assert duration(seconds) == told
