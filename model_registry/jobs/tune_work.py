"""Measuring a model and its twins, and letting one serve in its place, as a job."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from engine.quantization_type import quantization_type
from model_registry.jobs.job_order import TuneOrder
from model_registry.jobs.job_report import JobCancelled, JobReport
from model_registry.jobs.quantize_work import open_quantizer
from model_registry.jobs.workshop import Workshop
from model_registry.quantize.quantizer import Progress
from model_registry.tune.measuring import Unit
from model_registry.tune.sample_text import sample_text
from model_registry.tune.tuner import Tuner
from model_registry.tune.tuning import Tuning


def tune(order: TuneOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the model. Of one that was cancelled nothing is left, and the model serves as before."""
    config = workshop.config
    quantizer, shelf, store = open_quantizer(report, workshop)
    tuner = Tuner(shelf, store, config, quantizer)
    model = shelf.named(order.model)
    if order.revert:
        twin = tuner.revert(model)
        report.conclude(f"{model.id} serves its requests itself again; its twin '{twin}' may be deleted")
        with suppress(JobCancelled):  # it is done; the registry's own look notices it, too
            report.run(workshop.registry.look())
        return model.id

    @contextmanager
    def stage(title: str, unit: Unit) -> Generator[Progress]:
        report.turn_to(title, unit)
        yield report.progress

    def room(path: Path) -> AbstractContextManager[None]:
        return workshop.room(model.id, path, report)

    report.say(f"planning twins of {model.id}")
    tuning = tuner.tune(
        model,
        sample_text() if order.text is None else order.text,
        types=[quantization_type(each, param="types") for each in order.types],
        apply=None if order.apply is None else quantization_type(order.apply, param="apply"),
        threads=config.engine.threads,
        stage=stage,
        room=room,
        cancel=report.cancel,
    )
    report.conclude(_told(tuning), tuning.report())
    if tuning.twin_id:
        known = shelf.named(tuning.twin_id).found.path if shelf.knows(tuning.twin_id) else None
        with suppress(JobCancelled):  # as above
            report.run(workshop.registry.take_in(known or quantizer.target(tuning.twin_id)))
    return model.id


def _told(tuning: Tuning) -> str:
    if tuning.twin_id:
        return f"{tuning.model} is served by {tuning.twin_id} from now on"
    types = ", ".join(twin.quantisation for twin in tuning.twins) or "no twin"
    left_out = f"; left out: {len(tuning.left_out)}" if tuning.left_out else ""
    return f"{tuning.model} was measured beside {types}{left_out}"
