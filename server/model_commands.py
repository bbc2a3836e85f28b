"""``nibble list``, ``show``, ``rm``, ``alias`` and ``set``: what there is, and what is said of it.

They read files and the store, and need no server; one that runs notices what they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import (
    AsJson,
    ConfigFile,
    DataDir,
    ModelsDir,
    Yes,
    fail,
    option,
    print_json,
    say,
    settings_from,
    told,
)

if TYPE_CHECKING:
    from model_registry.config import RegistryConfig
    from model_registry.model import Model
    from model_registry.shelf import Shelf
    from model_registry.store.model_record import ModelRecord
    from model_registry.store.model_store import ModelStore
    from server.settings import Settings

ModelName = Annotated[str, typer.Argument(help="Id or alias of the model.", metavar="MODEL")]


def install(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("list")(list_models)
    app.command()(show)
    app.command()(rm)
    app.command()(alias)
    app.command("set")(set_model)


def list_models(
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    adapters: Annotated[list[str] | None, option("adapters")] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List the models that would be served."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir, adapters=adapters)
    shelf, _ = open_shelf(settings)
    models, in_file = list(shelf), settings.registry_config()
    adapted = shelf.adapters()
    if as_json:
        print_json([*(_described(model, in_file) for model in models), *(each.detail() for each in adapted)])
        return
    from server.model_list import model_list

    for line in model_list(models, adapted):
        print(line)


def show(
    name: ModelName,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show all that is known of one model."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    shelf, _ = open_shelf(settings)
    model, adapted = find_model(shelf, name), shelf.adapted(name)
    if adapted is None:
        described = _described(model, settings.registry_config()) | {
            "adapters": [each.id for each in shelf.adapters() if each.adapter.model == model.id]
        }
    else:
        import msgspec

        described = msgspec.structs.asdict(adapted.detail())
    if as_json:
        print_json(described)
        return
    if adapted is None and (twin := model.twin) is not None:
        from server.tune_report import cost_of

        described["twin"] = f"{twin.id} serves its requests: {cost_of(twin)}"
    for key, value in described.items():
        if value not in ("", None, [], {}, 0):
            print(f"{key:<16}{_plain(value)}")


def rm(
    name: ModelName,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    yes: Yes = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Delete a model's files, and all that is known of it. What else changes by that is told first."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir)
    from model_registry.removal import plan_removal

    shelf, store = open_shelf(settings)
    with told():
        found = shelf.adapted(name) or shelf.named(name)
        removal = plan_removal(found, shelf, settings.registry_config())
    for effect in removal.effects:
        say(effect.text)
    listed = ", ".join(map(str, removal.files))
    # Asked on standard error: with --json, standard output is a program's.
    if not yes and not typer.confirm(f"Delete {listed} ({removal.file_bytes / 1e6:,.0f} MB)?", err=as_json):
        raise typer.Exit(1)
    with told():
        removal.carry_out(store)
    if as_json:
        notes = [effect.text for effect in removal.effects]
        print_json({"id": removal.id, "deleted": [str(file) for file in removal.files], "notes": notes})
    else:
        print(f"{removal.id} is deleted")


def alias(
    new: Annotated[str | None, typer.Argument(help="The other name.", metavar="[ALIAS]")] = None,
    name: Annotated[str | None, typer.Argument(help="Id of the model it means.", metavar="[MODEL]")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Take the alias from the model that has it.")] = False,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Let requests name a model by another name, such as gpt-4o-mini. Without arguments, list the aliases."""
    if new is None and (remove or move):
        fail(f"name the alias: nibble alias ALIAS {'--remove' if remove else 'MODEL --move'}")
    shelf, store = open_shelf(settings_from(config, models_dir=models_dir, data_dir=data_dir))
    done = ""
    with told():
        if new is None:
            if not as_json:
                for known, model_id in _aliases(store).items():
                    print(f"{known}  {model_id}")
        elif remove:
            store.remove_aliases([new])
            done = f"{new} means nothing any more"
        elif name is None:
            fail(f"name the model that '{new}' means: nibble alias {new} MODEL")
        elif new in shelf.ids():
            fail(f"'{new}' is the id of a model: an alias must be another name")
        else:
            model, adapted = find_model(shelf, name), shelf.adapted(name)
            model_id = adapted.id if adapted else model.id
            owner = _aliases(store).get(new)
            if owner not in (None, model_id) and not move:
                fail(f"'{new}' is an alias of '{owner}': add --move to take it from that")
            store.add_aliases(model_id, [new], moves=move)
            done = f"{new} means {model_id}"
        if as_json:
            print_json(_aliases(store))
        elif done:
            print(done)


