"""The way in for commands of the server's own user: a key that each run of a server makes, in a file of his alone.

Whoever may read the file may read the whole data directory, so the key opens nothing that was closed. A page in a
browser cannot read it, nor can another user of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import Final

import msgspec

from routes.caller import SCOPES
from server.keys.api_key import ApiKey, digest_of, new_secret

DIRECTORY: Final = "servers"
KEY_NAME: Final = "local"
CONVERSATION: Final = "_NIBBLE_CONVERSATION"
"""Set by ``nibble chat`` for the server that it starts, and ends: no other conversation is to rely on that."""
_MOST_BYTES: Final = 4096


class LocalServer(msgspec.Struct, frozen=True):
    """A server that runs on this machine, as its user."""

    url: str
    pid: int
    key: str
    """Of all scopes, for as long as that server runs."""
    is_of_conversation: bool = False
    """Whether it ends with the ``nibble chat`` that has started it."""


@contextlib.contextmanager
def announced(data_dir: Path, url: str) -> Generator[ApiKey]:
    """Tell commands of this user where this server is, and by which key it knows them, until the end.

    The file is locked while its server lives, so that one which a kill has left behind is none. Raises OSError.
    """
    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(directory)
    secret = new_secret()
    # Not by the process's number, which is 1 in every container that shares the directory.
    path = directory / f"{secrets.token_hex(8)}.json"
    # Locked and whole before it has its name: nobody sees it otherwise.
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        server = LocalServer(url, os.getpid(), secret, CONVERSATION in os.environ)
        os.write(descriptor, msgspec.json.encode(server))
        new.replace(path)
        try:
            yield ApiKey(name=KEY_NAME, digest=digest_of(secret), scopes=frozenset(SCOPES))
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def local_servers(data_dir: Path) -> list[LocalServer]:
    """Those that run now over this data directory as this user. Raises PermissionError where it is another's."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted((data_dir / DIRECTORY).iterdir()):
            if path.suffix == ".json" and (server := _read(path)):
                found.append(server)
    return found


def _read(path: Path) -> LocalServer | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or not _is_locked(descriptor):
            return None
        return msgspec.json.decode(os.read(descriptor, _MOST_BYTES), type=LocalServer)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _remove_stale(directory: Path) -> None:
    """Files that servers left behind which were killed."""
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not _is_locked(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)
