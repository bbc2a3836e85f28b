"""A model's chat template as its worker holds it: in a process that can be killed when a rendering runs away."""

from __future__ import annotations

import signal
import threading

import msgspec

from engine.chat_template import RenderedText
from engine.errors import InvalidRequest
from engine.helper_process import HelperProcess
from engine.prompt import ChatMessage, ChatPrompt
from engine.template_renderer import CPU_S, Rendering, TemplateSource

_PATIENCE_S = 10.0
"""For a process that gets no processor: one that computes ends itself sooner."""
_PROBE = ChatPrompt((ChatMessage(role="user", content="Hi"),))


class TemplateProcess:
    """Renders one template. Safe from any thread; ``close`` ends the process."""

    def __init__(self, source: TemplateSource) -> None:
        self._process = HelperProcess("engine.template_renderer", msgspec.msgpack.encode(source))
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to compile, and return before that is done."""
        with self._lock:
            self._process.start()

    def check(self) -> str:
        """Why no chat can be rendered, whatever its messages; empty if nothing is wrong."""
        with self._lock:
            try:
                welcome = self._process.welcome()
            except TimeoutError:
                welcome = None
            if welcome is None:
                return f"it cannot be compiled: {self._cause()}"
            if (error := _decode(welcome).error) is not None:
                self._process.close()
                return error.message
            rendering = self._ask(_PROBE)
        # A template may have its reasons to refuse this very message, and still render others.
        return rendering if isinstance(rendering, str) else ""

    def render(self, prompt: ChatPrompt) -> RenderedText:
        """As ``ChatTemplate.render``. Raises InvalidRequest, also for what takes too much time or memory."""
        with self._lock:
            rendering = self._ask(prompt)
        if isinstance(rendering, str):
            raise InvalidRequest(
                f"the model's chat template cannot be rendered with these messages: {rendering}",
                param="messages",
            )
        if rendering.error is not None:
            raise rendering.error.to_error()
        return RenderedText(rendering.pieces)

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _ask(self, prompt: ChatPrompt) -> Rendering | str:
        """The rendering, or why the process had to end, of which there is another then."""
        try:
            answer = self._process.ask(msgspec.msgpack.encode(prompt), _PATIENCE_S)
        except TimeoutError:
            answer = None
        if answer is not None:
            return _decode(answer)
        cause = self._cause()
        self._process.start()
        return cause

    def _cause(self) -> str:
        """Why the process did not answer. Reaps it, or ends it."""
        if not self._process.has_ended:
            self._process.close()
            return "it does not come to an end"
        if self._process.reap() == -signal.SIGPROF:
            return f"it takes more than {CPU_S:g} s"
        return "it takes too much memory, or is nested too deeply"


def _decode(answer: bytes) -> Rendering:
    return msgspec.msgpack.decode(answer, type=Rendering)
