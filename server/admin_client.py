"""A running server's admin API, as commands call it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from model_registry.jobs.job import JobSnapshot
from server.bind_address import is_loopback
from server.health_check import url_for
from server.local_access import LocalServer, local_servers

if TYPE_CHECKING:
    from server.settings import Settings

VARIABLE = "NIBBLE_ADMIN_KEY"
_CONNECT_S = 10.0
_PING_S = 60.0
"""Silence on a stream of events after which it is taken for broken; a server pings every 15 s unless told otherwise."""
_MOST_BREAKS = 5
Told = TypeVar("Told")


class AdminError(Exception):
    """The server cannot be asked, or refuses; the message is one line that names the mend."""


class AdminClient:
    """Owned by one thread."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        self._has_key = key is not None
        host = urlsplit(self.url).hostname or ""
        self._http = httpx.Client(
            base_url=self.url,
            # A load takes as long as it takes: the server has its own limit for that.
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            # Proxies are for the world outside.
            trust_env=not is_loopback(host),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, kind: type[Told]) -> Told:
        """Raises AdminError, as the others do."""
        return self._ask("GET", path, None, kind)

    def post(self, path: str, body: dict[str, object], kind: type[Told]) -> Told:
        return self._ask("POST", path, body, kind)

    def delete(self, path: str, kind: type[Told]) -> Told:
        return self._ask("DELETE", path, None, kind)

    def follow(self, job_id: str) -> Iterator[JobSnapshot]:
        """The job as it is, and whenever it has changed, until it is over. A connection that breaks is made anew."""
        breaks = 0
        while True:
            try:
                for job in self._events(job_id):
                    breaks = 0
                    yield job
                    if job.ended is not None:
                        return
            except httpx.TransportError as error:
                broken = str(error) or type(error).__name__
            else:
                broken = "it ended too soon"
            breaks += 1
            if breaks > _MOST_BREAKS:
                raise AdminError(f"the connection to {self.url} breaks again and again ({broken})")

    def _events(self, job_id: str) -> Iterator[JobSnapshot]:
        timeout = httpx.Timeout(_PING_S, connect=_CONNECT_S)
        with self._http.stream("GET", f"/admin/v1/jobs/{job_id}/events", timeout=timeout) as response:
            if response.status_code != 200:
                response.read()
                self._refuse(response)
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield self._decoded(line.removeprefix("data: ").encode(), JobSnapshot)

    def _ask(self, method: str, path: str, body: dict[str, object] | None, kind: type[Told]) -> Told:
        try:
            response = self._http.request(method, path, json=body)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise AdminError(
                f"{self.url} does not answer ({str(error) or type(error).__name__}):"
                " see that 'nibble serve' runs there, or name another with --url"
            ) from None
        if not response.is_success:
            self._refuse(response)
        return self._decoded(response.content, kind)

    def _decoded(self, content: bytes, kind: type[Told]) -> Told:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise AdminError(
                f"{self.url} answers as no nibble of this version does ({error}): check the address"
            ) from None

    def _refuse(self, response: httpx.Response) -> NoReturn:
        told = _error_of(response)
        if response.status_code == 401:
            mend = (
                f"the key in {VARIABLE} is not one of that server's"
                if self._has_key
                else f"it needs a key of the scope admin: set {VARIABLE}"
            )
            raise AdminError(f"{self.url} refuses: {mend}")
        if told is None:
            raise AdminError(
                f"{self.url} answers {response.status_code}, as no nibble does: check the address"
            )
        raise AdminError(told)


@contextlib.contextmanager
def admin_client(settings: Settings, url: str | None) -> Generator[AdminClient]:
    """The server that ``url`` names, or else the one that runs with these settings. Raises AdminError."""
    client = AdminClient(*_find(settings, url))
    try:
        yield client
    finally:
        client.close()


def _find(settings: Settings, url: str | None) -> tuple[str, str | None]:
    """Address and key."""
    given = os.environ.get(VARIABLE) or None
    try:
        servers = local_servers(settings.data_dir)
    except PermissionError:
        if given is None:
            raise AdminError(
                f"the server over {settings.data_dir} is another user's: set {VARIABLE}, or be that user"
            ) from None
        servers = []
    wanted = (url or url_for(settings.host, settings.port)).rstrip("/")
    if url is not None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise AdminError(f"'{url}' is no address: write it as in http://127.0.0.1:8000")
        return url, next((server.key for server in servers if server.url.rstrip("/") == wanted), given)
    if server := chosen_server(servers, settings):
        return server.url, server.key
    if given is None:
        raise AdminError(
            f"no server of yours runs over {settings.data_dir}: start one with 'nibble serve', or name one with"
            f" --url, and its admin's key in {VARIABLE}"
        )
    return wanted, given


def chosen_server(servers: Sequence[LocalServer], settings: Settings) -> LocalServer | None:
    """Of ``servers``, the one at the address of the settings, or else the only one.

    Raises AdminError where several are left.
    """
    wanted = url_for(settings.host, settings.port).rstrip("/")
    left = [server for server in servers if server.url.rstrip("/") == wanted] or servers
    if len(left) > 1:
        urls = ", ".join(server.url for server in left)
        raise AdminError(f"several servers run over {settings.data_dir}: name one with --url ({urls})")
    return left[0] if left else None


def _error_of(response: httpx.Response) -> str | None:
    """The message of an error in the shape that every nibble's has."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None
