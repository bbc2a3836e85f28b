from __future__ import annotations

from pathlib import Path

import pytest

from model_registry.model_settings import ModelSettings
from model_registry.sources import bundled
from server.doctor.configuration import check_models, check_settings
from server.settings import Settings
from tests.model_registry.fake_engine import write_gguf


@pytest.fixture(autouse=True)
def no_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "locate_bundled", lambda: None)


def test_settings_that_are_served_with_and_some_that_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_settings(Settings(data_dir=tmp_path)).status == "ok"
    found = check_settings(Settings(data_dir=tmp_path, models_dir=tmp_path / "none"))
    assert found.status == "fail"
    assert "does not exist" in found.text
    assert "--models-dir" in found.mend
    found = check_settings(Settings(data_dir=tmp_path, host="0.0.0.0"))
    assert found.status == "fail"
    assert "nibble key create" in found.mend
    monkeypatch.setenv("NIBBLE_API_KEY", "a-key-of-the-operator")
    found = check_settings(Settings(data_dir=tmp_path, host="0.0.0.0", insecure_no_auth=True))
    assert (found.status, "lets nobody in" in found.text) == ("warn", True)
    assert "leave it out" in found.mend
    monkeypatch.setenv("NIBBLE_PROT", "1")
    found = check_settings(Settings(data_dir=tmp_path))
    assert (found.status, "did you mean 'NIBBLE_PORT'" in found.text) == ("warn", True)


def test_models(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    found = check_models(settings)
    assert (found.status, found.text) == ("fail", "there is no model to serve")
    assert "make setup" in found.mend
    models = tmp_path / "models"
    models.mkdir()
    (models / "bad.gguf").write_bytes(b"<html>")
    found = check_models(settings)
    assert (found.status, "bad" in found.text) == ("fail", True)
    assert "nibble catalog" in found.mend
    write_gguf(models / "good.gguf")
    found = check_models(settings)
    assert found.status == "warn"
    assert found.text.startswith("1 can be served; bad: ")
    (models / "bad.gguf").unlink()
    assert check_models(settings).status == "ok"
    found = check_models(Settings(data_dir=tmp_path, models={"god": ModelSettings(context=99)}))
    assert (found.status, "[models.god]" in found.text, "'good'" in found.text) == ("warn", True, True)
