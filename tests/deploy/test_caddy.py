"""There is no Caddy where Nibble is developed: what can be held to the server's own settings is."""

from __future__ import annotations

import re

from pydantic import ByteSize, TypeAdapter

from server.settings import Settings
from tests.deploy.files import DEPLOY

TEXT = (DEPLOY / "caddy" / "Caddyfile").read_text()


def test_no_request_is_refused_that_the_server_would_take() -> None:
    (size,) = re.findall(r"max_size (\S+)", TEXT)
    # In the units that Caddy and the settings have in common: MB is a million bytes, MiB is 1024 times 1024.
    assert TypeAdapter(ByteSize).validate_python(size) == Settings.model_fields["max_body_bytes"].default
    (wait_s,) = re.findall(r"read_timeout (\d+)s", TEXT)
    assert float(wait_s) > Settings.model_fields["request_timeout_s"].default


def test_it_speaks_of_no_pages_that_there_are_not() -> None:
    assert "documentation" not in TEXT
