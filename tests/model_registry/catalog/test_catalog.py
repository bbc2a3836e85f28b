from __future__ import annotations

from collections.abc import Generator

import httpx
import msgspec
import pytest

from engine.template_choice import template_names
from model_registry.catalog.catalog import catalog, nearest, parse
from model_registry.catalog.catalog_entry import CatalogEntry
from model_registry.pull.hub import Hub
from model_registry.pull.origin import remote_files
from model_registry.pull.pull_error import PullError
from tests.model_registry.pull.file_server import FileServer, Handler, file_server

LINEAGE = ("llama-7b", "alpaca-7b", "vicuna-7b-v1.5", "koala-13b", "gpt4all-falcon", "pythia-12b")
ENTRIES = list(catalog().values())


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(b"") as started:
        yield started


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_says_what_a_person_wants_to_know(entry: CatalogEntry) -> None:
    assert entry.family == "" or entry.family in template_names()
    assert entry.licence not in ("", "other", "unknown")
    assert entry.memory_bytes > entry.file_bytes > 10_000_000
    assert entry.quantisation.startswith(("Q4", "IQ4", "Q8"))
    assert entry.source.startswith(("hf:", "pypi:", "https://"))
    # A restricted licence is said to be one.
    if "research" in entry.licence.lower():
        assert "commercial" in entry.notes


def test_the_lineage_and_the_small_ones_are_there() -> None:
    assert set(LINEAGE) < set(catalog())
    assert any(entry.file_bytes < 300_000_000 for entry in ENTRIES)
    assert nearest("qwen-2.5-0.5b")[0] == "qwen2.5-0.5b-instruct"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[models]]\nid = 'a'\n", "missing required field"),
        ("[[models]]\nid = 'A b'\n", "id"),
        ("[[models]]\nid = 'a'\nsha256 = 'invented'\n", "unknown field"),
    ],
)
def test_what_is_no_entry_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_an_id_may_be_there_once() -> None:
    entry = ENTRIES[0]
    fields = "\n".join(
        f"{name} = {msgspec.json.encode(getattr(entry, name)).decode()}" for name in entry.__struct_fields__
    )
    with pytest.raises(ValueError, match=f"'{entry.id}' is there twice"):
        parse(f"[[models]]\n{fields}\n[[models]]\n{fields}\n")


def _hub_of(entry: CatalogEntry) -> list[dict[str, object]]:
    """A listing in which the wanted file is one of several."""
    wanted = entry.source.removeprefix("hf:").partition(":")[2]
    is_name = "." in wanted or len(wanted) > 8
    name = f"{wanted}.gguf" if is_name else f"model-{wanted}.gguf"
    others = ("model-Q2_K.gguf", "model-f16.gguf", "README.md")
    return [{"path": path, "size": 1} for path in (name, *others)]


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.source.startswith("hf:")], ids=lambda entry: entry.id
)
def test_an_id_means_the_files_of_its_source(server: FileServer, entry: CatalogEntry) -> None:
    def answer(handler: Handler) -> None:
        body = msgspec.json.encode(_hub_of(entry))
        handler.head(200, len(body))
        handler.wfile.write(body)

    server.steps = [answer, answer]
    with httpx.Client(trust_env=False) as client:
        hub = Hub(client, server.url.rpartition("/")[0])
        files = remote_files(entry.id, client, hub)
        assert files == remote_files(entry.source, client, hub)
    assert len(files) == 1
    assert server.seen[0][":path"].startswith(f"/api/models/{entry.source[3:].partition(':')[0]}/")


def test_an_unknown_word_names_the_nearest() -> None:
    with httpx.Client(trust_env=False) as client:
        with pytest.raises(PullError, match=r"did you mean .*smollm2-135m-instruct"):
            remote_files("smollm2-135m", client)
        with pytest.raises(PullError, match="write an id of 'nibble catalog'"):
            remote_files("zzzzzz", client)
