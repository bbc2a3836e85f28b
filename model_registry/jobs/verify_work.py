"""Reading a model's files whole and trying it out, as a job."""

from __future__ import annotations

from pathlib import Path

from model_registry.jobs.job_order import VerifyOrder
from model_registry.jobs.job_report import JobReport
from model_registry.jobs.workshop import Workshop
from model_registry.verification import check_digests


def verify(order: VerifyOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the model. Raises ModelLoadFailed where its bytes are not those that it was imported with."""
    detail = workshop.detail(order.model, report)
    report.say(f"reading {detail.path}")
    check_digests(
        [Path(file) for file in detail.files],
        detail.digests,
        detail.owned_by,
        lambda here: report.progress(here, detail.file_bytes),
    )
    report.say(f"trying out {detail.id}")
    report.run(workshop.registry.try_out(detail.id))
    return detail.id
