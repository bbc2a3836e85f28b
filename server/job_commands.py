"""``nibble jobs``: long work of a running server, listed, followed and cancelled."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from server.command_line import AsJson, ConfigFile, DataDir, fail, print_json, print_rows, say
from server.progress_bar import progress_bar
from server.residence_commands import Url, connected

if TYPE_CHECKING:
    from model_registry.jobs.job import JobSnapshot

job_app = typer.Typer(help="List a running server's jobs, follow one, or cancel it.")

JobId = Annotated[str, typer.Argument(help="Id of the job, as listed.", metavar="JOB")]


@job_app.callback(invoke_without_command=True)
def list_jobs(
    ctx: typer.Context,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """List a running server's jobs (the default), follow one, or cancel it."""
    if ctx.invoked_subcommand is not None:
        return
    from model_registry.jobs.job import JobSnapshot
    from routes.listing import Listing

    with connected(data_dir, config, url) as server:
        jobs = server.get("/admin/v1/jobs", Listing[JobSnapshot]).data
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        say("there are no jobs")
        return
    print_rows([_line(job) for job in jobs])


@job_app.command()
def follow(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show a job's progress until it is over; the exit status tells how it ended. Ctrl-C leaves it running."""
    with connected(data_dir, config, url) as server:
        try:
            last = _printed(server.follow(job_id)) if as_json else _drawn(server.follow(job_id))
        except KeyboardInterrupt:
            say(f"{job_id} goes on; end it with 'nibble jobs cancel {job_id}'")
            raise typer.Exit(130) from None
    if last.state != "succeeded":
        fail(last.message)
    if as_json:
        return
    if last.result is not None:
        from rich.console import Console

        from server.tune_report import table_of

        Console().print(table_of(last.result))
    print(last.message)


@job_app.command()
def cancel(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Cancel a job. What it has fetched stays, and the next pull of the same goes on from there."""
    from model_registry.jobs.job import JobSnapshot

    with connected(data_dir, config, url) as server:
        job = server.delete(f"/admin/v1/jobs/{job_id}", JobSnapshot)
    if as_json:
        print_json(job)
    else:
        print(f"{job.id} is {job.state}")


def _printed(jobs: Iterable[JobSnapshot]) -> JobSnapshot:
    """One line of JSON for each change; the last of them."""
    import msgspec

    for job in jobs:
        print(msgspec.json.encode(job).decode(), flush=True)
    return job


def _drawn(jobs: Iterable[JobSnapshot]) -> JobSnapshot:
    """A bar; the job as it was last."""
    following = iter(jobs)
    first = next(following)
    # A tuning has pieces of other units than bytes.
    with progress_bar(is_bytes=first.kind != "tune", is_kept=True) as progress:
        for job in chain([first], following):
            progress.rename(job.message)
            progress(job.done, job.total)
    return job


def _line(job: JobSnapshot) -> tuple[str, ...]:
    began = datetime.datetime.fromtimestamp(job.created, datetime.UTC).strftime("%Y-%m-%d %H:%M")
    share = f"{100 * job.done / job.total:.0f} %" if job.total else ""
    return job.id, job.kind, job.state, share, began, job.about, job.message
