"""All that is known of a model's file, whoever found it out: what every list of models and every answer tells of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.config import Capability
from model_registry.model import Model
from model_registry.sources.header_facts import HeaderFacts
from model_registry.store.model_record import FileRecord


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Names are those of the store. What is empty or 0 nobody knows."""

    known_by: Literal["trial", "header"] | None
    """How: an import has tried the file out, or its header says so; null where it cannot be read."""
    path: str
    file_bytes: int
    """All parts of a split model together."""
    mtime_ns: int
    """0 where the file never changes."""
    sha256: str | None
    """What it must be, in hex; null for a split model, and where nobody has computed it."""
    source: str
    """Where it is from, such as ``hf:OWNER/REPO``; empty for a file that somebody put there."""
    parent: str
    """The id of the model that it was quantised from; empty for one that was not made here."""
    licence: str
    quantisation: str
    """As ``nibble quantize --to`` has it."""
    architecture: str
    parameters: int
    context: int
    """Tokens that the model was trained for."""
    template_sha256: str
    """Of its chat template; empty where it has none."""
    capabilities: tuple[Capability, ...]
    """What it can be asked for, as far as the file decides that. What it is loaded for, its settings decide as well."""


def file_facts(model: Model) -> FileFacts:
    """What an import has recorded of the file as it is now, and where that says nothing, what its header says."""
    found, record = model.found, model.file_record
    header = found.header or HeaderFacts()
    digests = model.digests()
    known = record or FileRecord(path=str(found.path), file_bytes=found.file_bytes, mtime_ns=found.changed_ns)
    return FileFacts(
        known_by="trial" if record else "header" if found.header else None,
        path=str(found.path),
        file_bytes=found.file_bytes,
        mtime_ns=found.changed_ns,
        sha256=digests[0] if len(digests) == 1 else None,
        source=known.source or found.origin,
        parent=known.parent,
        licence=known.licence or header.licence,
        # The one fact that records spell otherwise: those of former versions have llama.cpp's words for the same entry
        # of the header, such as "Q4_K - Medium".
        quantisation=header.quantisation or known.quantisation,
        architecture=known.architecture or header.architecture,
        parameters=known.parameters or header.parameters,
        context=known.context or header.context,
        # An empty one is a finding of a trial: there is none.
        template_sha256=known.template_sha256 if record else header.template_sha256,
        capabilities=known.capabilities or header.capabilities,
    )
