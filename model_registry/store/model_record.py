"""What the store keeps of one model."""

from __future__ import annotations

import msgspec

from engine.config import Capability
from model_registry.model_settings import ModelSettings
from model_registry.store.twin_record import TwinRecord


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an import found out about a file. Holds for as long as path, size and time are the file's."""

    path: str
    file_bytes: int
    """All parts of a split model together."""
    mtime_ns: int
    sha256: str | None = None
    """Of the file, in hex; None for a split model, and where nobody has computed it."""
    source: str = ""
    """Where it was fetched from, such as ``hf:OWNER/REPO``; empty for a file that somebody put there."""
    parent: str = ""
    """The id of the model that it was quantised from; empty for one that was not made here."""
    licence: str = ""
    quantisation: str = ""
    architecture: str = ""
    parameters: int = 0
    context: int = 0
    """Tokens that the model was trained for; 0 where its file does not say."""
    template_sha256: str = ""
    """Of its chat template; empty where it has none."""
    capabilities: tuple[Capability, ...] = ()

    def is_of(self, file_bytes: int, mtime_ns: int) -> bool:
        """Whether a file of that size and time of change is the one that this tells of. Its path may be spelt anew."""
        return (self.file_bytes, self.mtime_ns) == (file_bytes, mtime_ns)

    def with_past_of(self, former: FileRecord | None) -> FileRecord:
        """This, with what no file tells, where ``former`` tells of the same bytes and this says nothing: where they
        are from, and on what terms.
        """
        if former is None or not self._is_same_as(former):
            return self
        return msgspec.structs.replace(
            self,
            source=self.source or former.source,
            parent=self.parent or former.parent,
            licence=self.licence or former.licence,
        )

    def _is_same_as(self, former: FileRecord) -> bool:
        # A digest tells more than a time of change: a copy has another, and a failing disk none.
        if self.sha256 is not None and former.sha256 is not None:
            return self.sha256 == former.sha256
        return former.is_of(self.file_bytes, self.mtime_ns)


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One model in the store."""

    id: str
    aliases: tuple[str, ...] = ()
    """Other names that requests may use, sorted."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    settings: ModelSettings = ModelSettings()
    file: FileRecord | None = None
    """None until the file was imported."""
    twin: TwinRecord | None = None
    """The model that serves its requests in its place; None while it serves them itself."""
