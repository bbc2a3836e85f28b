from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import test_image

from tests.deploy.files import DOCKERFILE, ROOT, check_settings

FINAL = DOCKERFILE.read_text().rpartition("FROM ")[2]


def test_hadolint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    result = subprocess.run(
        [linter, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_package_is_copied_and_let_through() -> None:
    copied = set(re.findall(r"^COPY (\w+)/ ", DOCKERFILE.read_text(), re.MULTILINE))
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "tests"}
    assert rooms <= copied
    allowed = {
        line[1:].partition("/")[0]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    assert copied <= allowed


def test_everything_is_installed_that_a_setting_may_ask_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locks = re.findall(r"requirements/\w+\.txt", DOCKERFILE.read_text())
    installed = "\n".join((ROOT / lock).read_text() for lock in locks)
    for requirement in extras["tracing"]:
        assert f"\n{re.split('[><=]', requirement)[0]}==" in installed, requirement


def test_the_variables_are_settings_and_none_opens_the_server() -> None:
    variables = dict(re.findall(r"(NIBBLE_\w+)=(\S+)", FINAL))
    settings = check_settings(variables)
    assert settings.host == "0.0.0.0"
    assert not settings.insecure_no_auth, "whoever starts it says who may reach it"


def test_it_runs_without_rights_under_an_init_and_is_asked_how_it_is() -> None:
    assert re.search(r"^USER 10001:10001$", FINAL, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tini", "--"\]$', FINAL, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*CMD \["nibble", "health"\]$', FINAL, re.MULTILINE)


def test_what_it_writes_to_is_its_own() -> None:
    """Volumes that are new take owner and mode from here."""
    variables = dict(re.findall(r"(NIBBLE_\w+)=(\S+)", FINAL))
    for name in ("NIBBLE_DATA_DIR", "NIBBLE_MODELS_DIR"):
        made = re.search(rf"install --directory ([^&]*?)\s*{variables[name]}\b", FINAL)
        assert made, name
        assert "--owner=nibble --group=nibble" in made.group(1), name


def test_the_script_that_runs_the_steps_reads_the_file_as_docker_does() -> None:
    words = [word for word, _ in test_image.instructions(DOCKERFILE.read_text())]
    assert words[:3] == ["ARG", "FROM", "ARG"]
    assert set(words[2 : words.index("FROM", 2)]) == {"ARG", "ENV", "RUN", "WORKDIR", "COPY"}
    assert test_image.instructions("RUN a \\\n    b\n# no\nENV x=1\n") == [("RUN", "a     b"), ("ENV", "x=1")]


@pytest.mark.parametrize(
    ("command", "moved"),
    [
        ("/opt/build/bin/pip wheel . -w /opt/wheels", "/i/opt/build/bin/pip wheel . -w /i/opt/wheels"),
        ('-DX="/src/a" /usr/opt', '-DX="/i/src/a" /usr/opt'),
    ],
)
def test_what_the_image_has_at_its_root_goes_into_the_directory(command: str, moved: str) -> None:
    assert test_image._moved(command, Path("/i")) == moved
