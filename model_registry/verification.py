"""Whether a model is still what it was: its header, its length, and its digest against what the store has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from engine.errors import ModelLoadFailed, NibbleError
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.file_digest import file_digest
from model_registry.model import Model
from model_registry.model_import import try_out
from model_registry.registration import run_blocking
from model_registry.sources.bundled import BUNDLED_OWNER
from model_registry.sources.gguf_layout import read_layout

Outcome = Literal["ok", "failed", "unknown"]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; ``problem`` names the mend."""

    id: str
    header: Outcome = "unknown"
    digest: Outcome = "unknown"
    """Unknown where none was ever computed, of split models that nibble has not brought, and of files that have
    changed since."""
    load: Outcome = "unknown"
    """Unknown where nobody asked for it."""
    problem: str = ""

    @property
    def is_well(self) -> bool:
        return not self.problem


def verify(
    model: Model,
    config: RegistryConfig,
    start_engine: StartEngine | None = None,
    progress: Callable[[int, int | None], None] = lambda here, whole: None,
) -> Verified:
    """Check ``model``; with ``start_engine`` also load it in a worker and decode a token. Blocks. Raises nothing.

    The first check that fails is the last.
    """
    found = Verified(id=model.id)
    try:
        if model.found.failure is not None:
            raise ModelLoadFailed(model.found.failure)
        for file in model.files():
            read_layout(file)
        found = msgspec.structs.replace(found, header="ok")
    except NibbleError as error:
        return msgspec.structs.replace(found, header="failed", problem=error.message)
    try:
        digest = check_digests(
            model.files(),
            model.digests(),
            model.found.owned_by,
            lambda here: progress(here, model.found.file_bytes),
        )
        found = msgspec.structs.replace(found, digest=digest)
    except ModelLoadFailed as error:
        return msgspec.structs.replace(found, digest="failed", problem=str(error))
    if start_engine is None:
        return found
    try:
        run_blocking(try_out(model, config, start_engine))
    except NibbleError as error:
        return msgspec.structs.replace(found, load="failed", problem=error.message)
    return msgspec.structs.replace(found, load="ok")


def check_digests(
    files: Sequence[Path], digests: Sequence[str | None], owner: str, progress: Callable[[int], object]
) -> Outcome:
    """Read each of ``files`` whole whose digest is known. ``progress`` is told the bytes that were read in all.

    Raises ModelLoadFailed for one that is not what it must be, or was when it came.
    """
    done = 0
    outcome: Outcome = "unknown"
    for path, expected in zip(files, digests, strict=True):
        if expected is None:
            continue
        before = done

        def told(here: int, before: int = before) -> None:
            nonlocal done
            done = before + here
            progress(done)

        try:
            digest = file_digest(path, told)
        except OSError as error:
            raise ModelLoadFailed(f"{path} cannot be read ({error.strerror}): check the file") from error
        if digest != expected:
            _refuse(path, digest, owner)
        outcome = "ok"
    return outcome


def _refuse(path: Path, digest: str, owner: str) -> NoReturn:
    if owner == BUNDLED_OWNER:
        raise ModelLoadFailed(
            f"{path} is not the file it must be (SHA-256 {digest}): run 'make setup', which installs it"
        )
    raise ModelLoadFailed(
        f"{path} holds other bytes than when it was imported (SHA-256 {digest}): its disk may be failing; remove it"
        " ('nibble rm') and fetch it again"
    )
