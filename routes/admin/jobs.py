"""Jobs: what is under way, how far it is, and its end."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from engine.errors import JobNotFound
from model_registry.jobs.job import JobSnapshot
from routes.admin.models import json_answer
from routes.caller import Caller, caller_of
from routes.event_stream import EventStream
from routes.listing import Listing
from routes.openai.chunk_encoder import frame
from routes.openai.documentation import WITHOUT_BODY, WITHOUT_MODEL, answers, struct_schema
from routes.openai.errors import render_failure
from routes.outbox import Outbox
from routes.services import Services

_NEVER = WITHOUT_BODY | WITHOUT_MODEL | {"model_not_found"}
_JOB_ID = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
_ONE = answers(JobSnapshot, never=_NEVER, also=frozenset({"job_not_found"}))


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    def visible(request: Request) -> JobSnapshot:
        """The job that the path names. Raises JobNotFound, also for that of a model which is not the key's."""
        job_id = request.path_params["job_id"]
        job = services.jobs.job(job_id)
        if not _may_see(caller_of(request), job):
            raise JobNotFound(f"job '{job_id[:100]}' does not exist, or ended long ago: list them")
        return job

    @router.get("/admin/v1/jobs", response_model=None, responses=answers(Listing[JobSnapshot], never=_NEVER))
    async def list_jobs(request: Request) -> Response:
        """Jobs that wait or run, and those that ended lately; the newest first."""
        caller = caller_of(request)
        return json_answer(Listing(data=tuple(job for job in services.jobs.jobs() if _may_see(caller, job))))

    @router.get(
        "/admin/v1/jobs/{job_id}",
        response_model=None,
        responses=_ONE,
        openapi_extra={"parameters": [_JOB_ID]},
    )
    async def show_job(request: Request) -> Response:
        """One job, as it is now."""
        return json_answer(visible(request))

    @router.get(
        "/admin/v1/jobs/{job_id}/events",
        response_model=None,
        responses=_ONE
        | {
            200: {
                "description": "The job as it is now, again whenever it has changed, and last when it is over.",
                "content": {"text/event-stream": {"schema": struct_schema(JobSnapshot)}},
            }
        },
        openapi_extra={"parameters": [_JOB_ID]},
    )
    async def follow_job(request: Request) -> Response:
        """One job until it is over. Whoever lost the connection asks again, and misses nothing but the past."""
        job_id = visible(request).id

        async def tell(outbox: Outbox) -> None:
            async with aclosing(services.jobs.watch(job_id)) as jobs:
                async for job in jobs:
                    outbox.put(frame(job))
            outbox.end(b"")

        return EventStream(tell, services.policy, {}, render_failure)

    @router.delete(
        "/admin/v1/jobs/{job_id}",
        response_model=None,
        responses=_ONE,
        openapi_extra={"parameters": [_JOB_ID]},
    )
    async def cancel_job(request: Request) -> Response:
        """Cancel a job; one that is over stays as it ended. What was fetched stays, and the next pull goes on."""
        return json_answer(services.jobs.cancel(visible(request).id))

    return router


def _may_see(caller: Caller, job: JobSnapshot) -> bool:
    return caller.models is None or job.model in caller.models
