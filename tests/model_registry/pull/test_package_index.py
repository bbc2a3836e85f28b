"""Which wheel a name means, and what an index may answer."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Generator
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.pull.package_index import IndexFile, PackageIndex, choose_wheel, index_address
from model_registry.pull.pull_error import PullError
from tests.model_registry.pull.file_server import FileServer, Handler, Step, file_server

DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(b"") as started:
        yield started


def names(*filenames: str, yanked: str = "") -> list[IndexFile]:
    return [IndexFile(filename=name, url=name, yanked=name == yanked) for name in filenames]


FILES = names(
    "tiny-0.9.tar.gz",
    "tiny-0.9-py3-none-any.whl",
    "tiny-0.10-cp312-cp312-linux_x86_64.whl",
    "tiny-0.10-py3-none-any.whl",
    "tiny-0.11-py3-none-any.whl",
    "tiny-1.0rc1-py3-none-any.whl",
    "../../tiny-9.0-py3-none-any.whl",
    yanked="tiny-0.11-py3-none-any.whl",
)


@pytest.mark.parametrize(
    ("version", "filename"),
    [
        (None, "tiny-0.10-py3-none-any.whl"),
        ("0.9", "tiny-0.9-py3-none-any.whl"),
        ("0.9.0", "tiny-0.9-py3-none-any.whl"),
        ("0.11", "tiny-0.11-py3-none-any.whl"),
        ("1.0RC1", "tiny-1.0rc1-py3-none-any.whl"),
    ],
)
def test_the_newest_release_or_the_version_asked_for(version: str | None, filename: str) -> None:
    assert choose_wheel("tiny", FILES, version).filename == filename


def test_what_there_is_not_is_told_with_what_there_is() -> None:
    with pytest.raises(PullError, match=r"no wheel of version 2: it has 0.9, 0.10, 0.11, 1.0rc1"):
        choose_wheel("tiny", FILES, "2")
    with pytest.raises(PullError, match="has no wheels"):
        choose_wheel("tiny", FILES[:1], None)


def page(body: bytes, kind: str, status: int = 200) -> Step:
    def answer(handler: Handler) -> None:
        handler.head(status, len(body), content_type=kind)
        handler.wfile.write(body)

    return answer


JSON = page(
    msgspec.json.encode(
        {
            "meta": {"api-version": "1.1"},
            "files": [
                {
                    "filename": "tiny-1.0-py3-none-any.whl",
                    "url": "/files/tiny-1.0-py3-none-any.whl",
                    "hashes": {"sha256": DIGEST},
                    "size": 7,
                    "yanked": False,
                }
            ],
        }
    ),
    "application/vnd.pypi.simple.v1+json",
)
HTML = page(
    b"<html><body><a href='../../files/tiny-1.0-py3-none-any.whl#sha256=%s' data-requires-python='&gt;=3'>tiny</a>"
    b'<A HREF="../../files/tiny-2.0-py3-none-any.whl#sha256=00" data-yanked="broken">tiny</A></body></html>'
    % DIGEST.encode(),
    "text/html",
)


@pytest.mark.parametrize(("answer", "size"), [(JSON, 7), (HTML, None)], ids=["json", "html"])
def test_a_page_tells_address_and_digest(server: FileServer, answer: Step, size: int | None) -> None:
    server.steps = [answer]
    base = server.url.rpartition("/")[0]
    with httpx.Client(trust_env=False) as client:
        file = PackageIndex(client, f"{base.replace('//', '//me:pass@')}/simple/").wheel("Tiny==1.0")
    assert (file.url, file.sha256, file.file_bytes) == (
        f"{base}/files/tiny-1.0-py3-none-any.whl",
        DIGEST,
        size,
    )
    assert file.is_package
    assert file.source == "pypi:tiny==1.0"
    assert server.seen[0][":path"] == "/simple/tiny/"
    basic = f"Basic {base64.b64encode(b'me:pass').decode()}"
    assert server.seen[0]["authorization"] == basic
    assert file.headers == {"authorization": basic}, "the index's own files want the same"


def test_the_credentials_are_for_the_index_alone(server: FileServer) -> None:
    elsewhere = {"filename": "tiny-1.0-py3-none-any.whl", "url": "http://elsewhere.invalid/t.whl"}
    body = msgspec.json.encode({"files": [{**elsewhere, "hashes": {"sha256": DIGEST}}]})
    server.steps = [page(body, "application/json")]
    with httpx.Client(trust_env=False) as client:
        address = server.url.rpartition("/")[0].replace("//", "//me:pass@")
        assert PackageIndex(client, address).wheel("tiny").headers == {}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(b"", "text/html", 404), "has no package 'tiny'"),
        (page(b"", "text/html", 500), "does not answer as one"),
        (page(b"[1]", "application/json"), "does not answer as one"),
        (page(b"<html>log in</html>", "text/html"), "has no wheels"),
        (page(b"<a href='tiny-1.0-py3-none-any.whl'>", "text/html"), "gives no SHA-256"),
    ],
)
def test_what_is_no_index_is_told(server: FileServer, answer: Step, words: str) -> None:
    server.steps = [answer]
    with httpx.Client(trust_env=False) as client, pytest.raises(PullError, match=words):
        PackageIndex(client, server.url.rpartition("/")[0]).wheel("tiny")


def test_an_index_that_leaves_encryption_is_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"location": "http://index.example/tiny/"})
        return httpx.Response(200, json={"files": []}, headers={"content-type": "application/json"})

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        pytest.raises(PullError, match="redirects to what is not encrypted"),
    ):
        PackageIndex(client, "https://index.example").wheel("tiny")


_PAGES = st.text(alphabet="<>/a hrefdt-ynked='\"#=sh256:.whl0?[]&;\n", max_size=200) | st.text(max_size=50)


@settings(deadline=None)  # a loaded machine's disk has none
@given(text=_PAGES)
def test_any_page_is_a_wheel_or_a_typed_error(text: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html=f"<a href='tiny-1.0-py3-none-any.whl#sha256={DIGEST}'>{text}")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client, contextlib.suppress(PullError):
        assert PackageIndex(client, "https://index.example").wheel("tiny").is_package


@pytest.mark.parametrize("text", ["", "a b", "../x", "tiny=1", "tiny==", "tiny==1;x"])
def test_what_is_no_package(text: str) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(PullError, match="is no package"):
        PackageIndex(client, "http://127.0.0.1:9").wheel(text)


def test_the_address_is_pips(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://mirror.example/simple\n")
    broken = tmp_path / "broken.conf"
    broken.write_text("index-url without a section")
    assert index_address({"PIP_INDEX_URL": "https://a.example"}, [config]) == "https://a.example"
    assert index_address({}, [broken, config]) == "https://mirror.example/simple"
    assert index_address({}, []) == "https://pypi.org/simple"
    assert index_address({"PIP_CONFIG_FILE": "/dev/null"}) == "https://pypi.org/simple"
