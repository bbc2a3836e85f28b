"""The ``nibble`` command. Parses, and hands over; what is slow to import is imported where it is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from server.setting_help import SETTING_HELP

if TYPE_CHECKING:
    from model_registry.sources.found_model import FoundModel
    from server.settings import Settings

app = typer.Typer(
    name="nibble",
    help="Puts 4-bit GGUF models behind OpenAI's API, on your own machine.",
    epilog="Every option is also a variable (NIBBLE_PORT) and a key of nibble.toml (port).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _option(name: str, *flags: str) -> typer.models.OptionInfo:
    flag = f"--{name.replace('_', '-')}"
    option: typer.models.OptionInfo = typer.Option(
        *(flags or (flag,)), help=SETTING_HELP[name], show_default=False
    )
    return option


def _fail(message: str) -> NoReturn:
    print(f"nibble: {message}", file=sys.stderr)
    raise typer.Exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        from server.version import version_of

        print(f"nibble {version_of()} (llama-cpp-python {version_of('llama-cpp-python')})")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def nibble(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file [default: nibble.toml in the working directory, else in the data directory].",
        show_default=False,
    ),
]


def _settings(ctx: typer.Context, config: Path | None) -> Settings:
    from server.settings import SettingsError, load_settings

    given = {
        name: value for name, value in ctx.params.items() if name != "config" and value not in (None, [], ())
    }
    try:
        return load_settings(given, config)
    except SettingsError as error:
        _fail(str(error))


# The values are read from ``ctx.params``: that way, what was not given is left to the other sources, and a
# parameter here is nothing but an option's name and type. tests/server/test_cli.py compares them all.
@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[str | None, _option("host")] = None,
    port: Annotated[int | None, _option("port")] = None,
    models_dir: Annotated[Path | None, _option("models_dir")] = None,
    data_dir: Annotated[Path | None, _option("data_dir")] = None,
    preload: Annotated[list[str] | None, _option("preload")] = None,
    context: Annotated[int | None, _option("context")] = None,
    parallel: Annotated[int | None, _option("parallel")] = None,
    threads: Annotated[int | None, _option("threads")] = None,
    gpu_layers: Annotated[int | None, _option("gpu_layers")] = None,
    kv_budget: Annotated[str | None, _option("kv_budget")] = None,
    kv_layout: Annotated[str | None, _option("kv_layout")] = None,
    cache_type: Annotated[str | None, _option("cache_type")] = None,
    flash_attention: Annotated[str | None, _option("flash_attention")] = None,
    prefix_memory: Annotated[str | None, _option("prefix_memory")] = None,
    step_target_ms: Annotated[float | None, _option("step_target_ms")] = None,
    speculation: Annotated[bool | None, _option("speculation", "--speculation/--no-speculation")] = None,
    queue_limit: Annotated[int | None, _option("queue_limit")] = None,
    stall_limit_s: Annotated[float | None, _option("stall_limit_s")] = None,
    strict: Annotated[bool | None, _option("strict", "--strict/--no-strict")] = None,
    request_timeout_s: Annotated[float | None, _option("request_timeout_s")] = None,
    max_body_bytes: Annotated[str | None, _option("max_body_bytes")] = None,
    ping_s: Annotated[float | None, _option("ping_s")] = None,
    drain_s: Annotated[float | None, _option("drain_s")] = None,
    allowed_hosts: Annotated[list[str] | None, _option("allowed_hosts")] = None,
    allowed_origins: Annotated[list[str] | None, _option("allowed_origins")] = None,
    insecure_no_auth: Annotated[bool | None, _option("insecure_no_auth", "--insecure-no-auth")] = None,
    log_format: Annotated[str | None, _option("log_format")] = None,
    log_level: Annotated[str | None, _option("log_level")] = None,
    config: ConfigFile = None,
) -> None:
    """Serve the models."""
    settings = _settings(ctx, config)
    from server.serve import StartError, run

    try:
        code = run(settings)
    except StartError as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command("list")
def list_models(
    ctx: typer.Context,
    models_dir: Annotated[Path | None, _option("models_dir")] = None,
    data_dir: Annotated[Path | None, _option("data_dir")] = None,
    config: ConfigFile = None,
) -> None:
    """List the models that would be served."""
    settings = _settings(ctx, config)
    found = _find_models(settings)
    width = max(map(len, found), default=0)
    for model in found.values():
        print(f"{model.id:<{width}}  {model.file_bytes / 1e6:>8,.0f} MB  {model.failure or model.path}")


@app.command()
def bench(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Id of the model [default: the first one].")] = None,
    models_dir: Annotated[Path | None, _option("models_dir")] = None,
    data_dir: Annotated[Path | None, _option("data_dir")] = None,
    threads: Annotated[int | None, _option("threads")] = None,
    gpu_layers: Annotated[int | None, _option("gpu_layers")] = None,
    config: ConfigFile = None,
) -> None:
    """Measure this machine: prefill by chunk, decode by width, and what the server would choose."""
    ctx.params.pop("model")
    settings = _settings(ctx, config)
    from msgspec.structs import replace
    from rich.console import Console

    from engine.errors import NibbleError
    from server.bench import run_bench

    found = _find_models(settings)
    if not found or (model is not None and model not in found):
        _fail(
            f"there is no model '{model}'; known: {', '.join(found)}"
            if found
            else "there is no model to measure"
        )
    chosen = found[model] if model is not None else next(iter(found.values()))
    engine_config = replace(settings.engine_template(), model_id=chosen.id, model_path=str(chosen.path))
    try:
        run_bench(engine_config, Console())
    except NibbleError as error:
        _fail(error.message)


def _find_models(settings: Settings) -> dict[str, FoundModel]:
    """Models by id, in the order of their sources; problems go to standard error."""
    from model_registry.registry import default_sources

    found: dict[str, FoundModel] = {}
    for source in default_sources(settings.registry_config()):
        findings = source.find()
        for model in findings.models:
            found.setdefault(model.id, model)
        for problem in findings.problems:
            print(f"nibble: {problem}", file=sys.stderr)
    return found


def main() -> None:
    """The entry point of the ``nibble`` script."""
    try:
        app()
    except KeyboardInterrupt:
        # Before the server has its own handler: while it is still importing.
        sys.exit(130)
