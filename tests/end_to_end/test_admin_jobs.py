"""Long work as jobs of a real server: followed, cancelled, and with the result that the command tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.admin import LOCAL, Admin, use
from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter
from tests.fixtures.tiny_imatrix import sums_for, write_imatrix
from tests.model_registry.caches import layouts
from tests.model_registry.pull.file_server import FileServer, Handler, file_server

pytestmark = pytest.mark.model


def stalls(handler: Handler) -> None:
    """Send a half, and no more before the test is over."""
    content = handler.server.content
    handler.head(200, len(content), etag=handler.server.etag)
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.server.release.wait(PATIENCE_S)
    with contextlib.suppress(OSError):
        handler.wfile.write(content[len(content) // 2 :])


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileServer]:
    content = write_tiny(tmp_path / "made.bin", Tiny(template="{{ messages }}")).read_bytes()
    with file_server(content) as started:
        yield started
        started.release.set()


def test_a_pull_is_a_job_that_is_followed_cancelled_and_goes_on(admin: Admin, files: FileServer) -> None:
    files.steps = [stalls]
    job = admin.post("models/pull", {"source": files.url})
    part = admin.home / "models" / ".model.gguf.part"
    eventually(lambda: part.exists() and part.stat().st_size, lambda size: size > 0, "a half is there")
    listed = json.loads(admin.nibble("jobs", "--json").stdout)
    assert [(each["id"], each["state"]) for each in listed] == [(job["id"], "running")]
    cancelled = admin.told("jobs", "cancel", str(job["id"]))
    assert cancelled["state"] in ("cancelling", "cancelled")
    files.release.set()
    followed = admin.nibble("jobs", "follow", str(job["id"]))
    assert followed.returncode == 1
    assert "cancelled" in followed.stderr
    assert part.exists(), "what was fetched stays"
    again = admin.post("models/pull", {"source": files.url})
    followed = admin.nibble("jobs", "follow", str(again["id"]), "--json")
    assert followed.returncode == 0, followed
    last = json.loads(followed.stdout.splitlines()[-1])
    assert (last["state"], last["model"], last["done"]) == ("succeeded", "model", len(files.content))
    assert files.seen[-1].get("range"), "it went on where it had ended"
    detail = admin.told("load", "model")
    assert detail["file"]["source"] == files.url
    admin.post("models/unload", {"model": "model"})
    assert "model works" in admin.nibble("jobs").stdout


def test_import_verify_and_quantize_are_jobs(admin: Admin, tmp_path: Path) -> None:
    elsewhere = write_tiny(tmp_path / "elsewhere.gguf", Tiny(width=64, seed=3))

    def done(what: str, body: dict[str, object]) -> dict[str, object]:
        job = admin.post(f"models/{what}", body)
        return admin.ended(str(job["id"]))

    assert done("import", {"path": str(elsewhere)})["model"] == "elsewhere"
    assert (admin.home / "models" / "elsewhere.gguf").is_symlink()
    assert done("verify", {"model": "elsewhere"})["state"] == "succeeded"
    new = done("quantize", {"model": "elsewhere", "to": "Q8_0"})
    assert (new["state"], new["model"]) == ("succeeded", "elsewhere-q8_0"), new
    use(admin, "elsewhere-q8_0")
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", sums_for(elsewhere))
    weighed: dict[str, object] = {"model": "elsewhere", "to": "Q4_0", "imatrix": str(imatrix)}
    assert done("quantize", weighed)["model"] == "elsewhere-q4_0"
    for other, why in (("/etc/passwd", "is no importance matrix"), ("/nothing.gguf", "there is no file")):
        failed = done("quantize", weighed | {"name": "no", "imatrix": other})
        assert why in str(failed["message"])
        assert "root" not in str(failed["message"]), "nothing of what it holds is told"
    # The same size, other bytes: what verifying is for.
    with elsewhere.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\0" * 5)
    failed = done("verify", {"model": "elsewhere"})
    assert failed["state"] == "failed"
    assert "other bytes than when it was imported" in str(failed["message"])
    for path, why in (("/etc/passwd", "no model"), ("/nothing.gguf", "")):
        failed = done("import", {"path": path})
        assert failed["state"] == "failed"
        assert why in str(failed["message"])
    pipe = tmp_path / "endless.gguf"
    os.mkfifo(pipe)
    assert done("import", {"path": str(pipe)})["state"] == "failed", "a pipe holds nobody up"
    use(admin, "one")


def test_a_tuning_is_a_job_whose_result_is_the_commands_table(admin: Admin) -> None:
    write_tiny(admin.home / "models" / "slow.gguf", Tiny(width=64, seed=11))
    eventually(lambda: {each["id"] for each in admin.listed()}, lambda ids: "slow" in ids, "it is here")
    # Long: events tell of a state that lasts 0.2 s, and a fast machine reads 200,000 tokens a second with this model.
    text = "It was late, and the lamps along the quay were lit already. " * 300
    (admin.home / "text.txt").write_text(text)
    files = sorted(path.name for path in (admin.home / "models").iterdir())
    job = admin.post("models/tune", {"model": "slow", "text": text, "types": ["q8_0", "q1_0"]})
    events = admin.events(str(job["id"]))
    ended = events[-1]
    assert (ended["state"], ended["model"]) == ("succeeded", "slow"), ended
    assert ended["message"] == "slow was measured beside Q8_0; left out: 1"
    units = {(each["unit"], str(each["message"]).split()[0]) for each in events if each["total"]}
    assert ("tokens", "measuring") in units, "how far it is is told"
    assert units <= {("tokens", "measuring"), ("bytes", "making"), ("tokens", ended["message"].split()[0])}
    assert sorted(path.name for path in (admin.home / "models").iterdir()) == files, "twins are removed"
    arguments = ("--text", "text.txt", "--types", "q8_0,q1_0", "--threads", "1")
    told: dict[str, Any] = admin.told("tune", "slow", *arguments)
    result = ended["result"]
    assert result.keys() == told.keys()
    for same in ("model", "tokens", "text_sha256", "build", "threads", "left_out"):
        assert result[same] == told[same]
    for mine, its in zip(
        (result["original"], *result["twins"]), (told["original"], *told["twins"]), strict=True
    ):
        assert mine.keys() == its.keys()
        assert (mine["quantisation"], mine["perplexity"]) == (its["quantisation"], its["perplexity"])
    followed = admin.nibble("jobs", "follow", str(job["id"]))
    assert "slow as it is, and its twins" in followed.stdout
    assert followed.stdout.endswith(f"{ended['message']}\n")


def test_a_twin_is_applied_and_gone_back_from_by_a_job(admin: Admin) -> None:
    write_tiny(admin.home / "models" / "slower.gguf", Tiny(width=64, seed=12))
    eventually(lambda: {each["id"] for each in admin.listed()}, lambda ids: "slower" in ids, "it is here")
    text = "How far is it to the harbour, and who will carry the clock? " * 6
    job = admin.post("models/tune", {"model": "slower", "text": text, "apply": "q4_0"})
    ended = admin.ended(str(job["id"]))
    assert ended["message"] == "slower is served by slower-q4_0 from now on", ended
    shown: dict[str, Any] = admin.told("show", "slower")
    assert admin.get("models/slower")["twin"] == shown["twin"]
    assert shown["twin"]["twin"] == ended["result"]["twins"][-1]
    assert admin.post("models/load", {"model": "slower"})["id"] == "slower-q4_0", (
        "at once, not at the next look"
    )
    use(admin, "slower")
    job = admin.post("models/tune", {"model": "slower", "revert": True})
    assert "serves its requests itself again" in str(admin.ended(str(job["id"]))["message"])
    assert admin.post("models/load", {"model": "slower"})["id"] == "slower"
    again = admin.ended(str(admin.post("models/tune", {"model": "slower", "revert": True})["id"]))
    assert (again["state"], "nothing to go back from" in str(again["message"])) == ("failed", True)
    short = admin.ended(str(admin.post("models/tune", {"model": "slower", "text": "short"})["id"]))
    assert "fewer than 256 tell nothing" in str(short["message"])


def test_a_tuning_that_is_cancelled_leaves_nothing_behind(admin: Admin) -> None:
    files = sorted(path.name for path in (admin.home / "models").iterdir())
    job = admin.post("models/tune", {"model": MODEL, "types": ["Q8_0"]})
    eventually(
        lambda: admin.get(f"jobs/{job['id']}"),
        lambda now: now["done"] > 0 and now["unit"] == "tokens",
        "it reads",
    )
    assert admin.told("jobs", "cancel", str(job["id"]))["state"] in ("cancelling", "cancelled")
    ended = admin.ended(str(job["id"]))
    assert (ended["state"], ended["result"]) == ("cancelled", None)
    assert sorted(path.name for path in (admin.home / "models").iterdir()) == files


def test_what_another_program_has_fetched_is_found_and_imported(admin: Admin, tmp_path: Path) -> None:
    content = write_tiny(tmp_path / "tiny.bin", Tiny(width=64, seed=5)).read_bytes()
    layouts.ollama(admin.home / "ollama", "library/sailor/1b", content, layouts.TEMPLATE)
    (found,) = admin.get("found?from=ollama")["data"]
    assert (found["from"], found["name"], found["file_bytes"]) == ("ollama", "sailor:1b", len(content))
    job = admin.post("models/import", {"from": "ollama", "name": "sailor"})
    ended = admin.ended(str(job["id"]))
    assert (ended["state"], ended["model"]) == ("succeeded", "sailor-1b"), ended
    assert (admin.home / "models" / "sailor-1b.gguf").is_symlink()
    use(admin, "sailor-1b")
    none = admin.ended(str(admin.post("models/import", {"from": "lmstudio", "name": "sailor"})["id"]))
    assert (none["state"], none["error"]["code"]) == ("failed", "invalid_request")
    assert "is in none of the caches" in str(none["message"])


def test_an_adapter_is_imported_with_the_model_that_it_is_for(admin: Admin, tmp_path: Path) -> None:
    write_tiny(admin.home / "models" / "base.gguf", Tiny(width=96))
    write_tiny(admin.home / "models" / "other.gguf", Tiny(width=96))
    eventually(lambda: {each["id"] for each in admin.listed()}, lambda ids: {"base", "other"} <= ids, "both")
    clerk = write_tiny_adapter(tmp_path / "clerk.gguf", TinyAdapter(base=Tiny(width=96)))

    def done(what: str, body: dict[str, object]) -> dict[str, object]:
        return admin.ended(str(admin.post(f"models/{what}", body)["id"]))

    unsaid = done("import", {"path": str(clerk)})
    assert unsaid["state"] == "failed"
    assert "fits several models ('base', 'other')" in str(unsaid["message"])
    ended = done("import", {"path": str(clerk), "for": "base"})
    assert (ended["state"], ended["model"]) == ("succeeded", "base:clerk"), ended
    use(admin, "base:clerk")
    shown = admin.get("models/base:clerk")
    assert shown == admin.told("show", "base:clerk")
    assert (shown["parent"], shown["adapter"], shown["failure"]) == ("base", "clerk", None)
    assert admin.get("models/base")["adapters"] == ["base:clerk"]
    ended = done("verify", {"model": "base:clerk"})
    assert (ended["state"], ended["model"]) == ("succeeded", "base:clerk"), ended
    write_tiny_adapter(clerk, TinyAdapter(base=Tiny(width=64)))
    ended = done("verify", {"model": "base:clerk"})
    assert ended["state"] == "failed"
    assert "was made for another model than 'base'" in str(ended["message"])
    refused = admin.answer("models/quantize", {"model": "base:clerk", "to": "Q8_0"})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "'base:clerk' is 'base' with an adapter: name 'base'"
    wrong = done("import", {"path": str(admin.home / "models" / "other.gguf"), "for": "base"})
    assert "names the model of a LoRA adapter" in str(wrong["message"])


def test_a_server_that_stops_ends_its_jobs_and_takes_its_key_along(tmp_path: Path, files: FileServer) -> None:
    files.steps = [stalls]
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf")
    with LiveServer(tmp_path, "--preload", "tiny", "--threads", "1", extra=LOCAL) as server:
        server.ready()
        (record,) = (tmp_path / "servers").glob("*.json")
        headers = {"authorization": f"Bearer {json.loads(record.read_text())['key']}"}
        job = server.http.post("/admin/v1/models/pull", json={"source": files.url}, headers=headers).json()
        told: list[str] = []

        def follow() -> None:
            with server.http.stream("GET", f"/admin/v1/jobs/{job['id']}/events", headers=headers) as stream:
                told.extend(line for line in stream.iter_lines() if line)

        following = threading.Thread(target=follow)
        following.start()
        part = tmp_path / "models" / ".model.gguf.part"
        eventually(lambda: part.exists() and part.stat().st_size, lambda size: size > 0, "a half is there")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        following.join()
        assert json.loads(told[-1].removeprefix("data: "))["state"] == "cancelled"
        assert part.stat().st_size == len(files.content) // 2, "the next pull goes on from there"
        assert not list((tmp_path / "servers").iterdir())


def test_the_bundled_model_can_be_verified(admin: Admin) -> None:
    job = admin.post("models/verify", {"model": MODEL})
    assert admin.ended(str(job["id"]))["message"] == f"{MODEL} works"
