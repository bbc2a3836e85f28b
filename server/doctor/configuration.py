"""Checks of settings and models."""

from __future__ import annotations

from server.access import idle_word, open_keyring
from server.doctor.finding import Finding
from server.settings import Settings, SettingsError, unknown_variables


def check_settings(settings: Settings) -> Finding:
    """What ``nibble serve`` would refuse, and what sets nothing."""
    try:
        settings.check()
        keyring = open_keyring(settings, lambda key, model, usage: None)
    except SettingsError as error:
        text, _, mend = str(error).rpartition(": ")
        return Finding(check="settings", status="fail", text=text or str(error), mend=mend)
    if unknown := unknown_variables():
        return Finding(
            check="settings",
            status="warn",
            text="; ".join(unknown),
            mend="correct the names: 'nibble serve --help' lists all settings",
        )
    if idle := idle_word(settings, keyring):
        text, _, mend = idle.partition(": ")
        return Finding(check="settings", status="warn", text=text, mend=mend)
    return Finding(check="settings", status="ok", text="they can be served with")


def check_models(settings: Settings) -> Finding:
    """Whether there is a model, and which are not as they should be. Nothing is loaded: ``nibble verify`` does that."""
    from engine.errors import NibbleError
    from model_registry.shelf import Shelf
    from model_registry.sources.default_sources import default_sources
    from model_registry.store.model_store import ModelStore

    config = settings.registry_config()
    shelf = Shelf(default_sources(config), ModelStore.in_directory(config.data_dir), config)
    try:
        shelf.fill()
    except NibbleError as error:
        text, _, mend = error.message.partition(": ")
        return Finding(check="models", status="fail", text=text, mend=mend or "'nibble catalog' lists some")
    failed = [f"{model.id}: {model.found.failure}" for model in shelf if model.found.failure]
    usable = len(shelf) - len(failed)
    problems = [*failed, *shelf.problems]
    if not usable:
        return Finding(
            check="models",
            status="fail",
            text="; ".join(problems),
            mend="fetch one: 'nibble catalog' lists some",
        )
    if problems:
        return Finding(
            check="models",
            status="warn",
            text=f"{usable} can be served; {'; '.join(problems)}",
            mend="mend what is told, or remove the files",
        )
    return Finding(check="models", status="ok", text=f"{usable} can be served")
