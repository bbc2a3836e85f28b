"""``nibble verify`` and ``nibble prune``: whether models are well, and what can go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import (
    AsJson,
    ConfigFile,
    DataDir,
    ModelsDir,
    Yes,
    print_json,
    say,
    settings_from,
    told,
)
from server.model_commands import open_shelf
from server.progress_bar import progress_bar
from server.pull_commands import engine_starter, failures_told

if TYPE_CHECKING:
    from model_registry.adapted_model import AdaptedModel
    from model_registry.leftovers import Leftover
    from model_registry.model import Model
    from model_registry.pruning import PrunedLeftover
    from model_registry.sources.found_adapter import FoundAdapter
    from model_registry.verification import Verified
    from server.settings import Settings


def install(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(verify)
    app.command()(prune)


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ids or aliases [default: all models].", metavar="MODEL")
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Load each in a worker, too, and decode a token.")
    ] = False,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check models and their adapters: header, length, and digest as it was when imported. The exit status tells."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    shelf, _ = open_shelf(settings)
    with told():
        wanted = [shelf.adapted(name) or shelf.named(name) for name in names or ()]
    everything = (*shelf, *shelf.adapters(), *shelf.strays())
    with failures_told():
        found = [_verified(each, settings, load=load, quiet=as_json) for each in wanted or everything]
    if as_json:
        print_json(found)
    if not all(each.is_well for each in found):
        raise typer.Exit(1)


def prune(
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Remove what nothing uses: partial downloads, links that lead nowhere, locks, records and prefixes of models
    that are gone."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from model_registry.pruning import Pruning

    pruning = Pruning(settings.registry_config())
    with told():
        found = pruning.find()
    if not as_json:
        for leftover in found:
            print(_told(leftover))
    if not found and not as_json:
        print("there is nothing to remove")
    pruned: list[PrunedLeftover] = []
    if found and not dry_run:
        if not yes and not typer.confirm(f"Remove {len(found)} ({_size(found)})?", err=as_json):
            raise typer.Exit(1)
        pruned = pruning.remove(found)
        removed = [each for each in pruned if each.removed]
        if not as_json:
            print(f"removed {len(removed)} ({_size(removed)})")
    if as_json:
        import msgspec

        print_json(pruned or [{**msgspec.structs.asdict(each), "removed": False} for each in found])
    problems = [each.problem for each in pruned if each.problem]
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)


def _verified(
    what: Model | AdaptedModel | FoundAdapter, settings: Settings, *, load: bool, quiet: bool
) -> Verified:
    from model_registry.adapted_model import AdaptedModel
    from model_registry.adapter_verification import verify_adapter, verify_stray
    from model_registry.model import Model
    from model_registry.verification import verify as verify_model

    config, start = settings.registry_config(), engine_starter() if load else None
    if isinstance(what, Model | AdaptedModel):
        with progress_bar(what.id) as progress:
            if isinstance(what, Model):
                found = verify_model(what, config, start, progress)
            else:
                found = verify_adapter(what, config, start, progress)
    else:
        found = verify_stray(what)
    if not quiet:
        checks = f"header {found.header}, digest {found.digest}" + (f", load {found.load}" if load else "")
        print(f"{found.id}: {checks}")
        if found.problem:
            say(found.problem)
    return found


def _told(leftover: Leftover) -> str:
    size = f" ({leftover.file_bytes / 1e6:,.1f} MB)" if leftover.file_bytes else ""
    return f"{leftover.kind:<16}  {leftover.what}{size}{f': {leftover.note}' if leftover.note else ''}"


def _size(found: Sequence[Leftover]) -> str:
    return f"{sum(each.file_bytes for each in found) / 1e6:,.1f} MB"
