"""Hugging Face's hub: which files a repository has, and which of them one means.

API: huggingface.co/docs/hub/api. A file in Git LFS has its SHA-256 and size in the listing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import quote, urljoin

import httpx
import msgspec

from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile

_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_PREFERRED = ("Q4_0", "Q4_K_M", "Q4_K_S", "Q4_1", "IQ4_NL", "Q8_0")
"""Where nobody says: four bits, and the types first that have the fastest kernels on a CPU."""
_MOST_REDIRECTS = 5
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class _Lfs(msgspec.Struct):
    oid: str
    size: int


class HubFile(msgspec.Struct):
    """One line of a repository's listing."""

    path: str
    type: str = "file"
    size: int = 0
    lfs: _Lfs | None = None


class Hub:
    """One hub; the address and the token come from ``HF_ENDPOINT`` and ``HF_TOKEN``, as for its own tools."""

    def __init__(self, client: httpx.Client, endpoint: str | None = None, token: str | None = None) -> None:
        self._client = client
        self._endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        token = token or os.environ.get("HF_TOKEN")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def files(self, repository: str, wanted: str | None) -> list[RemoteFile]:
        """All parts of the one model that ``wanted`` (a quantisation, or a part of a name) means. Raises PullError."""
        if not _REPOSITORY.fullmatch(repository):
            raise PullError(f"'{repository}' is no repository: write hf:OWNER/REPO or hf:OWNER/REPO:Q4_K_M")
        return [
            self._remote(repository, file) for file in choose(repository, self._listing(repository), wanted)
        ]

    def _remote(self, repository: str, file: HubFile) -> RemoteFile:
        return RemoteFile(
            url=f"{self._endpoint}/{repository}/resolve/main/{quote(file.path)}",
            name=file.path.rpartition("/")[2],
            file_bytes=file.lfs.size if file.lfs else file.size or None,
            sha256=file.lfs.oid if file.lfs else None,
            headers=self._headers,
        )

    def _listing(self, repository: str) -> list[HubFile]:
        url: str | None = f"{self._endpoint}/api/models/{repository}/tree/main?recursive=true"
        files: list[HubFile] = []
        try:
            while url:
                response = self._page(url)
                if response.status_code in (401, 403, 404):
                    raise PullError(
                        f"the repository {repository} does not exist, or may not be read:"
                        " check its name, accept its licence on its page, and set HF_TOKEN"
                    )
                response.raise_for_status()
                files += msgspec.json.decode(response.content, type=list[HubFile])
                url = response.links.get("next", {}).get("url")
        except (httpx.HTTPError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise PullError(
                f"{self._endpoint} does not answer as a hub ({error}): try again later"
            ) from error
        return files

    def _page(self, url: str) -> httpx.Response:
        """One page of a listing. A repository that was renamed redirects; the token is for this hub alone."""
        for _ in range(_MOST_REDIRECTS):
            if not url.startswith(f"{self._endpoint}/"):
                raise PullError(
                    f"{self._endpoint} continues its listing elsewhere: give the file's own address"
                )
            response = self._client.get(url, headers=self._headers, follow_redirects=False)
            if not response.has_redirect_location:
                return response
            url = urljoin(url, response.headers["location"])
        raise PullError(f"{self._endpoint} redirects its listing without end: try again later")


def choose(repository: str, files: Sequence[HubFile], wanted: str | None) -> list[HubFile]:
    """The parts of one model, in order. Raises PullError, which names what there is."""
    models: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda each: each.path):
        if file.type == "file" and file.path.lower().endswith(".gguf") and "mmproj" not in file.path.lower():
            part = _PART.fullmatch(file.path)
            models.setdefault(part["name"] if part else file.path[:-5], []).append(file)
    if not models:
        raise PullError(
            f"the repository {repository} has no GGUF files: look for one whose name ends in -GGUF"
        )
    names = ", ".join(name.rpartition("/")[2] for name in models)
    chosen = _matching(models, wanted)
    if chosen is None:
        asked = f"'{wanted}' means none, or more than one," if wanted else "name one"
        raise PullError(f"{asked} of what {repository} has: {names}")
    parts = models[chosen]
    first = _PART.fullmatch(parts[0].path)
    if first and len(parts) != int(first["count"]):
        raise PullError(
            f"{repository} has {len(parts)} of the {int(first['count'])} parts of {chosen}: take another"
        )
    return parts


def _matching(models: dict[str, list[HubFile]], wanted: str | None) -> str | None:
    if wanted is None:
        if len(models) == 1:
            return next(iter(models))
        found = (name for kind in _PREFERRED for name in models if _is_kind(name, kind))
        return next(found, None)
    exact = [
        name for name in models if name.rpartition("/")[2].lower() == wanted.lower().removesuffix(".gguf")
    ]
    fitting = exact or [name for name in models if _is_kind(name, wanted)]
    return fitting[0] if len(fitting) == 1 else None


def _is_kind(name: str, kind: str) -> bool:
    """Whether ``kind`` stands in the name as a word of its own: Q4_K is not in Q4_K_M."""
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(kind)}(?![A-Za-z0-9_])", name, re.IGNORECASE) is not None
