from __future__ import annotations

import io
import json
import shlex

from model_registry.card import ModelCard
from model_registry.state import ModelState
from server.banner import Banner, curl_line, sdk_lines
from tests.fakes.facts import facts

URL = "http://127.0.0.1:8000"


def card(model_id: str, state: ModelState, failure: str | None = None) -> ModelCard:
    return ModelCard(
        id=model_id,
        created=0,
        owned_by="local",
        path=f"{model_id}.gguf",
        file_bytes=2_500_000_000,
        state=state,
        failure=failure,
        facts=facts() if state == "ready" else None,
        fingerprint="fp_0",
    )


def written(*cards: ModelCard, terminal: bool = False) -> str:
    stream = io.StringIO()
    banner = Banner(stream, is_styled=terminal or None)
    banner.starting(URL, ["alpha"])
    banner.ready(URL, cards, 23_000_000_000)
    return stream.getvalue()


def test_it_tells_what_is_served_and_why_so() -> None:
    text = written(
        card("alpha", "ready"), card("beta", "registered"), card("gamma", "failed", "g.gguf is empty: mend")
    )
    first = text.splitlines()[0]
    assert first.startswith("nibble ")
    assert first.endswith(f"on {URL}, loading alpha ...")
    for expected in (
        "alpha (llama 135M Q4_1), loaded in 0.5 s",
        "8,192 tokens a request",
        "8 requests at once, KV cache partitioned",
        "2: the quota of the cgroup",
        "98 MB weights, KV cache of up to 268 MB",
        "beta (2.5 GB), loads on its first request",
        "gamma: g.gguf is empty: mend",
        "23.0 GB",
    ):
        assert expected in text
    assert "\x1b" not in text


def test_a_terminal_gets_colours_and_the_same_words() -> None:
    assert "\x1b[" in written(card("alpha", "ready"), terminal=True)


def test_the_lines_to_paste_are_never_wrapped() -> None:
    lines = written(card("alpha", "ready")).splitlines()
    assert curl_line(URL, "alpha") in lines
    assert all(line in lines for line in sdk_lines(URL, "alpha"))


def test_the_curl_line_survives_the_shell() -> None:
    words = shlex.split(curl_line(URL, 'it\'s a "model"'))
    assert words[:2] == ["curl", f"{URL}/v1/chat/completions"]
    assert json.loads(words[-1])["model"] == 'it\'s a "model"'


def test_the_snippet_is_python() -> None:
    compile("\n".join(sdk_lines(URL, 'it\'s a "model"')), "snippet", "exec")
