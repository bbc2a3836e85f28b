"""What a person reads at start: where the server is, what it serves and why so, and lines to paste."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from model_registry.card import ModelCard
from server.version import version_of

_ANSWER_TOKENS = 100
"""For the examples: a small model may talk until its context is full."""


class PatientConsole(Console):
    """A console that goes on in silence when nobody reads it any more; Rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()


class Banner:
    """Writes to one console: styled on a terminal, plain elsewhere, never wrapped, so lines can be pasted."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or PatientConsole(soft_wrap=True, highlight=False)

    def starting(self, url: str, preload: Sequence[str]) -> None:
        """One line at once; the rest follows when a model is ready."""
        line = Text.assemble(("nibble ", "bold"), version_of(), " on ", (url, "bold cyan"))
        line.append(f", loading {', '.join(preload)} ..." if preload else ", no model to load at start")
        self._print(line)

    def ready(self, url: str, cards: Sequence[ModelCard], free_bytes: int | None) -> None:
        """Everything about the models that are loaded, and how to talk to the first of them."""
        loaded = [card for card in cards if card.facts is not None and card.state == "ready"]
        for card in loaded:
            if card.adapter is None:
                self._model(card)
            else:
                self._row("adapter", card.id, "green")
        for card in cards:
            if card.adapter is not None:
                continue
            if card.state in ("registered", "loading"):
                self._row("also", f"{card.id} ({_megabytes(card.file_bytes)}), loads on its first request")
            elif card.state == "failed":
                self._row("failed", f"{card.id}: {card.failure}", "red")
        if free_bytes is not None:
            self._row("free memory", _megabytes(free_bytes))
        if loaded:
            self._snippets(url, loaded[0].id)

    def _model(self, card: ModelCard) -> None:
        if (facts := card.facts) is None:
            return
        self._row("model", f"{card.id} ({facts.description}), loaded in {facts.load_s:.1f} s", "green")
        trained = f" of {facts.context_trained:,} trained" if facts.context != facts.context_trained else ""
        self._row("context", f"{facts.context:,} tokens a request{trained}")
        self._row("parallel", f"{facts.parallel} requests at once, KV cache {facts.kv_layout}")
        self._row("threads", f"{facts.threads}: {facts.threads_reason}")
        # Taken page by page, as requests write it.
        kv_cache = f"KV cache of up to {_megabytes(facts.kv_bytes)}"
        self._row("memory", f"{_megabytes(facts.file_bytes)} weights, {kv_cache}")
        self._row("backend", facts.backend)

    def _snippets(self, url: str, model_id: str) -> None:
        for line in ("", curl_line(url, model_id), "", *sdk_lines(url, model_id), ""):
            self._print(Text(line, style="cyan"))

    def _row(self, name: str, value: str, style: str = "") -> None:
        self._print(Text.assemble((f"  {name:<12}", "dim"), (value, style)))

    def _print(self, line: Text) -> None:
        # Flushed, because whoever started us through a pipe waits for the first line.
        self._console.print(line)
        try:
            self._console.file.flush()
        except BrokenPipeError:
            self._console.on_broken_pipe()


def curl_line(url: str, model_id: str) -> str:
    """A shell command that asks the model."""
    messages = [{"role": "user", "content": "Hello!"}]
    body = json.dumps({"model": model_id, "max_tokens": _ANSWER_TOKENS, "messages": messages})
    return f"curl {url}/v1/chat/completions -H 'content-type: application/json' -d {shlex.quote(body)}"


def sdk_lines(url: str, model_id: str) -> list[str]:
    """A Python program that asks the model through OpenAI's own client."""
    return [
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{url}/v1", api_key="none")',
        f"answer = client.chat.completions.create(model={json.dumps(model_id)}, max_tokens={_ANSWER_TOKENS}, "
        'messages=[{"role": "user", "content": "Hello!"}])',
        "print(answer.choices[0].message.content)",
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
