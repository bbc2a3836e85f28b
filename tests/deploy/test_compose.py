from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.deploy.files import DEPLOY, ROOT, check_settings, read_yaml, resolved
from tests.deploy.tools import compose_schema

FILE = DEPLOY / "compose.yaml"
KEYS = DEPLOY / "compose.keys.yaml"


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_yaml(FILE)["services"]
    return found


def test_it_keeps_to_the_specification() -> None:
    document = read_yaml(FILE)
    schema = json.loads(compose_schema().read_text())
    # Newer than the schema that Debian has: the name of the project.
    assert document.pop("name") == "nibble"
    jsonschema.Draft7Validator(schema).validate(document)
    jsonschema.Draft7Validator(schema).validate(read_yaml(KEYS))


@pytest.mark.parametrize("profile", ["", "monitoring"])
@pytest.mark.parametrize("files", [(FILE,), (FILE, KEYS)], ids=["alone", "with keys"])
def test_docker_reads_it(files: tuple[Path, ...], profile: str) -> None:
    """Debian 12 has no compose of today, so that none can be fetched; the schema is checked in any case."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no docker compose on this machine")
    named = [argument for file in files for argument in ("--file", str(file))]
    command = [docker, "compose", *named, "--profile", profile or "none", "config", "--quiet"]
    read = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (read.returncode, read.stderr) == (0, "")


def test_every_service_is_hardened(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys(), name
        assert all(resolved(port).startswith("127.0.0.1:") for port in service["ports"]), name
    assert [name for name, service in services.items() if "profiles" not in service] == ["nibble"]


def test_the_server_is_told_what_it_knows_and_may_finish(services: dict[str, dict[str, Any]]) -> None:
    nibble = services["nibble"]
    settings = check_settings({name: resolved(value) for name, value in nibble["environment"].items()})
    settings.check()
    assert settings.host == "0.0.0.0"
    assert float(nibble["stop_grace_period"].removesuffix("s")) > settings.drain_s + 5
    # Prometheus calls it by this name.
    target = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"][0]
    host, _, port = target["static_configs"][0]["targets"][0].partition(":")
    assert host in settings.allowed_hosts
    assert host in services
    assert int(port) == settings.port


def test_what_is_mounted_and_built_from_exists(services: dict[str, dict[str, Any]]) -> None:
    document = read_yaml(FILE)
    for service in services.values():
        for volume in service["volumes"]:
            source = resolved(volume).partition(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in document["volumes"]
    build = services["nibble"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_models_can_be_pulled_made_and_deleted_and_no_other_file_of_the_machine(
    services: dict[str, dict[str, Any]],
) -> None:
    """A new volume takes the owner of the directory that the image has in its place."""
    mounts = [resolved(volume).split(":") for service in services.values() for volume in service["volumes"]]
    modes = {target: mode for _, target, *mode in mounts}
    assert modes["/models"] == ["rw"]
    assert all(modes[target] == ["ro"] for source, target, *_ in mounts if source.startswith("."))


def test_secrets_are_files_that_git_does_not_know() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    secrets = read_yaml(FILE)["secrets"] | read_yaml(KEYS)["secrets"]
    assert secrets.keys() == {"grafana_password", "nibble_keys", "nibble_metrics_key"}
    for secret in secrets.values():
        assert "/" + (DEPLOY / secret["file"]).resolve().relative_to(ROOT).parent.as_posix() + "/" in ignored


def test_keys_are_added_and_nothing_is_loosened(services: dict[str, dict[str, Any]]) -> None:
    added = read_yaml(KEYS)
    assert added["services"]["nibble"].keys() == {"environment", "secrets"}
    assert added["services"]["prometheus"].keys() == {"command", "secrets"}
    given = services["nibble"]["environment"] | added["services"]["nibble"]["environment"]
    settings = check_settings({name: resolved(value) for name, value in given.items()})
    assert not settings.insecure_no_auth
    (secret,) = added["services"]["nibble"]["secrets"]
    assert str(settings.api_key_file) == f"/run/secrets/{secret}"


def test_prometheus_is_told_the_same_and_sends_its_key() -> None:
    first, *rest = services_command(FILE)
    named, *others = services_command(KEYS)
    assert (first, rest) == ("--config.file=/etc/prometheus/prometheus.yml", others)
    with_key = read_yaml(DEPLOY / "prometheus" / Path(named).name)
    authorization = with_key["scrape_configs"][0].pop("authorization")
    assert with_key == read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    (secret,) = read_yaml(KEYS)["services"]["prometheus"]["secrets"]
    assert authorization == {"credentials_file": f"/run/secrets/{secret}"}


def services_command(file: Path) -> list[str]:
    command: list[str] = read_yaml(file)["services"]["prometheus"]["command"]
    return command
