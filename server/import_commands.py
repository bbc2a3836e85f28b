"""``nibble import``, or ``nibble add``: models that are on this machine already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import AsJson, ConfigFile, DataDir, ModelsDir, fail, print_json, say, settings_from
from server.pull_commands import engine_starter, failures_told, tell

if TYPE_CHECKING:
    from model_registry.adapter_import import ImportedAdapter
    from model_registry.caches.cached_model import CachedModel, CacheName


def install(app: typer.Typer) -> None:
    """Add the command to ``app``, under its two names."""
    app.command("import")(import_model)
    app.command("add", help="The same as 'import'.")(import_model)


def import_model(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A .gguf file, of a split model the first part; with --from, what that program calls the model.",
            metavar="FILE|NAME",
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Take it from the models that another program has fetched: ollama, lmstudio or huggingface.",
            show_default=False,
        ),
    ] = None,
    found: Annotated[
        bool, typer.Option("--found", help="List what other programs have fetched to this machine.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Of a LoRA adapter: the model that it is for, where its file does not tell.",
            metavar="MODEL",
            show_default=False,
        ),
    ] = None,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Serve a model or a LoRA adapter that lies elsewhere on this machine: link it, without copying, and try it out."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from model_registry.adapter_import import ImportedAdapter
    from model_registry.caches.found import cached_models
    from model_registry.caches.found import named as cached_model
    from model_registry.local_import import import_local
    from model_registry.model_link import import_cached

    caches = _caches(cache)
    if found or (cache is not None and name is None):
        if name is not None:
            fail("--found lists, and imports nothing: leave out the name, or --found")
        _list(cached_models(caches), caches, as_json=as_json)
        return
    if name is None:
        fail("name a .gguf file; 'nibble import --found' lists what other programs have fetched")
    registry = settings.registry_config()
    if base is not None and cache is not None:
        fail(f"--for names the model of a LoRA adapter, and '{name}' is none")
    with failures_told():
        if cache is None:
            imported = import_local(Path(name), registry, engine_starter(), model_name=base)
            if isinstance(imported, ImportedAdapter):
                _tell_adapter(imported, as_json=as_json)
            else:
                tell(imported, as_json=as_json)
            return
        try:
            model = cached_model(cached_models(caches), name)
        except LookupError as error:
            fail(str(error))
        registered = import_cached(model, registry, engine_starter())
    for note in model.notes:
        say(note)
    tell(registered, as_json=as_json)


def _tell_adapter(adapter: ImportedAdapter, *, as_json: bool) -> None:
    if as_json:
        print_json(adapter)
    else:
        print(
            f"{adapter.id}: a LoRA adapter of {adapter.model}, {adapter.file_bytes / 1e6:,.0f} MB, it works"
        )


def _caches(name: str | None) -> tuple[CacheName, ...]:
    from model_registry.caches.found import CACHES

    if name is None:
        return CACHES
    chosen = tuple(cache for cache in CACHES if cache == name.lower())
    if not chosen:
        fail(f"'{name}' is no program whose models are known: use {', '.join(CACHES)}")
    return chosen


def _list(models: list[CachedModel], caches: tuple[CacheName, ...], *, as_json: bool) -> None:
    if as_json:
        from model_registry.caches.cached_model import listed

        print_json([listed(model) for model in models])
        return
    if not models:
        from model_registry.caches.found import places

        looked = ", ".join(str(place) for cache in caches for place in places(cache))
        say(f"no models of other programs were found in {looked}")
        return
    width = max(len(model.name) for model in models)
    for model in models:
        print(f"{model.cache:<11}  {model.name:<{width}}  {model.file_bytes / 1e6:>8,.0f} MB")
    print("\nserve one, without copying it, with 'nibble import --from PROGRAM NAME'")
