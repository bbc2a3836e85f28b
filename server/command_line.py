"""What every command of ``nibble`` shares: its settings, its options, and how it says that it failed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from server.setting_help import SETTING_HELP

if TYPE_CHECKING:
    from server.settings import Settings

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file [default: nibble.toml in the working directory, else in the data directory].",
        show_default=False,
    ),
]


def option(name: str, *flags: str) -> typer.models.OptionInfo:
    """The command-line form of the setting ``name``."""
    flag = f"--{name.replace('_', '-')}"
    made: typer.models.OptionInfo = typer.Option(
        *(flags or (flag,)), help=SETTING_HELP[name], show_default=False
    )
    return made


ModelsDir = Annotated[Path | None, option("models_dir")]
DataDir = Annotated[Path | None, option("data_dir")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def print_json(value: object) -> None:
    """Print ``value``, which may have Structs in it, for programs."""
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print one row a line, in columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def say(text: str) -> None:
    """Tell a person how it goes, on standard error."""
    print(f"nibble: {text}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """End the command with one line on standard error."""
    say(message)
    raise typer.Exit(1)


@contextmanager
def told() -> Generator[None]:
    """What can go wrong, as the command's one line."""
    from engine.errors import NibbleError
    from model_registry.store.store_error import StoreError

    try:
        yield
    except NibbleError as error:
        fail(error.message)
    except StoreError as error:
        fail(str(error))


def end_on_sigterm() -> None:
    """Let SIGTERM end the command as Ctrl-C does: with time to remove what is not done."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def settings_from(config: Path | None, **given: object) -> Settings:
    """The settings, with what was ``given`` on the command line above all else. Fails with their one line."""
    from server.settings import SettingsError

    try:
        return read_settings(config, **given)
    except SettingsError as error:
        fail(str(error))


def read_settings(config: Path | None, **given: object) -> Settings:
    """The same for a server that reads them anew. Raises SettingsError."""
    from server.settings import load_settings

    return load_settings(
        {name: value for name, value in given.items() if value not in (None, [], ())}, config
    )
