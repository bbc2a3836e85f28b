"""One request for the rest of a file: redirects, ranges, and what a server may get wrong about them."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import httpx

from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile, shown

_MOST_REDIRECTS = 10
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MENDS = {
    401: "it wants a token: set HF_TOKEN to one that may read it",
    403: "it may not be read: accept the model's licence on its page, and set HF_TOKEN",
    404: "there is no such file: check the address",
}


class TryAgain(Exception):
    """This time it did not work; the next it may."""


@contextmanager
def opened(
    client: httpx.Client, file: RemoteFile, offset: int, validator: str | None
) -> Generator[httpx.Response]:
    """The answer to a request for ``file`` from ``offset`` on, its body unread. Raises PullError and TryAgain.

    An answer of 200 has the whole file, whatever was asked for.
    """
    # Compressed bytes are neither those that a digest is of nor those that a range counts.
    headers = {"accept-encoding": "identity"}
    if offset and validator:
        headers |= {"range": f"bytes={offset}-", "if-range": validator}
    with _followed(client, httpx.URL(file.url), headers, file.headers) as response:
        if response.status_code in (200, 206, 416):
            yield response
            return
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            raise TryAgain(f"the server answers {response.status_code}")
        mend = _MENDS.get(response.status_code, "check the address")
        raise PullError(f"{file.address} cannot be fetched ({response.status_code}): {mend}")


def sizes(response: httpx.Response) -> tuple[int, int | None]:
    """Where the body begins, and how large the whole file is, if that is told. Raises TryAgain for nonsense."""
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None:
            raise TryAgain("the server sends a part, and does not say which")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("content-length", "")
    return 0, int(length) if length.isdecimal() else None


def strong_validator(response: httpx.Response) -> str | None:
    """An ETag by which a later request can tell that the file is the same. Weak ones cannot: RFC 9110, 13.1.5."""
    etag: str | None = response.headers.get("etag")
    return etag if etag and etag.startswith('"') else None


@contextmanager
def _followed(
    client: httpx.Client, url: httpx.URL, headers: Mapping[str, str], credentials: Mapping[str, str]
) -> Generator[httpx.Response]:
    origin = _origin(url)
    for _ in range(_MOST_REDIRECTS):
        # By hand: the credentials are for the first origin alone, and never go on without encryption.
        sent = {**headers, **credentials} if _origin(url) == origin else dict(headers)
        request = client.build_request("GET", url, headers=sent)
        response = client.send(request, stream=True, follow_redirects=False)
        try:
            if not response.has_redirect_location:
                yield response
                return
            target = url.join(response.headers["location"])
        finally:
            response.close()
        if target.scheme != "https" and url.scheme == "https":
            raise PullError(
                f"{shown(str(url))} redirects to {target.scheme}, which is not encrypted: take another address"
            )
        if target.scheme not in ("http", "https"):
            raise PullError(f"{shown(str(url))} redirects to {target.scheme}: take another address")
        url = target
    raise PullError(f"{shown(str(url))} redirects without end: take another address")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
