"""A model with LoRA adapters over the wire: each id is answered as it should be, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import eventually
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter

pytestmark = pytest.mark.model

IDS = ("tiny", "tiny:clerk", "tiny:poet")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    home = tmp_path_factory.mktemp("adapted")
    (home / "some").mkdir()
    write_tiny(home / "some" / "tiny.gguf", Tiny(context=256))
    arguments = ["--models-dir", str(home / "some"), "--threads", "1"]
    for seed, name in enumerate(("poet", "clerk"), start=1):
        path = write_tiny_adapter(home / f"{name}.gguf", TinyAdapter(seed=seed))
        arguments += ["--adapters", f"tiny:{name}={path}"]
    with LiveServer(home, *arguments) as running:
        yield running.ready()


def _complete(server: LiveServer, model: str, **fields: Any) -> Any:
    asked = {"model": model, "prompt": "a prompt of some length that is the same for all", "max_tokens": 30}
    answer = server.http.post("/v1/completions", json=asked | {"temperature": 0, "ignore_eos": True} | fields)
    return answer.json()


def test_each_id_is_listed_with_its_model(adapted: LiveServer) -> None:
    listed = {model["id"]: model for model in adapted.http.get("/v1/models").json()["data"]}
    assert {model_id: listed[model_id]["parent"] for model_id in IDS} == dict(
        zip(IDS, (None, "tiny", "tiny"), strict=True)
    )
    assert adapted.http.get("/v1/models/tiny:poet").json() == listed["tiny:poet"]
    assert {listed[model_id]["state"] for model_id in IDS} == {"ready"}


def test_each_id_answers_as_itself_alone_and_beside_the_others(adapted: LiveServer) -> None:
    alone = {model: _complete(adapted, model) for model in IDS}
    texts = {model: answer["choices"][0]["text"] for model, answer in alone.items()}
    assert len(set(texts.values())) == len(IDS)
    assert {model: answer["model"] for model, answer in alone.items()} == {model: model for model in IDS}
    assert len({answer["system_fingerprint"] for answer in alone.values()}) == len(IDS)
    with ThreadPoolExecutor(9) as threads:
        answers = list(threads.map(lambda model: _complete(adapted, model), IDS * 3))
    assert [answer["choices"][0]["text"] for answer in answers] == [texts[model] for model in IDS * 3]


def test_an_adapter_that_is_none_is_a_404_that_names_the_nearest(adapted: LiveServer) -> None:
    error = _complete(adapted, "tiny:poem")["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'tiny:poet'" in error["message"]


def _lora(server: LiveServer, *uses: tuple[str | int, float], model: str = "tiny") -> str:
    answer = _complete(server, model, lora=[{"id": name, "scale": scale} for name, scale in uses])
    text: str = answer["choices"][0]["text"]
    return text


def test_a_request_names_its_adapters_and_each_answers_as_alone(adapted: LiveServer) -> None:
    texts = {model: _complete(adapted, model)["choices"][0]["text"] for model in IDS}
    assert _lora(adapted, ("poet", 1.0)) == _lora(adapted, (1, 1.0)) == texts["tiny:poet"]
    assert _lora(adapted, ("tiny:clerk", 1.0)) == _lora(adapted, (0, 1.0)) == texts["tiny:clerk"]
    assert _lora(adapted, ("poet", 0.0)) == _lora(adapted, ("poet", 0.0), model="tiny:poet") == texts["tiny"]
    sets = ((("poet", 1.0), ("clerk", 1.0)), (("poet", 0.5),), (("clerk", 1.0),), (("poet", -1.0),))
    alone = [_lora(adapted, *uses) for uses in sets]
    assert len({*alone, texts["tiny"]}) == 5
    assert _lora(adapted, ("clerk", 1.0), model="tiny:poet") == alone[0]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda uses: _lora(adapted, *uses), sets * 2)) == alone * 2


def test_a_request_that_names_none_of_the_models_adapters_is_a_400(adapted: LiveServer) -> None:
    error = _complete(adapted, "tiny", lora=[{"id": "painter"}])["error"]
    assert (error["param"], error["type"]) == ("lora[0].id", "invalid_request_error")
    assert "it has: 'clerk', 'poet'" in error["message"]


def test_an_adapter_is_streamed_as_it_is_told_whole(adapted: LiveServer) -> None:
    client = OpenAI(base_url=f"{adapted.url}/v1", api_key="none")
    asked: dict[str, Any] = {"model": "tiny", "prompt": "a prompt", "max_tokens": 20, "temperature": 0}
    extra = {"lora": [{"id": "poet", "scale": 0.5}], "ignore_eos": True}
    whole = client.completions.create(**asked, extra_body=extra)
    chunks = client.completions.create(**asked, stream=True, extra_body=extra)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_a_file_that_is_copied_into_the_directory_of_a_running_server_is_served(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    write_tiny(tmp_path / "some" / "tiny.gguf", Tiny(context=256))
    with LiveServer(tmp_path, "--models-dir", str(tmp_path / "some"), "--threads", "1") as server:
        server.ready()
        bare = _complete(server, "tiny")["choices"][0]["text"]
        workers = server.workers()
        new = write_tiny_adapter(tmp_path / "poet.part", TinyAdapter(seed=1))
        new.rename(tmp_path / "some" / "poet.gguf")
        eventually(
            lambda: server.status("/v1/models/tiny:poet"),
            lambda status: status == 200,
            "tiny:poet has come or gone",
        )
        told = _complete(server, "tiny:poet")["choices"][0]["text"]
        assert told != bare
        assert server.workers() == workers, "nothing was loaded anew"
        # One that cannot be used is listed as failed, and harms nothing.
        write_tiny_adapter(tmp_path / "nan.part", TinyAdapter(weight=float("nan"))).rename(
            tmp_path / "some" / "nan.gguf"
        )
        eventually(
            lambda: server.http.get("/v1/models/tiny:nan").json().get("state"),
            lambda state: state == "failed",
            "it has failed",
        )
        error = _complete(server, "tiny:nan")["error"]
        assert (error["code"], "computes no numbers" in error["message"]) == ("model_load_failed", True)
        assert _complete(server, "tiny:poet")["choices"][0]["text"] == told
        (tmp_path / "some" / "poet.gguf").unlink()
        eventually(
            lambda: server.status("/v1/models/tiny:poet"),
            lambda status: status == 404,
            "tiny:poet has come or gone",
        )
        assert _complete(server, "tiny")["choices"][0]["text"] == bare
        assert server.workers() == workers


def test_an_adapter_that_memory_has_no_room_for_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """Beside its running model, which goes on."""
    (tmp_path / "some").mkdir()
    write_tiny(tmp_path / "some" / "tiny.gguf", Tiny(context=256))
    budget = ("--memory-budget", "90MB", "--kv-budget", "8MiB")
    with LiveServer(tmp_path, "--models-dir", str(tmp_path / "some"), "--threads", "1", *budget) as server:
        server.ready()
        bare = _complete(server, "tiny")["choices"][0]["text"]
        large = write_tiny_adapter(tmp_path / "large.part", TinyAdapter(rank=65_536))
        assert large.stat().st_size > 90e6
        large.rename(tmp_path / "some" / "large.gguf")
        eventually(
            lambda: server.status("/v1/models/tiny:large"), lambda status: status == 200, "it is noticed"
        )
        answer = server.post("/v1/completions", {"model": "tiny:large", "prompt": "a", "max_tokens": 1})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "insufficient_memory"), error
        assert re.search(r"needs about \d+ MB", error["message"]), error
        assert _complete(server, "tiny")["choices"][0]["text"] == bare


def test_a_wrong_adapter_fails_its_model_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    model = write_tiny(tmp_path / "some" / "tiny.gguf")
    with LiveServer(
        tmp_path, "--models-dir", str(model.parent), "--preload", "tiny", "--adapters", f"tiny:poet={model}"
    ) as running:
        error = _complete(running, "tiny:poet")["error"]
        assert error["code"] == "model_load_failed"
        assert "no LoRA adapter" in error["message"].replace("\n", " ")
