"""Keys that the operator writes himself: a TOML file, and two variables of the environment.

    [alice]
    key = "sk-of-her-own-choice"        # or sha256 = "64 hex digits", so that the file holds no secret
    scopes = ["inference"]
    models = ["smollm2-135m-instruct"]
    requests_per_minute = 60
    priority = -10                      # before others in the queue

``NIBBLE_API_KEY`` is a key of the scope inference, ``NIBBLE_ADMIN_KEY`` one of both scopes.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from routes.caller import SCOPES, Scope
from server.keys.api_key import NAME, ApiKey, KeyLimits, digest_of

VARIABLES: Final = {"NIBBLE_API_KEY": frozenset({"inference"}), "NIBBLE_ADMIN_KEY": frozenset(SCOPES)}
_LEAST_LENGTH: Final = 16
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LIMITS: Final = frozenset(KeyLimits.__struct_fields__)
_FIELDS: Final = frozenset({"key", "sha256", "scopes", "models"})


class StaticKeyError(Exception):
    """A key that the operator wrote cannot be used; the message says where, and never holds the key."""


def static_keys(file: Path | None, environ: Mapping[str, str] = os.environ) -> list[ApiKey]:
    """Those of the file and of the environment. Raises StaticKeyError."""
    found = [
        ApiKey(name=_name_of(variable), digest=_digest(secret, variable), scopes=_scopes(scopes))
        for variable, scopes in VARIABLES.items()
        if (secret := environ.get(variable))
    ]
    found += _read_file(file) if file is not None else []
    if len({key.name for key in found}) < len(found):
        raise StaticKeyError(f"{file}: 'environment' and 'environment-admin' are names of other keys")
    if len({key.digest for key in found}) < len(found):
        raise StaticKeyError("two API keys of file and environment are the same: give each its own")
    return found


def _name_of(variable: str) -> str:
    return "environment-admin" if variable == "NIBBLE_ADMIN_KEY" else "environment"


def _scopes(names: object) -> frozenset[Scope]:
    return msgspec.convert(names, frozenset[Scope])


def _digest(secret: str, where: str) -> bytes:
    if len(secret) < _LEAST_LENGTH or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise StaticKeyError(
            f"{where}: an API key has {_LEAST_LENGTH} characters or more, of ASCII and without spaces"
        )
    return digest_of(secret)


def _read_file(file: Path) -> list[ApiKey]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaticKeyError(f"the API keys in {file} cannot be read: {error}") from None
    return [_read_table(name, table, f"{file}, [{name}]") for name, table in tables.items()]


def _read_table(name: str, table: object, where: str) -> ApiKey:
    if not NAME.fullmatch(name):
        raise StaticKeyError(f"{where}: a name has letters, digits, '.', '_', '@' and '-', 64 at most")
    if not isinstance(table, dict):
        raise StaticKeyError(f"{where}: must be a table with 'key' or 'sha256'")
    if unknown := sorted(table.keys() - _FIELDS - _LIMITS):
        raise StaticKeyError(f"{where}: '{unknown[0]}' is no field of a key")
    if ("key" in table) == ("sha256" in table):
        raise StaticKeyError(f"{where}: needs either 'key' or 'sha256'")
    try:
        limits = msgspec.convert({field: table[field] for field in _LIMITS & table.keys()}, KeyLimits)
        scopes = _scopes(table.get("scopes", ["inference"]))
        models = msgspec.convert(table.get("models"), frozenset[str] | None)
        secret = msgspec.convert(table.get("key"), str | None)
        digest = msgspec.convert(table.get("sha256"), str | None)
    except msgspec.ValidationError as error:
        raise StaticKeyError(f"{where}: {error}") from None
    if problem := limits.problem() or (None if scopes else "scopes must name one or more"):
        raise StaticKeyError(f"{where}: {problem}")
    if digest is not None and not _SHA256.fullmatch(digest):
        raise StaticKeyError(f"{where}: sha256 is 64 hex digits in lower case")
    hashed = bytes.fromhex(digest) if digest is not None else _digest(secret or "", where)
    return ApiKey(name=name, digest=hashed, scopes=scopes, models=models, limits=limits)
