"""The ``nibble`` command. Parses, and hands over; what is slow to import is imported where it is used."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from server import (
    chat_command,
    doctor_command,
    import_commands,
    model_commands,
    pull_commands,
    quantize_command,
    residence_commands,
    tune_command,
    upkeep_commands,
)
from server.command_line import ConfigFile, fail, read_settings, settings_from
from server.command_line import option as _option
from server.command_order import CommandOrder
from server.job_commands import job_app
from server.key_commands import key_app
from server.model_commands import open_shelf
from server.usage_command import usage

if TYPE_CHECKING:
    from server.settings import Settings

TABLES = {"models"}
"""Settings that are tables of nibble.toml, and no options."""

app = typer.Typer(
    name="nibble",
    cls=CommandOrder,
    help="Puts 4-bit GGUF models behind OpenAI's API, on your own machine.",
    epilog="Every option is also a variable (NIBBLE_PORT) and a key of nibble.toml (port).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from server.version import version_of

        print(f"nibble {version_of()} (llama-cpp-python {version_of('llama-cpp-python')})")
        raise typer.Exit


app.add_typer(key_app, name="key")
app.add_typer(job_app, name="jobs")
app.command("usage")(usage)


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


def _settings(ctx: typer.Context, config: Path | None) -> Settings:
    return settings_from(config, **_given(ctx))


def _given(ctx: typer.Context) -> dict[str, object]:
    return {name: value for name, value in ctx.params.items() if name != "config"}


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
    embed: Annotated[list[str] | None, _option("embed")] = None,
    matryoshka: Annotated[list[str] | None, _option("matryoshka")] = None,
    adapters: Annotated[list[str] | None, _option("adapters")] = None,
    context: Annotated[int | None, _option("context")] = None,
    parallel: Annotated[int | None, _option("parallel")] = None,
    threads: Annotated[int | None, _option("threads")] = None,
    gpu_layers: Annotated[int | None, _option("gpu_layers")] = None,
    kv_budget: Annotated[str | None, _option("kv_budget")] = None,
    kv_layout: Annotated[str | None, _option("kv_layout")] = None,
    cache_type: Annotated[str | None, _option("cache_type")] = None,
    flash_attention: Annotated[str | None, _option("flash_attention")] = None,
    prefix_memory: Annotated[str | None, _option("prefix_memory")] = None,
    prefix_disk: Annotated[str | None, _option("prefix_disk")] = None,
    step_target_ms: Annotated[float | None, _option("step_target_ms")] = None,
    speculation: Annotated[bool | None, _option("speculation", "--speculation/--no-speculation")] = None,
    draft_model: Annotated[Path | None, _option("draft_model")] = None,
    chat_template: Annotated[str | None, _option("chat_template")] = None,
    reasoning_format: Annotated[str | None, _option("reasoning_format")] = None,
    tool_format: Annotated[str | None, _option("tool_format")] = None,
    queue_limit: Annotated[int | None, _option("queue_limit")] = None,
    queue_tokens: Annotated[int | None, _option("queue_tokens")] = None,
    key_queue_limit: Annotated[int | None, _option("key_queue_limit")] = None,
    key_queue_tokens: Annotated[int | None, _option("key_queue_tokens")] = None,
    queue_timeout_s: Annotated[float | None, _option("queue_timeout_s")] = None,
    stall_limit_s: Annotated[float | None, _option("stall_limit_s")] = None,
    confine_workers: Annotated[
        bool | None, _option("confine_workers", "--confine-workers/--no-confine-workers")
    ] = None,
    load_timeout_s: Annotated[float | None, _option("load_timeout_s")] = None,
    strict: Annotated[bool | None, _option("strict", "--strict/--no-strict")] = None,
    request_timeout_s: Annotated[float | None, _option("request_timeout_s")] = None,
    max_body_bytes: Annotated[str | None, _option("max_body_bytes")] = None,
    header_timeout_s: Annotated[float | None, _option("header_timeout_s")] = None,
    body_timeout_s: Annotated[float | None, _option("body_timeout_s")] = None,
    send_timeout_s: Annotated[float | None, _option("send_timeout_s")] = None,
    max_header_bytes: Annotated[str | None, _option("max_header_bytes")] = None,
    ping_s: Annotated[float | None, _option("ping_s")] = None,
    drain_s: Annotated[float | None, _option("drain_s")] = None,
    memory_budget: Annotated[str | None, _option("memory_budget")] = None,
    keep_alive_s: Annotated[float | None, _option("keep_alive_s")] = None,
    allowed_hosts: Annotated[list[str] | None, _option("allowed_hosts")] = None,
    allowed_origins: Annotated[list[str] | None, _option("allowed_origins")] = None,
    api_key_file: Annotated[Path | None, _option("api_key_file")] = None,
    insecure_no_auth: Annotated[bool | None, _option("insecure_no_auth", "--insecure-no-auth")] = None,
    vllm_metrics: Annotated[bool | None, _option("vllm_metrics", "--vllm-metrics/--no-vllm-metrics")] = None,
    traces: Annotated[bool | None, _option("traces", "--traces/--no-traces")] = None,
    log_prompts: Annotated[bool | None, _option("log_prompts", "--log-prompts/--no-log-prompts")] = None,
    log_format: Annotated[str | None, _option("log_format")] = None,
    log_level: Annotated[str | None, _option("log_level")] = None,
    config: ConfigFile = None,
) -> None:
    """Serve the models."""
    # What a start makes is there to stay, and the collector would look through it again and again.
    # ServerProcess turns it on.
    gc.disable()
    from server.first_worker import FirstWorker
    from server.lean_imports import import_structlog

    with FirstWorker() as first:
        import_structlog()
        settings = _settings(ctx, config)
        from server.serve import StartError, run

        try:
            reread = partial(read_settings, config, **_given(ctx))
            code = run(settings, first.start_engine, reread, first.dismiss)
        except StartError as error:
            fail(str(error))
    raise typer.Exit(code)


@app.command()
def health(
    url: Annotated[
        str | None, typer.Option(help="Address of the server [default: host and port of the settings].")
    ] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it can answer requests.")] = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait.", min=0.1)] = 5.0,
    config: ConfigFile = None,
) -> None:
    """Ask a running server whether it is well; the exit status tells."""
    from server.health_check import check_health, url_for

    if url is None:
        settings = settings_from(config)
        url = url_for(settings.host, settings.port)
    is_well, line = check_health(url, ready=ready, timeout_s=timeout_s)
    if not is_well:
        fail(line)
    print(line)


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
    from rich.console import Console

    from engine.errors import NibbleError
    from server.bench import run_bench

    shelf, _ = open_shelf(settings)
    if not len(shelf):
        fail("there is no model to measure")
    try:
        chosen = next(iter(shelf)) if model is None else shelf.find(model)
    except NibbleError as error:
        fail(error.message)
    engine_config = chosen.engine_config(settings.registry_config())
    try:
        run_bench(engine_config, Console())
    except NibbleError as error:
        fail(error.message)


model_commands.install(app)
pull_commands.install(app)
residence_commands.install(app)
import_commands.install(app)
upkeep_commands.install(app)
doctor_command.install(app)
chat_command.install(app)
quantize_command.install(app)
tune_command.install(app)


def _narrow(arguments: Sequence[str]) -> None:
    """Leave out the commands that were not asked for: typer reads the options of each, which takes 0.1 s for all.

    Where the first argument names no command, all stay: for the help, and for what is misspelled.
    """
    name = arguments[0] if arguments else ""
    commands = [each for each in app.registered_commands if _name_of(each) == name]
    groups = [each for each in app.registered_groups if each.name == name]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def _name_of(command: CommandInfo) -> str:
    """As typer names it."""
    return command.name or get_command_name(getattr(command.callback, "__name__", ""))


def main() -> None:
    """The entry point of the ``nibble`` script."""
    _narrow(sys.argv[1:])
    try:
        app()
    except KeyboardInterrupt:
        # Before the server has its own handler: while it is still importing.
        sys.exit(130)
