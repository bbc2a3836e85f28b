"""``nibble key`` and ``nibble usage`` as a person meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.keys.key_store import KeyStore
from server.usage.usage_store import UsageStore
from tests.server.nibble_process import run_nibble
from tests.server.usage.test_ledger import row


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    made = run_nibble(
        *(tmp_path, "key", "create", "alice", "--scope", "admin", "--model", "m", "--concurrent", "2"),
        *("--priority", "-5"),
    )
    secret = made.stdout.strip()
    assert made.returncode == 0
    assert secret.startswith("sk-nibble-"), "alone on standard output, for scripts"
    (stored,) = KeyStore(tmp_path).stored()
    assert stored.key.scopes == {"admin"}
    listed = run_nibble(tmp_path, "key", "list")
    assert secret not in listed.stdout
    for word in ("alice", secret[:16], "admin", "m", "concurrent=2", "priority=-5"):
        assert word in listed.stdout
    again = run_nibble(tmp_path, "key", "create", "alice")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("nibble: there is a key called 'alice' already")
    revoked = run_nibble(tmp_path, "key", "revoke", "alice")
    assert revoked.returncode == 0
    assert "no key is left" in revoked.stderr
    assert "alice" not in run_nibble(tmp_path, "key", "list").stdout
    assert "revoked" in run_nibble(tmp_path, "key", "list", "--revoked").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "a b"), "no name for a key"),
        (("create", "a", "--scope", "root"), "no scope"),
        (("create", "a", "--queued", "3"), "queued needs concurrent"),
        (("create", "a", "--concurrent", "0"), "concurrent must be 1 or more"),
        (("create", "a", "--priority", "101"), "priority must be from -100 to 100"),
        (("revoke", "nobody"), "no key in force"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run_nibble(tmp_path, "key", *arguments)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_usage_is_a_table(tmp_path: Path) -> None:
    assert "nothing was used" in run_nibble(tmp_path, "usage").stderr
    UsageStore(tmp_path).add([row(), row(key="")])
    lines = run_nibble(tmp_path, "usage").stdout.splitlines()
    assert lines[0].split() == ["day", "key", "model", "requests", "prompt", "cached", "completion"]
    assert lines[1].split()[1:3] == ["(no", "key)"]
    assert lines[2].split() == ["2026-01-01", "alice", "m", "1", "10", "4", "3"]
    wrong = run_nibble(tmp_path, "usage", "--since", "yesterday")
    assert (wrong.returncode, wrong.stderr) == (1, "nibble: 'since': takes a day, as in 2026-01-31.\n")
