"""pip-audit itself against a database that answers as OSV's does: found, none found, and no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import audit
import pytest

LOCK = f"weak==2.0 --hash=sha256:{'0' * 64}\nsound==1.0 --hash=sha256:{'1' * 64}\n"
ADVISORY = {
    "id": "PYSEC-2026-1",
    "schema_version": "1.6.0",
    "modified": "2026-01-01T00:00:00Z",
    "aliases": ["CVE-2026-1"],
    "summary": "It gives itself away.",
    "affected": [
        {
            "package": {"name": "weak", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
        }
    ],
}

pytestmark = pytest.mark.skipif(not audit.TOOL.exists(), reason="'make audit-tools' has not been run")


@contextmanager
def database(*, weak: bool = False, broken: str = "") -> Iterator[tuple[str, list[str]]]:
    """Its address and the packages that it was asked about. It fails at the one that is ``broken``."""
    asked: list[str] = []

    class Database(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = question["package"]["name"]
            asked.append(name)
            body = json.dumps({"vulns": [ADVISORY]} if weak and name == "weak" else {}).encode()
            self.send_response(500 if name == broken else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "all.txt").write_text(LOCK)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "SERVICES", {"osv": "the database"})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_what_is_known_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with database(weak=True) as (url, asked):
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
        assert audit.main() == audit.VULNERABLE
    assert sorted(asked) == ["sound", "weak"]
    told = capsys.readouterr().out
    assert "weak 2.0: PYSEC-2026-1 (mended in 2.1)" in told
    assert "sound 1.0" not in told
    assert "NOT AUDITED" not in told


def test_nothing_known_is_clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with database() as (url, asked):
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
        assert audit.main() == audit.CLEAN
    assert sorted(asked) == ["sound", "weak"]
    assert "nothing is known against any locked package" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["weak", "sound"])
def test_no_answer_about_one_is_not_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    with database(broken=broken) as (url, asked):
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
        assert audit.main() == audit.UNKNOWN
    assert broken in asked
    assert "NOT AUDITED" in capsys.readouterr().out


def test_nobody_there_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    with database() as (url, _):
        pass
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)
    assert audit.main() == audit.UNKNOWN
