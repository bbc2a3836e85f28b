"""Every key in force, and whose a credential is."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from routes.http_errors import InvalidApiKey
from server.keys.api_key import ApiKey, digest_of
from server.keys.client import Client, Enter
from server.keys.key_store import KeyStoreError, StoredKey

_FRESH_S: Final = 1.0
"""How long a key that was revoked may go on, and one that was created may have to wait."""
_PATIENCE_S: Final = 1.0
"""How long requests wait for a disk that does not answer, before they go by what was known."""
_LONGEST: Final = 512
_BUCKET_BYTES: Final = 4


class StorePort(Protocol):
    """``server.keys.key_store.KeyStore``. Its methods block."""

    def stored(self) -> list[StoredKey]: ...

    def stamp(self) -> tuple[int, ...]: ...


class Keyring:
    """Implements ``routes.caller.CallersPort``. Owned by the event loop.

    The store is looked at when a request comes and the last look is a second old, so a key that ``nibble key``
    creates or revokes counts at once, and an idle server does nothing.
    """

    def __init__(
        self,
        store: StorePort,
        static: Iterable[ApiKey],
        enter: Enter,
        *,
        is_local: bool,
        local: ApiKey | None = None,
        is_insecure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``local``: the key that this run of the server has made for the commands of its own user.

        ``is_insecure``: the operator wants requests to be answered without a key, from wherever they come.

        Raises KeyStoreError.
        """
        self.is_local = is_local
        self._store = store
        self._static = tuple(static)
        self._enter = enter
        self._is_insecure = is_insecure
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self._by_digest: dict[bytes, list[Client]] = {}
        self._look: asyncio.Task[None] | None = None
        self._is_failing = False
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        # Not admin, on loopback neither: other users of the machine reach that, and so does what they run.
        anybody = ApiKey(name="", digest=b"", scopes=frozenset({"inference"}))
        self._anybody = Client(anybody, enter, clock, is_operator=is_local)
        self._local = None if local is None else Client(local, enter, clock)
        self._stamp = store.stamp()
        self._looked_at = clock()
        self._take(store.stored())

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def is_open(self) -> bool:
        """Whether requests are answered without a key."""
        return (self.is_local or self._is_insecure) and not self._has_keys

    def become(self, other: Keyring) -> None:
        """Take the keys of ``other``, which was opened with other settings; what clients have used stays used."""
        self._static, self._is_insecure, self._stamp = other._static, other._is_insecure, other._stamp
        self._take(other._stored)

    async def identify(self, credential: str | None) -> Client:
        if self._clock() - self._looked_at >= _FRESH_S:
            await self._refresh()
        if self._is_local_key(credential) and self._local is not None:
            return self._local
        if self.is_open:
            return self._anybody
        if credential is None:
            raise InvalidApiKey("This server needs an API key: send it as 'Authorization: Bearer KEY'.")
        if client := self._find(credential):
            return client
        raise InvalidApiKey("The API key is not known here, or was revoked.")

    def _is_local_key(self, credential: str | None) -> bool:
        if self._local is None or credential is None or len(credential) > _LONGEST:
            return False
        return hmac.compare_digest(self._local.digest, digest_of(credential))

    def _find(self, credential: str) -> Client | None:
        if len(credential) > _LONGEST:
            return None
        digest = digest_of(credential)
        candidates = self._by_digest.get(digest[:_BUCKET_BYTES], [])
        return next((client for client in candidates if hmac.compare_digest(client.digest, digest)), None)

    async def _refresh(self) -> None:
        """One look for all that wait for it. A disk that fails or hangs leaves the keys as they were known."""
        if self._look is None:
            self._look = asyncio.create_task(self._read_store(), name="keys")
            self._look.add_done_callback(self._end_look)
        await asyncio.wait({self._look}, timeout=_PATIENCE_S)

    def _end_look(self, look: asyncio.Task[None]) -> None:
        self._look = None
        self._looked_at = self._clock()

    async def _read_store(self) -> None:
        try:
            stamp = await asyncio.to_thread(self._store.stamp)
            if stamp != self._stamp:
                stored = await asyncio.to_thread(self._store.stored)
                # Only now: a look that failed is to be repeated. The stamp is older than what was read, so that
                # what changed in between is seen by the next one.
                self._take(stored)
                self._stamp = stamp
        except (KeyStoreError, OSError) as error:
            if not self._is_failing:
                self._log.error("API keys cannot be read; those known so far go on", reason=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _take(self, stored: list[StoredKey]) -> None:
        self._stored = stored
        in_force = {key.name: key for key in self._static}
        for item in stored:
            if item.revoked_s is not None:
                continue
            if item.key.name in in_force:
                self._log.warning("a key is left out: file or environment have its name", key=item.key.name)
                continue
            in_force[item.key.name] = item.key
        # Where the last key was revoked, somebody has wanted keys: that opens no door.
        self._has_keys = bool(in_force) or bool(stored and not self._is_insecure)
        clients: dict[str, Client] = {}
        for name, key in in_force.items():
            if client := self._clients.get(name):
                client.change(key)
                clients[name] = client
            else:
                clients[name] = Client(key, self._enter, self._clock)
        self._clients = clients
        self._by_digest = {}
        for client in clients.values():
            self._by_digest.setdefault(client.digest[:_BUCKET_BYTES], []).append(client)
