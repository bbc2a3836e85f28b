"""The kinds of jobs that there are: one work and one line of the table for each.

A work blocks, in a thread of its own. It returns the id of the model that it was about, and ends with one of the
exceptions that ``JobQueue`` takes for a cancel when ``report.cancel`` is set; a file that it had begun is then either
of use to the next one or removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from model_registry.jobs.import_work import import_file, import_from_cache
from model_registry.jobs.job_order import (
    CachedImportOrder,
    ImportOrder,
    JobKindName,
    JobOrder,
    JobUnit,
    PullOrder,
    QuantizeOrder,
    TuneOrder,
    VerifyOrder,
)
from model_registry.jobs.job_report import JobReport
from model_registry.jobs.verify_work import verify
from model_registry.jobs.workshop import Workshop
from model_registry.pull.remote_file import shown

Work = Callable[[Any, JobReport, Workshop], str]
"""Takes an order of its kind."""


class JobKind(msgspec.Struct, frozen=True, kw_only=True):
    name: JobKindName
    work: Work
    about: Callable[[Any], str]
    """What an order is about, in a few words that may be shown."""
    model: Callable[[Any], str | None] = lambda order: None
    """The model that an order names."""
    unit: JobUnit = "bytes"


def _pull(order: PullOrder, report: JobReport, workshop: Workshop) -> str:
    # Imported by the first of its kind: a server that starts does not wait for what downloads.
    from model_registry.pull.pull import pull_model

    registered = pull_model(
        order.source,
        workshop.config,
        workshop.starting(report),
        progress=report.progress,
        say=report.say,
        cancel=report.cancel,
        force=order.force,
    )
    return workshop.take_in(registered, report)


def _quantize(order: QuantizeOrder, report: JobReport, workshop: Workshop) -> str:
    from model_registry.jobs.quantize_work import quantize

    return quantize(order, report, workshop)


def _about_tune(order: TuneOrder) -> str:
    if order.revert:
        return f"{order.model} without its twin"
    types = ", ".join(order.types)
    return (
        order.model + (f" in {types}" if types else "") + (f", to apply {order.apply}" if order.apply else "")
    )


def _tune(order: TuneOrder, report: JobReport, workshop: Workshop) -> str:
    from model_registry.jobs.tune_work import tune

    return tune(order, report, workshop)


JOB_KINDS: dict[type[JobOrder], JobKind] = {
    PullOrder: JobKind(name="pull", work=_pull, about=lambda order: shown(order.source)),
    ImportOrder: JobKind(name="import", work=import_file, about=lambda order: order.path),
    CachedImportOrder: JobKind(
        name="import", work=import_from_cache, about=lambda order: f"{order.name} from {order.cache}"
    ),
    VerifyOrder: JobKind(
        name="verify", work=verify, about=lambda order: order.model, model=lambda order: order.model
    ),
    QuantizeOrder: JobKind(
        name="quantize",
        work=_quantize,
        about=lambda order: f"{order.model} to {order.to}" + (f" as {order.name}" if order.name else ""),
        model=lambda order: order.model,
    ),
    TuneOrder: JobKind(name="tune", work=_tune, about=_about_tune, model=lambda order: order.model),
}
"""A new kind of job is an order in ``job_order``, a work, a line here, and a route in ``routes.admin.new_jobs``."""
