"""The documented way to ask for keys, in the environments that compose and Kubernetes give the server."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, read_yaml, resolved
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
