from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from tests.deploy.files import DEPLOY, check_settings
from tests.deploy.tools import systemd_analyze
from tests.end_to_end.patience import eventually
from tests.server.nibble_process import ServerUnderTest

UNIT = DEPLOY / "systemd" / "nibble.service"


def test_systemd_takes_it_and_finds_little_exposed(tmp_path: Path) -> None:
    program, variables = systemd_analyze()
    environment = os.environ | variables
    unit = tmp_path / UNIT.name
    # Only whether the program exists depends on the machine.
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    verified = subprocess.run(
        [str(program), "verify", "--man=no", str(unit)], capture_output=True, text=True, env=environment
    )
    # Of a systemd that was fetched, it tells of links between units, too.
    said = [line for line in verified.stderr.splitlines() if not line.startswith("Suspicious symlink")]
    assert (verified.returncode, said) == (0, [])
    command = [str(program), "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)]
    assert subprocess.run(command, capture_output=True, env=environment).returncode == 0


def test_the_server_is_told_what_it_knows_and_may_finish() -> None:
    text = UNIT.read_text()
    variables = dict(re.findall(r"\b(NIBBLE_\w+)=(\S+)", text))
    settings = check_settings(variables)
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert stop is not None
    assert int(stop.group(1)) > settings.drain_s + 5


def test_it_starts_on_a_fresh_machine_and_takes_settings_that_are_written_later(tmp_path: Path) -> None:
    text = UNIT.read_text()
    directories = dict(re.findall(r"^(\w+Directory)=(\S+)$", text, re.MULTILINE))
    variables = dict(re.findall(r"\b(NIBBLE_\w+)=(\S+)", text))
    # systemd makes both; nibble.toml is looked for in the working directory, and may be missing there.
    assert directories["WorkingDirectory"] == f"/etc/{directories['ConfigurationDirectory']}"
    assert variables["NIBBLE_DATA_DIR"] == f"/var/lib/{directories['StateDirectory']}"
    # Without it there is a banner, which tells where the server is.
    assert variables.pop("NIBBLE_LOG_FORMAT") == "json"
    work, state = tmp_path / "etc", tmp_path / "state"
    work.mkdir()
    state.mkdir()
    with ServerUnderTest(work, variables={**variables, "NIBBLE_DATA_DIR": str(state)}) as server:
        server.wait_until_loaded()

        def status() -> int:
            with server.open("/v1/models", headers={"host": "nibble.lan"}) as answer:
                return answer.status

        assert status() == 403
        (work / "nibble.toml").write_text("allowed_hosts = ['nibble.lan']\n")
        server.signal(signal.SIGHUP)
        eventually(status, lambda code: code == 200, "the file counts")
        server.end_cleanly()
    assert [path.name for path in work.iterdir()] == ["nibble.toml"], "there it may not write"


def test_it_is_told_to_read_its_settings_anew_by_the_signal_for_it() -> None:
    assert re.search(r"^ExecReload=/bin/kill -HUP \$MAINPID$", UNIT.read_text(), re.MULTILINE)
    assert re.search(r"^Type=notify$", UNIT.read_text(), re.MULTILINE)