def set_model(
    name: ModelName,
    values: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE; KEY= unsets.", metavar="[KEY=VALUE]...")
    ] = None,
    notes: Annotated[
        str | None, typer.Option(help="What you want to remember of it.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="A word to find it by, in place of those it has; may be repeated."),
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take all its tags away.")] = False,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Set how one model is served (context=4096), and what is remembered of it. Counts from its next load."""
    from model_registry.model_settings import ModelSettings
    from server.model_tables import changed_settings

    if no_tags and tag:
        fail("--no-tags and --tag contradict each other: give one of them")
    tags = [] if no_tags else None if tag is None else [each for each in tag if each]
    if not values and tags is None and notes is None:
        names = ", ".join(ModelSettings.__struct_fields__)
        fail(f"give KEY=VALUE, --notes, --tag or --no-tags; a KEY is one of {names}")
    shelf, store = open_shelf(settings_from(config, models_dir=models_dir, data_dir=data_dir))
    with told():
        model = shelf.bare(name)
        try:
            settings = changed_settings(store.record(model.id).settings, values or [])
        except ValueError as error:
            fail(str(error))
        store.describe(model.id, tags=tags, notes=notes)
        if values:
            store.set_settings(model.id, settings)
        record = store.record(model.id)
        if as_json:
            print_json(
                {
                    "id": model.id,
                    "settings": record.settings.given(),
                    "notes": record.notes,
                    "tags": list(record.tags),
                }
            )
        else:
            print(f"{model.id} has {_own_words(record)}")


def _own_words(record: ModelRecord) -> str:
    """What somebody has said of a model, in a line."""
    settings = record.settings.given()
    said = [f"the settings {_plain(settings)}" if settings else "no settings of its own"]
    if record.tags:
        said.append(f"the tags {_plain(record.tags)}")
    if record.notes:
        said.append(f"the notes {' '.join(record.notes.split())}")
    return "; ".join(said)


def _aliases(store: ModelStore) -> dict[str, str]:
    """Ids by their aliases."""
    return {known: record.id for record in store.records().values() for known in record.aliases}


def open_shelf(settings: Settings) -> tuple[Shelf, ModelStore]:
    """Every model that a server with these settings would have; problems go to standard error."""
    from engine.errors import NibbleError
    from model_registry.shelf import Shelf
    from model_registry.sources.default_sources import default_sources
    from model_registry.store.model_store import ModelStore

    config = settings.registry_config()
    store = ModelStore.in_directory(config.data_dir)
    shelf = Shelf(default_sources(config), store, config)
    try:
        shelf.fill()
    except NibbleError as error:
        fail(error.message)
    for problem in shelf.problems:
        say(problem)
    return shelf, store


def find_model(shelf: Shelf, name: str) -> Model:
    with told():
        return shelf.named(name)


def _described(model: Model, config: RegistryConfig) -> dict[str, object]:
    """What ``list`` and ``show`` tell of a model: names are those of the store."""
    import msgspec

    from model_registry.file_facts import file_facts

    record = model.record
    return {
        "id": model.id,
        "aliases": list(model.aliases),
        "tags": list(record.tags) if record else [],
        "notes": record.notes if record else "",
        **msgspec.structs.asdict(file_facts(model)),
        "failure": model.found.failure,
        "settings": record.settings.given() if record else {},
        "configured": model.settings_in_file(config).given(),
        "twin": msgspec.to_builtins(model.twin) if model.twin else None,
    }


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_as_set(each)}" for key, each in value.items())
    return str(value)


def _as_set(value: object) -> str:
    """As ``nibble set`` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
