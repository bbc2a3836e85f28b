"""The documented way to ask for keys, in the environments that compose and Kubernetes give the server."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT, read_yaml, resolved
from tests.server.nibble_process import ServerUnderTest, run_nibble

MODELS = "/v1/models"


def compose_environment() -> dict[str, str]:
    given = read_yaml(DEPLOY / "compose.yaml")["services"]["nibble"]["environment"]
    return {name: resolved(value) for name, value in given.items()}


def kubernetes_environment() -> dict[str, str]:
    pod = read_yaml(DEPLOY / "kubernetes" / "deployment.yaml")["spec"]["template"]["spec"]
    return {item["name"]: item["value"] for item in pod["containers"][0]["env"]}


@pytest.mark.parametrize(
    "environment", [compose_environment(), kubernetes_environment()], ids=["compose", "k8s"]
)
def test_a_server_with_a_key_starts_needs_it_and_reloads(tmp_path: Path, environment: dict[str, str]) -> None:
    # Without it there is a banner, which tells where the server is; the log is JSON in any case.
    assert environment.pop("NIBBLE_LOG_FORMAT") == "json"
    assert environment["NIBBLE_INSECURE_NO_AUTH"] == "true"
    secret = run_nibble(tmp_path, "key", "create", "alice").stdout.strip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(str(tmp_path / "notify"))
        variables = {**environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with ServerUnderTest(tmp_path, variables=variables, NIBBLE_PORT="0") as server:
            assert manager.recv(1024) == b"READY=1"
            server.signal(signal.SIGHUP)
            assert manager.recv(1024).startswith(b"RELOADING=1\n")
            assert manager.recv(1024) == b"READY=1"
            assert server.status(MODELS) == 401
            with server.open(MODELS, headers={"authorization": f"Bearer {secret}"}) as answer:
                assert answer.status == 200
            lines = server.end_cleanly()
    told = [str(line["event"]) for line in lines]
    assert "reloaded" in told
    assert sum("insecure_no_auth lets nobody in" in event for event in told) == 2, (
        "at the start, and by SIGHUP"
    )


def test_keys_that_are_made_as_told_open_a_server_that_refuses_to_start_without(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operate.md").read_text()
    (commands,) = (
        block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "nibble_keys.toml" in block
    )
    made, _, _ = commands.partition("docker compose")
    work = tmp_path / "work"
    work.mkdir()
    told = subprocess.run(
        ["/bin/sh", "-euc", made], cwd=work, capture_output=True, text=True, check=True
    ).stdout
    alice = told.strip()
    prometheus = (work / "deploy/secrets/nibble_metrics_key").read_text().strip()
    keys = work / "deploy/secrets/nibble_keys.toml"
    assert alice not in keys.read_text(), "digests alone"
    assert keys.stat().st_mode & 0o004, "the server runs as another user"
    assert not keys.parent.stat().st_mode & 0o077, "nobody else on the machine gets there"

    added = read_yaml(DEPLOY / "compose.keys.yaml")["services"]["nibble"]["environment"]
    variables = compose_environment() | added | {"NIBBLE_API_KEY_FILE": str(keys), "NIBBLE_PORT": "0"}
    assert variables.pop("NIBBLE_LOG_FORMAT") == "json"
    with ServerUnderTest(tmp_path, variables=variables) as server:
        server.wait_until_loaded()
        assert (server.status(MODELS), server.status("/metrics")) == (401, 401)
        for secret, models in ((alice, True), (prometheus, False)):
            header = {"authorization": f"Bearer {secret}"}
            with server.open("/metrics", headers=header) as answer:
                assert (answer.status, bool(answer.read())) == (200, True)
            with server.open(MODELS, headers=header) as answer:
                assert bool(json.loads(answer.read())["data"]) is models
        server.end_cleanly()

    keys.write_text("")
    refused = run_nibble(tmp_path, "serve", **variables)
    assert refused.returncode == 1
    assert "not listening on 0.0.0.0" in refused.stderr
