"""One recommended model."""

from __future__ import annotations

from typing import Annotated

import msgspec

from model_registry.memory import estimate_bytes

_Word = Annotated[str, msgspec.Meta(min_length=1)]


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the list says of it. Sizes are those that the publisher's page shows, rounded: estimates."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    name: _Word
    source: _Word
    """As ``nibble pull`` takes it; the files it means are the same."""
    quantisation: _Word
    file_bytes: Annotated[int, msgspec.Meta(ge=1)]
    licence: _Word
    """The publisher's word for it; a licence that restricts use is said to in ``notes``."""
    good_at: _Word
    context: Annotated[int, msgspec.Meta(ge=1)]
    """Tokens that it was trained for."""
    family: str = ""
    """The prompt family, by the name of a built-in chat template, which pulling it sets where its file has none.

    Empty for a model that does not chat, and where only the file's own template will do.
    """
    verified: bool = True
    """Whether repository and file were seen on the publisher's page; an unseen one may not be there."""
    notes: str = ""

    @property
    def memory_bytes(self) -> int:
        """What it needs to be served, by the estimate that decides about loading."""
        return estimate_bytes(self.file_bytes, None)


class ListedEntry(CatalogEntry, frozen=True, kw_only=True):
    """The same as programs are told of it, with what the list does not say itself."""

    memory_bytes: int
    """What it needs to be served, by the estimate that decides about loading."""
