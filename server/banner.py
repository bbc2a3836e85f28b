"""What a person reads at start: where the server is, what it serves and why so, and lines to paste."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO

import typer

from model_registry.card import ModelCard
from server.version import version_of

_ANSWER_TOKENS = 100
"""For the examples: a small model may talk until its context is full."""


class Banner:
    """Writes to one stream: styled on a terminal, plain elsewhere.

    By the library of our commands, which is there already: Rich would take a twentieth of the time to ``/health``.
    """

    def __init__(self, stream: TextIO | None = None, *, is_styled: bool | None = None) -> None:
        """``is_styled`` None leaves it to the stream, and to NO_COLOR (no-color.org)."""
        self._stream = stream or sys.stdout
        self._is_styled = False if is_styled is None and os.environ.get("NO_COLOR") else is_styled

    def starting(self, url: str, preload: Sequence[str]) -> None:
        """One line at once; the rest follows when a model is ready."""
        name, address = typer.style("nibble", bold=True), typer.style(url, fg="cyan", bold=True)
        loading = f"loading {', '.join(preload)} ..." if preload else "no model to load at start"
        self._print(f"{name} {version_of()} on {address}, {loading}")

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
            self._print(typer.style(line, fg="cyan") if line else "")

    def _row(self, name: str, value: str, colour: str | None = None) -> None:
        self._print(
            f"  {typer.style(f'{name:<12}', dim=True)}{typer.style(value, fg=colour) if colour else value}"
        )

    def _print(self, line: str) -> None:
        try:
            # It flushes, as whoever started us through a pipe waits for the first line.
            typer.echo(line, self._stream, color=self._is_styled)
        except BrokenPipeError:
            # Nobody reads any more. What waits in the stream would be tried again, and fail, when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


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
