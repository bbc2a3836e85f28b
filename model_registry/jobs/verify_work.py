"""Reading a model's files whole and trying it out, as a job."""

from __future__ import annotations

from pathlib import Path

from model_registry.adapter_files import AdapterFiles
from model_registry.blobs import kept_digest
from model_registry.jobs.job_order import VerifyOrder
from model_registry.jobs.job_report import JobReport
from model_registry.jobs.workshop import Workshop
from model_registry.verification import check_digests


def verify(order: VerifyOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the model, with an adapter or without. Raises ModelLoadFailed where its bytes are not those that it was
    imported with, or the adapter is not the model's.
    """
    adapter = workshop.adapter_files(order.model, report)
    if adapter is not None:
        _verify_adapter(adapter, report, workshop)
        return adapter.id
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


def _verify_adapter(adapter: AdapterFiles, report: JobReport, workshop: Workshop) -> None:
    """The adapter alone: its model is another that can be asked about."""
    report.say(f"reading {adapter.path}")
    adapter.check_header()
    check_digests(
        [adapter.path],
        [kept_digest(adapter.path)],
        "local",
        lambda here: report.progress(here, adapter.file_bytes),
    )
    report.say(f"trying out {adapter.id}")
    report.run(workshop.registry.try_out_adapter(adapter.id))
