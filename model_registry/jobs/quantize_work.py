"""Quantising a model into a new one, as a job."""

from __future__ import annotations

from pathlib import Path

from model_registry.jobs.job_order import QuantizeOrder
from model_registry.jobs.job_report import JobReport
from model_registry.jobs.workshop import Workshop
from model_registry.quantize.quantizer import Quantizer
from model_registry.registration import models_directory
from model_registry.shelf import Shelf
from model_registry.sources.default_sources import default_sources
from model_registry.store.model_store import ModelStore


def quantize(order: QuantizeOrder, report: JobReport, workshop: Workshop) -> str:
    """The id of the new model. Of one that was cancelled nothing is left."""
    config = workshop.config
    quantizer, shelf, _ = open_quantizer(report, workshop)
    report.say(f"planning {order.to} of {order.model}")
    plan = quantizer.plan(
        shelf.named(order.model),
        order.to,
        name=order.name,
        allow_requantize=order.allow_requantize,
        imatrix=Path(order.imatrix) if order.imatrix else None,
        cancel=report.cancel,
    )
    report.say(f"writing {plan.target.name}, some {plan.target_bytes / 1e6:,.1f} MB")
    with quantizer.written(
        plan, threads=config.engine.threads, progress=report.progress, cancel=report.cancel
    ) as new:
        report.say(f"trying out {plan.target.name}")
        quantizer.keep(plan, new, cancel=report.cancel)
    return report.run(workshop.registry.take_in(plan.target))


def open_quantizer(report: JobReport, workshop: Workshop) -> tuple[Quantizer, Shelf, ModelStore]:
    """One that makes its models where the server has them, and what it stands on. Raises ModelNotFound."""
    config = workshop.config
    store = ModelStore.in_directory(config.data_dir)
    # One of its own, since this is another thread than the registry's.
    shelf = Shelf(default_sources(config), store, config)
    shelf.fill()
    quantizer = Quantizer(shelf, store, config, models_directory(config), workshop.starting(report))
    return quantizer, shelf, store
