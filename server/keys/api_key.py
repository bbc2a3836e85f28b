"""An API key as the server keeps it: never the secret itself."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

import msgspec

from routes.caller import MAX_PRIORITY, Scope

_MARK: Final = "sk-nibble-"
_SHOWN: Final = len(_MARK) + 6
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one key may use. None is no limit of its own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and answers together."""
    concurrent: int | None = None
    """Requests that run at the same time."""
    queued: int | None = None
    """Requests that may wait for one of those to end; None is 0. Needs ``concurrent``."""
    priority: int | None = None
    """How urgent its requests are, a lower number being more urgent; None is 0. Each may ask to be less so."""

    def problem(self) -> str | None:
        """What is wrong, in words for the operator."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "priority":
                if value is not None and abs(value) > MAX_PRIORITY:
                    return f"priority must be from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {value}"
                continue
            least = 0 if name == "queued" else 1
            if value is not None and value < least:
                return f"{name} must be {least} or more, not {value}"
        if self.queued and self.concurrent is None:
            return "queued needs concurrent: without it nothing ever waits for a place"
        return None


NO_LIMITS: Final = KeyLimits()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key that is in force."""

    name: str
    digest: bytes
    """SHA-256 of the secret."""
    prefix: str = ""
    """The first characters of the secret, to recognise it by; empty where the operator wrote it himself."""
    scopes: frozenset[Scope] = frozenset({"inference"})
    models: frozenset[str] | None = None
    limits: KeyLimits = NO_LIMITS


def new_secret() -> str:
    """256 random bits, marked as what they are, so that scanners for leaked secrets find them."""
    return _MARK + secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """A plain hash suffices: a secret of 256 bits cannot be guessed, however fast the hash is."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def prefix_of(secret: str) -> str:
    """What of a secret may be shown and kept: 36 of its 256 bits."""
    return secret[:_SHOWN]
