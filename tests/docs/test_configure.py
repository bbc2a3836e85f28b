from __future__ import annotations

import re
import tomllib

import settings_table

from server.settings import Settings
from tests.deploy.files import ROOT


def test_the_table_is_what_the_settings_are() -> None:
    text = settings_table.TARGET.read_text()
    assert text == settings_table.updated(text), "run `make settings-table`"
    assert all(f"| `{name}` |" in text for name in Settings.model_fields)


def test_the_example_sets_settings() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", settings_table.TARGET.read_text(), re.DOTALL)
    assert Settings(**tomllib.loads(example)).port == 9000


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("docs/*.md"), ROOT / "docker" / "README.md"]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{link} in {document.name}"
