"""``nibble quantize``: a model in another type of quantisation, as a new model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.quantization_type import OFFERED_TYPES, WEIGHED_TYPES
from server.command_line import (
    AsJson,
    ConfigFile,
    DataDir,
    ModelsDir,
    end_on_sigterm,
    option,
    print_json,
    say,
    settings_from,
    told,
)
from server.model_commands import ModelName, open_shelf
from server.progress_bar import progress_bar

if TYPE_CHECKING:
    from model_registry.quantize.quantization_plan import QuantizationPlan
    from model_registry.quantize.quantizer import Quantizer
    from model_registry.shelf import Shelf
    from model_registry.store.model_store import ModelStore
    from server.settings import Settings

AllowRequantize = Annotated[
    bool,
    typer.Option(
        "--allow-requantize", help="Round weights again that are rounded already, knowing what it costs."
    ),
]
Threads = Annotated[int | None, option("threads")]


def install(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(quantize)


def quantize(
    model: ModelName,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help=f"Type to make, in any case: {', '.join(OFFERED_TYPES)}; with --imatrix also"
            f" {', '.join(WEIGHED_TYPES)}.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new model [default: the model's, with the type].", show_default=False),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option(
            help="Importance matrix, made of the model by llama.cpp's llama-imatrix: GGUF, or the older .dat.",
            show_default=False,
        ),
    ] = None,
    allow_requantize: AllowRequantize = False,
    threads: Threads = None,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Make a smaller or faster file of a model: a new model, tried out, that remembers its parent."""
    settings = settings_from(config, models_dir=models_dir, data_dir=data_dir, threads=threads)
    shelf, store = open_shelf(settings)
    quantizer = quantizer_of(settings, shelf, store)
    end_on_sigterm()
    with told():
        plan = quantizer.plan(
            shelf.bare(model), to, name=name, allow_requantize=allow_requantize, imatrix=imatrix
        )
        say(_announced(plan))
        with (
            progress_bar(f"{plan.target.name}") as progress,
            quantizer.written(plan, threads=settings.threads, progress=progress) as new,
        ):
            say(f"trying out {plan.target.name} ...")
            record = quantizer.keep(plan, new)
    if as_json:
        print_json(
            {
                "id": plan.target.stem.lower(),
                "parent": plan.model,
                "path": record.path,
                "quantisation": plan.to.name,
                "file_bytes": record.file_bytes,
                "estimated_bytes": plan.target_bytes,
                "parent_bytes": plan.source_bytes,
                "fallback_tensors": plan.fallbacks,
                "imatrix": str(plan.imatrix) if plan.imatrix else None,
                "unweighed_tensors": plan.unweighed,
                "cost": plan.cost,
            }
        )
        return
    share = record.file_bytes / plan.source_bytes
    print(
        f"{plan.target.stem.lower()}: {plan.to.name}, {record.file_bytes / 1e6:,.1f} MB"
        f" ({share:.0%} of {plan.model}'s {plan.source_bytes / 1e6:,.1f} MB), it works"
    )


def _announced(plan: QuantizationPlan) -> str:
    lines = [
        f"{plan.target.name} will take about {plan.target_bytes / 1e6:,.1f} MB"
        f" ({plan.source_bytes / 1e6:,.1f} MB now)"
    ]
    if plan.fallbacks:
        lines.append(
            f"{plan.fallbacks} of {len(plan.tensor_bytes)} tensors have rows that do not divide into blocks of"
            f" {plan.to.name}, and get the next larger type"
        )
    if plan.unweighed:
        lines.append(
            f"{plan.unweighed} of {len(plan.tensor_bytes)} tensors are rounded without the importance matrix, which"
            " does not tell of them"
        )
    if plan.cost:
        lines.append(plan.cost)
    return "\nnibble: ".join(lines)


def quantizer_of(settings: Settings, shelf: Shelf, store: ModelStore) -> Quantizer:
    """One that makes its models where these settings have them."""
    from engine.engine import Engine
    from model_registry.quantize.quantizer import Quantizer

    return Quantizer(shelf, store, settings.registry_config(), settings.models_path, Engine.start)
