"""A loopback server of one file that does what a test tells it to get wrong. One answer per scripted step."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.server.seen.append(
            {**{name.lower(): value for name, value in self.headers.items()}, ":path": self.path}
        )
        step = self.server.steps.pop(0) if self.server.steps else honest
        step(self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is None:
            self.close_connection = True
        else:
            self.send_header("content-length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def asked_from(self) -> int:
        """Where the wanted range begins; 0 unless it is wanted of the content that is served."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match and self.headers.get("if-range") == self.server.etag else 0


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is what many tests are about: it is no news."""

    block_on_close = False

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = '"one"'
        self.steps: list[Step] = []
        self.seen: list[dict[str, str]] = []
        self.release = threading.Event()
        """What a step that stalls waits for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.gguf"


@contextmanager
def file_server(content: bytes) -> Generator[FileServer]:
    server = FileServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def honest(handler: Handler) -> None:
    send(handler, None)


def send(handler: Handler, count: int | None, claimed: int | None = None) -> None:
    """The range that was asked for, of it ``count`` bytes before the connection ends, ``claimed`` to be the whole."""
    content, begin = handler.server.content, handler.asked_from()
    whole = len(content) if claimed is None else claimed
    headers = {"etag": handler.server.etag}
    if begin:
        headers["content_range"] = f"bytes {begin}-{whole - 1}/{whole}"
    handler.head(206 if begin else 200, whole - begin, **headers)
    handler.wfile.write(content[begin:][:count])
    if count is not None:
        handler.close_connection = True


def drops_after(count: int) -> Step:
    return lambda handler: send(handler, count)


def claims(whole: int) -> Step:
    return lambda handler: send(handler, whole, whole)


def answers(status: int) -> Step:
    return lambda handler: handler.head(status, 0)


def redirects_to(url: str) -> Step:
    return lambda handler: handler.head(302, 0, location=url)


def without_length(handler: Handler) -> None:
    handler.head(200, None, etag=handler.server.etag)
    handler.wfile.write(handler.server.content)


def stalls_after(count: int) -> Step:
    def stall(handler: Handler) -> None:
        content, begin = handler.server.content, handler.asked_from()
        whole = len(content)
        headers = {"content_range": f"bytes {begin}-{whole - 1}/{whole}"} if begin else {}
        handler.head(206 if begin else 200, whole - begin, etag=handler.server.etag, **headers)
        handler.wfile.write(content[begin:][:count])
        handler.wfile.flush()
        handler.server.release.wait(30)
        handler.close_connection = True

    return stall


def changes_to(content: bytes) -> Step:
    """From this answer on it is another file."""

    def change(handler: Handler) -> None:
        handler.server.content, handler.server.etag = content, '"two"'
        honest(handler)

    return change


def forgets_if_range(handler: Handler) -> None:
    """A server that sends the end of another file for the end of ours."""
    server = handler.server
    server.etag = '"two"'
    begin = int(handler.headers["range"].removeprefix("bytes=").removesuffix("-"))
    whole = len(server.content)
    handler.head(206, whole - begin, etag='"two"', content_range=f"bytes {begin}-{whole - 1}/{whole}")
    handler.wfile.write(server.content[begin:])
