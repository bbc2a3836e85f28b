"""Which files of a repository a name means; and a whole pull from a hub of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

import httpx
import msgspec
import pytest

from model_registry.pull.hub import Hub, HubFile, choose
from model_registry.pull.origin import remote_files
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile, shown
from tests.model_registry.pull.file_server import FileServer, Handler, Step, file_server, redirects_to

FILES = [
    HubFile(path)
    for path in (
        "README.md",
        "tiny-Q8_0.gguf",
        "tiny-Q4_K_M.gguf",
        "tiny-Q4_K_S.gguf",
        "mmproj-tiny-f16.gguf",
        "big/tiny-f16-00002-of-00002.gguf",
        "big/tiny-f16-00001-of-00002.gguf",
    )
]


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (None, ["tiny-Q4_K_M.gguf"]),
        ("q8_0", ["tiny-Q8_0.gguf"]),
        ("Q4_K_S", ["tiny-Q4_K_S.gguf"]),
        ("tiny-q8_0.gguf", ["tiny-Q8_0.gguf"]),
        ("F16", ["big/tiny-f16-00001-of-00002.gguf", "big/tiny-f16-00002-of-00002.gguf"]),
    ],
)
def test_a_name_means_the_parts_of_one_model(wanted: str | None, paths: list[str]) -> None:
    assert [file.path for file in choose("o/r", FILES, wanted)] == paths


@pytest.mark.parametrize("wanted", ["Q4_K", "Q5_0", "tiny"])
def test_what_means_none_or_several_is_told_what_there_is(wanted: str) -> None:
    with pytest.raises(PullError, match="tiny-Q4_K_M, tiny-Q4_K_S, tiny-Q8_0"):
        choose("o/r", FILES, wanted)


def test_a_repository_without_models_and_one_that_lacks_a_part() -> None:
    with pytest.raises(PullError, match="no GGUF files"):
        choose("o/r", FILES[:1], None)
    with pytest.raises(PullError, match="1 of the 2 parts"):
        choose("o/r", FILES[-1:], None)


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(b"") as started:
        yield started


def _listing(*lines: dict[str, object], following: str | None = None) -> Step:
    def answer(handler: Handler) -> None:
        body = msgspec.json.encode(lines)
        link = {"link": f'<{following}>; rel="next"'} if following else {}
        handler.head(200, len(body), **link)
        handler.wfile.write(body)

    return answer


def test_a_listing_of_several_pages_tells_size_digest_and_address(server: FileServer) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    endpoint = server.url.rpartition("/")[0]
    server.steps = [
        _listing({"type": "file", "path": "README.md", "size": 3}, following=f"{endpoint}/next"),
        _listing({"type": "file", "path": "a b-Q4_0.gguf", "size": 9, "lfs": {"oid": digest, "size": 9}}),
    ]
    with httpx.Client(trust_env=False) as client:
        files = remote_files("hf:owner/repo", client, Hub(client, endpoint, "secret"))
    assert [(file.name, file.file_bytes, file.sha256) for file in files] == [("a b-Q4_0.gguf", 9, digest)]
    assert files[0].url == f"{endpoint}/owner/repo/resolve/main/a%20b-Q4_0.gguf"
    assert files[0].headers == {"authorization": "Bearer secret"}
    assert server.seen[0][":path"] == "/api/models/owner/repo/tree/main?recursive=true"


@pytest.mark.parametrize(
    "text", ["", "model", "hf:", "hf:repo", "hf:a/b/c", "ftp://x/y.gguf", "https://x/", "https://x/y.zip"]
)
def test_what_cannot_be_pulled(text: str) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(PullError):
        remote_files(text, client)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../m.gguf",
        "/etc/m.gguf",
        "a\\m.gguf",
        "a\0.gguf",
        "a\n.gguf",
        "\x1b[2J.gguf",
        ".gguf",
        "x" * 201,
    ],
)
def test_a_name_that_could_lead_elsewhere_is_none(name: str) -> None:
    with pytest.raises(PullError, match="no name for a file"):
        RemoteFile(url="https://hub.example/m.gguf", name=name)


@pytest.mark.parametrize(
    "digest", ["", "0" * 63, "0" * 65, "A" * 64, "sha256:" + "0" * 64, "0" * 63 + "\n", "٠" * 64]
)
def test_a_digest_is_one_as_soon_as_it_is_read(digest: str) -> None:
    with pytest.raises(PullError, match="no SHA-256"):
        RemoteFile(url="https://hub.example/m.gguf", name="m.gguf", sha256=digest)


@pytest.mark.parametrize("path", ["%2e%2e%2f%2e%2e%2fetc%2fm.gguf", "..%2fm.gguf", "a/%2fm.gguf"])
def test_an_encoded_path_leads_nowhere(path: str) -> None:
    with httpx.Client(trust_env=False) as client:
        (file,) = remote_files(f"https://x/{path}", client)
    assert file.name == "m.gguf"


def test_what_is_secret_in_an_address_is_sent_and_neither_shown_nor_kept() -> None:
    text = "https://us%40er:pa%20ss@x.example:8443/a/m.gguf?token=hidden#part"
    with httpx.Client(trust_env=False) as client:
        (file,) = remote_files(text, client)
    assert file.url == "https://x.example:8443/a/m.gguf?token=hidden#part"
    assert file.headers == {"authorization": "Basic dXNAZXI6cGEgc3M="}
    assert shown(text) == "https://x.example:8443/a/m.gguf"
    assert shown("hf:owner/repo:Q4_0") == "hf:owner/repo:Q4_0"
    with httpx.Client(trust_env=False) as client, pytest.raises(PullError) as told:
        remote_files("https://user:hunter2@x/m.zip?token=hidden", client)
    assert "hunter2" not in str(told.value)
    assert "hidden" not in str(told.value)


def test_a_hub_that_does_not_know_the_repository(server: FileServer) -> None:
    server.steps = [lambda handler: handler.head(404, 0)]
    with httpx.Client(trust_env=False) as client, pytest.raises(PullError, match="does not exist"):
        Hub(client, server.url.rpartition("/")[0]).files("o/r", None)


def test_a_repository_that_was_renamed_is_followed_within_its_hub(server: FileServer) -> None:
    endpoint = server.url.rpartition("/")[0]
    line: dict[str, object] = {"path": "tiny-Q4_0.gguf", "size": 9}
    server.steps = [redirects_to("/api/models/new/name/tree/main?recursive=true"), _listing(line)]
    with httpx.Client(trust_env=False) as client:
        (file,) = Hub(client, endpoint, "secret").files("old/name", None)
        assert file.name == "tiny-Q4_0.gguf"
        assert server.seen[1]["authorization"] == "Bearer secret"
        with file_server(b"") as other:
            for step in (redirects_to(other.url), _listing(line, following=other.url)):
                server.steps = [step]
                with pytest.raises(PullError, match="continues its listing elsewhere"):
                    Hub(client, endpoint, "secret").files("old/name", None)
            assert other.seen == [], "the token stays"
        server.steps = [redirects_to("/api/again")] * 9
        with pytest.raises(PullError, match="without end"):
            Hub(client, endpoint).files("old/name", None)
