"""Every kind of model that the library knows, as a tiny random one: loaded by asking, answered as the bare library
answers, streamed and whole, two at once, from the cache where there can be one, and unloaded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from openai import OpenAI

from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import eventually
from tests.engine.bare_embeddings import BareModel
from tests.engine.bare_text import BareText
from tests.fixtures.tiny_architectures import ARCHITECTURES
from tests.fixtures.tiny_gguf import Tiny, write_tiny

pytestmark = pytest.mark.model

TEXT = [name for name in ARCHITECTURES if name != "bert"]
RECURRENT = {"mamba"}
HEAD = [3 + 7 * i % 200 for i in range(60)]
"""Longer than the sliding window of the one that has one."""
COUNT = 16
CLEAR = 0.03
"""The least lead of every chosen token, in logits: what batches change is far less."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("architectures")
    for name in ARCHITECTURES:
        pooling = gguf.PoolingType.MEAN if name == "bert" else None
        write_tiny(root / f"{name}.gguf", Tiny(architecture=name, context=256, pooling=pooling))
    return root


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    home = tmp_path_factory.mktemp("home")
    arguments = ["--models-dir", str(models), "--threads", "1", "--preload", "llama", "--keep-alive-s", "0.5"]
    with LiveServer(home, *arguments) as running:
        yield running.ready()


def _asked(model: str, tail: int) -> dict[str, Any]:
    return {"model": model, "prompt": [*HEAD, tail], "max_tokens": COUNT, "temperature": 0}


def _whole(text: str) -> str:
    """Without what the limit has cut: a character that is not whole at the end is not told."""
    return text.rstrip("\ufffd")


def _clear(path: Path) -> tuple[tuple[int, int], list[str]]:
    """Two last tokens of prompts, and what the bare library writes behind each, all of it clearly likeliest."""
    bare = BareText(path)
    found: dict[str, int] = {}
    for tail in range(3, 256):
        written, lead = bare.behind([*HEAD, tail], COUNT)
        if lead >= CLEAR:
            found.setdefault(_whole(written.decode("utf-8", "replace")), tail)
        if len(found) == 2:
            break
    bare.close()
    first, second = found.values()
    return (first, second), [*found]


def _state(server: LiveServer, model: str) -> object:
    return server.http.get(f"/v1/models/{model}").json()["state"]


@pytest.mark.parametrize("model", TEXT)
def test_it_answers_as_the_bare_library_does(model: str, server: LiveServer, models: Path) -> None:
    (first, second), bare = _clear(models / f"{model}.gguf")
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    extra = {"ignore_eos": True}
    whole = client.completions.create(**_asked(model, first), extra_body=extra)
    assert _whole(whole.choices[0].text) == bare[0]
    chunks = client.completions.create(**_asked(model, first), stream=True, extra_body=extra)
    assert _whole("".join(chunk.choices[0].text for chunk in chunks)) == bare[0]
    with ThreadPoolExecutor(4) as threads:
        told = threads.map(
            lambda tail: client.completions.create(**_asked(model, tail), extra_body=extra),
            (first, second) * 2,
        )
        texts, usages = zip(*((_whole(each.choices[0].text), each.usage) for each in told), strict=True)
    assert list(texts) == bare * 2
    cached = [usage.prompt_tokens_details.cached_tokens for usage in usages]
    # A recurrent memory is one state of all that was read, and cannot be cut to a prefix: all is computed anew.
    # Of the others one at least: on a busy machine it may have been unloaded before the four came.
    assert cached == [0] * 4 if model in RECURRENT else max(cached) >= len(HEAD)
    eventually(lambda: _state(server, model), lambda state: state == "unloaded", f"{model} is unloaded")


def test_an_encoder_makes_the_vectors_of_the_bare_library(server: LiveServer, models: Path) -> None:
    bare = BareModel(models / "bert.gguf", tokens=128)
    texts = ["the cat sat", "a b c", "the cat"]
    expected = [bare.unit(bare.tokens(text)) for text in texts]
    bare.close()
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    told = client.embeddings.create(model="bert", input=texts)
    for each, vector in zip(told.data, expected, strict=True):
        np.testing.assert_allclose(each.embedding, vector, atol=1e-4)
    with ThreadPoolExecutor(2) as threads:
        again = list(threads.map(lambda text: client.embeddings.create(model="bert", input=text), texts[:2]))
    for answer, vector in zip(again, expected, strict=False):
        np.testing.assert_allclose(answer.data[0].embedding, vector, atol=1e-4)
    reply = server.http.post("/v1/completions", json=_asked("bert", 7))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    eventually(lambda: _state(server, "bert"), lambda state: state == "unloaded", "bert is unloaded")
