"""Serving what is on this machine already, as a job: a file, or a model that another program has fetched."""

from __future__ import annotations

from pathlib import Path

from engine.errors import InvalidRequest
from model_registry.caches.found import cached_models, named
from model_registry.jobs.job_order import CachedImportOrder, ImportOrder
from model_registry.jobs.job_report import JobReport
from model_registry.jobs.workshop import Workshop
from model_registry.local_import import import_local
from model_registry.model_link import import_cached


def import_file(order: ImportOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the model, or of the one with that adapter."""
    report.say(f"trying out {order.path}")
    imported = import_local(
        Path(order.path),
        workshop.config,
        workshop.starting(report),
        model_name=order.base,
        cancel=report.cancel,
    )
    return workshop.take_in(imported, report)


def import_from_cache(order: CachedImportOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the model. Raises InvalidRequest for a name that means none there, or several."""
    try:
        model = named(cached_models([order.cache]), order.name)
    except LookupError as error:
        raise InvalidRequest(str(error), param="name") from None
    for note in model.notes:
        report.say(note)
    report.say(f"trying out {model.name}")
    registered = import_cached(model, workshop.config, workshop.starting(report), report.cancel)
    return workshop.take_in(registered, report)
