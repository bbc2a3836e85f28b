"""``nibble tune``: which quantisation of a model serves best on this machine, and what it costs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import (
    AsJson,
    ConfigFile,
    DataDir,
    ModelsDir,
    end_on_sigterm,
    fail,
    print_json,
    say,
    settings_from,
    told,
)
from server.model_commands import ModelName, open_shelf
from server.progress_bar import ProgressBar, progress_bar
from server.quantize_command import Threads, quantizer_of

if TYPE_CHECKING:
    from model_registry.tune.measuring import Unit
    from model_registry.tune.tuning import Tuning


def install(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(tune)


def tune(
    model: ModelName,
    text: Annotated[
        Path | None,
        typer.Option(
            help="Text to measure perplexity on, such as your own prompts [default: some 2,400 words of prose].",
            show_default=False,
        ),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            help="Types to try, with commas between [default: those that are sensible for the file].",
            show_default=False,
        ),
    ] = None,
    apply: Annotated[
        str | None,
        typer.Option(help="Make the twin of this type, measure it, and let it serve in the model's place."),
    ] = None,
    revert: Annotated[
        bool, typer.Option("--revert", help="Let the model serve its requests itself again.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the plot, .png or .svg [default: tune-MODEL.png here, if matplotlib is installed].",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Measure a model and twins of it in other types here: speed, memory, perplexity. Nothing changes without --apply.

    A twin that was applied is a model of its own, too. --revert goes back to the original, which is never touched;
    'nibble rm TWIN' then deletes the twin.
    """
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir, threads=threads)
    from model_registry.tune.tuner import Tuner

    shelf, store = open_shelf(settings)
    tuner = Tuner(shelf, store, settings.registry_config(), quantizer_of(settings, shelf, store))
    with told():
        chosen = shelf.bare(model)
    if revert:
        if any(given is not None for given in (text, types, apply, plot, threads)):
            fail("--revert measures nothing: give it alone")
        with told():
            twin = tuner.revert(chosen)
        if as_json:
            print_json({"id": chosen.id, "twin": None})
        else:
            print(f"{chosen.id} serves its requests itself again; 'nibble rm {twin}' deletes its twin")
        return
    from engine.quantization_type import quantization_type
    from model_registry.tune.sample_text import checked_text, sample_text
    from server.tune_report import plot_fault

    if plot is not None and (fault := plot_fault(plot)):
        fail(fault)
    end_on_sigterm()
    with told():
        read = sample_text() if text is None else checked_text(_read(text), str(text))
        wanted = [quantization_type(each, param="types") for each in (types or "").split(",") if each.strip()]
        tuning = tuner.tune(
            chosen,
            read,
            types=wanted,
            apply=None if apply is None else quantization_type(apply, param="apply"),
            threads=settings.threads,
            stage=_stage,
        )
    for reason in (*tuning.left_out, *tuning.disturbed):
        say(reason)
    if as_json:
        print_json(tuning.report())
    else:
        _print(tuning)
    _plot(tuning, plot or Path(f"tune-{tuning.model}.png"), is_wanted=plot is not None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read ({error.strerror})")


@contextmanager
def _stage(title: str, unit: Unit) -> Generator[ProgressBar]:
    with progress_bar(title, is_bytes=unit == "bytes") as progress:
        yield progress


def _print(tuning: Tuning) -> None:
    from rich.console import Console

    from server.tune_report import cost_of, table_of

    Console().print(table_of(tuning))
    if (twin := tuning.twin_record) is not None:
        print(f"{tuning.model} is served by {twin.id} from now on: {cost_of(twin)}")
        print(f"'nibble tune {tuning.model} --revert' goes back to the original")
    elif tuning.twins:
        print(f"'nibble tune {tuning.model} --apply TYPE' lets one of them serve in its place")


def _plot(tuning: Tuning, path: Path, *, is_wanted: bool) -> None:
    """Write the plot. Where nobody has asked for one, none is no fault."""
    from server.tune_report import plot_fault, write_plot

    fault = plot_fault(path)
    if fault is None:
        try:
            write_plot(tuning, path)
        except OSError as error:
            fault = f"{path} cannot be written ({error.strerror})"
    if fault is None:
        say(f"the plot is in {path}")
    elif is_wanted:
        fail(fault)
    else:
        say(fault)
