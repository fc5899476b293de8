"""Jobs and what belongs to them: endpoints that read and write documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lading.api.context import Call
from lading.api.routing import MEBIBYTE, Query, Route
from lading.api.services import jobs
from lading.api.services.documents import of_jobs
from lading.api.services.documents.collections import JOBS
from lading.api.services.documents.reading import get_document, list_documents
from lading.api.torc.answers import PAGE, SORTED_PAGE, now_ms, paging_of, write
from lading.api.torc.documents import filters
from lading.toolkit.wire import torc, torc_answers

_JOBS = "/workflows/{workflow}/jobs"
_JOB = _JOBS + "/{key}"
_TAGS = ("jobs",)


def _add(call: Call, documents: list[dict[str, Any]], path: str) -> Any:
    return write(
        call,
        lambda effects: of_jobs.add_jobs(
            call.principal, call.path["workflow"], documents, path, now_ms(call), effects
        ),
    )


async def add_job(call: Call) -> Any:
    """Store one job; its relations become edges."""
    [job] = await _add(call, [call.body.filled()], "")
    return job


async def add_jobs(call: Call) -> Any:
    """Store many jobs, all or none."""
    return {"items": await _add(call, [job.filled() for job in call.body.jobs], "jobs")}


async def list_jobs(call: Call) -> Any:
    """Return a page of jobs."""
    return await list_documents(call.services, call.principal, call.path["workflow"], JOBS, paging_of(call))


async def list_jobs_by_status(call: Call) -> Any:
    """Return a page of the jobs with a status."""
    paging = replace(paging_of(call), filters={"status": call.path["status"]})
    return await list_documents(call.services, call.principal, call.path["workflow"], JOBS, paging)


async def get_job(call: Call) -> Any:
    """Return a job."""
    return await get_document(call.services, call.principal, call.path["workflow"], JOBS, call.path["key"])


async def modify_job(call: Call) -> Any:
    """Patch a job."""
    work = jobs.modify_job(
        call.principal, call.path["workflow"], call.path["key"], call.body.sent(), now_ms(call)
    )
    return await call.services.database.write(work)


async def remove_job(call: Call) -> Any:
    """Remove a job."""
    return await write(
        call,
        lambda effects: of_jobs.remove_job(
            call.principal, call.path["workflow"], call.path["key"], now_ms(call), effects
        ),
    )


async def delete_jobs(call: Call) -> Any:
    """Remove all jobs."""
    return await write(
        call,
        lambda effects: of_jobs.remove_all_jobs(call.principal, call.path["workflow"], now_ms(call), effects),
    )


async def list_job_keys(call: Call) -> Any:
    """Return the keys of all jobs."""
    return await of_jobs.job_keys(call.services, call.principal, call.path["workflow"])


async def list_jobs_by_needs_file(call: Call) -> Any:
    """Return a page of the jobs that need a file."""
    return await of_jobs.list_jobs_of_file(
        call.services, call.principal, call.path["workflow"], call.path["key"], paging_of(call)
    )


async def list_downstream_jobs(call: Call) -> Any:
    """Return a page of the jobs behind a job."""
    return await of_jobs.list_downstream_jobs(
        call.services, call.principal, call.path["workflow"], call.path["key"], paging_of(call)
    )


async def get_job_resource_requirements(call: Call) -> Any:
    """Return the requirements of a job."""
    return await of_jobs.requirements_of_job(
        call.services, call.principal, call.path["workflow"], call.path["key"]
    )


async def modify_job_resource_requirements(call: Call) -> Any:
    """Connect a job to requirements."""
    return await write(
        call,
        lambda effects: of_jobs.assign_requirements(
            call.principal,
            call.path["workflow"],
            call.path["key"],
            call.path["rr_key"],
            now_ms(call),
            effects,
        ),
    )


async def get_process_stats_for_job(call: Call) -> Any:
    """Return the process statistics of a job."""
    return await of_jobs.process_stats_of_job(
        call.services, call.principal, call.path["workflow"], call.path["key"]
    )


async def add_job_user_data(call: Call) -> Any:
    """Store user data that a job stores."""
    document = call.body.filled()
    return await write(
        call,
        lambda _effects: of_jobs.add_user_data_of_job(
            call.principal, call.path["workflow"], call.path["key"], document, now_ms(call)
        ),
    )


async def list_job_user_data_stores(call: Call) -> Any:
    """Return the user data that a job stores."""
    return await of_jobs.list_user_data_of_job(
        call.services, call.principal, call.path["workflow"], call.path["key"], "stores"
    )


async def list_job_user_data_consumes(call: Call) -> Any:
    """Return the user data that a job consumes."""
    return await of_jobs.list_user_data_of_job(
        call.services, call.principal, call.path["workflow"], call.path["key"], "consumes"
    )


async def get_latest_job_result(call: Call) -> Any:
    """Return the result of a job in the current run."""
    return await of_jobs.latest_result(call.services, call.principal, call.path["workflow"], call.path["key"])


async def list_files_produced_by_job(call: Call) -> Any:
    """Return a page of the files that a job produces."""
    return await of_jobs.list_files_of_job(
        call.services, call.principal, call.path["workflow"], call.path["key"], paging_of(call)
    )


_FILTERS: tuple[Query, ...] = filters(
    "name", "command", "status", booleans=["cancel_on_blocking_job_failure", "supports_termination"]
)

ROUTES: tuple[Route, ...] = (
    Route("GET", _JOBS, "list_jobs", list_jobs, "List jobs.",
          response=torc_answers.Page[torc.Job], query=SORTED_PAGE + _FILTERS, tags=_TAGS),
    Route("POST", _JOBS, "add_job", add_job, "Store a job.",
          body=torc.Job, response=torc.Job, creates=True, tags=_TAGS),
    Route("DELETE", _JOBS, "delete_jobs", delete_jobs, "Remove all jobs.",
          response=torc_answers.Message, tags=_TAGS),
    Route("GET", _JOB, "get_job", get_job, "Return a job.", response=torc.Job, tags=_TAGS),
    Route("PUT", _JOB, "modify_job", modify_job, "Patch a job.",
          body=torc.Job, response=torc.Job, tags=_TAGS),
    Route("DELETE", _JOB, "remove_job", remove_job, "Remove a job.", response=torc.Job, tags=_TAGS),
    Route("POST", "/workflows/{workflow}/bulk_jobs", "add_jobs", add_jobs, "Store many jobs, all or none.",
          body=torc.Jobs, response=torc_answers.StoredJobs, creates=True, maximum_body=64 * MEBIBYTE, tags=_TAGS),
    Route("GET", "/workflows/{workflow}/job_keys", "list_job_keys", list_job_keys,
          "Return the keys of all jobs.", response=torc_answers.JobKeys, tags=_TAGS),
    Route("GET", _JOBS + "/find_by_status/{status}", "list_jobs_by_status", list_jobs_by_status,
          "List the jobs with a status.", response=torc_answers.Page[torc.Job], query=PAGE, tags=_TAGS),
    Route("GET", _JOBS + "/find_by_needs_file/{key}", "list_jobs_by_needs_file", list_jobs_by_needs_file,
          "List the jobs that need a file.", response=torc_answers.Page[torc.Job], query=PAGE, tags=_TAGS),
    Route("GET", "/workflows/{workflow}/downstream_jobs/{key}", "list_downstream_jobs",
          list_downstream_jobs, "List the jobs behind a job, nearest first.",
          response=torc_answers.Page[torc.Job], query=PAGE, tags=_TAGS),
    Route("GET", _JOB + "/resource_requirements", "get_job_resource_requirements",
          get_job_resource_requirements, "Return the requirements of a job.",
          response=torc.ResourceRequirements, tags=_TAGS),
    Route("PUT", _JOB + "/resource_requirements/{rr_key}", "modify_job_resource_requirements",
          modify_job_resource_requirements, "Connect a job to requirements.",
          response=torc.Edge, tags=_TAGS),
    Route("GET", _JOB + "/process_stats", "get_process_stats_for_job", get_process_stats_for_job,
          "Return the process statistics of a job.", response=list[torc.JobProcessStats], tags=_TAGS),
    Route("POST", _JOB + "/user_data", "add_job_user_data", add_job_user_data,
          "Store user data that a job stores.",
          body=torc.UserData, response=torc.UserData, creates=True, tags=_TAGS),
    Route("GET", _JOB + "/user_data_stores", "list_job_user_data_stores", list_job_user_data_stores,
          "Return the user data that a job stores.", response=torc_answers.Page[torc.UserData], tags=_TAGS),
    Route("GET", _JOB + "/user_data_consumes", "list_job_user_data_consumes",
          list_job_user_data_consumes, "Return the user data that a job consumes.",
          response=torc_answers.Page[torc.UserData], tags=_TAGS),
    Route("GET", "/workflows/{workflow}/results/find_by_job/{key}", "get_latest_job_result",
          get_latest_job_result, "Return the result of a job in the current run.",
          response=torc.Result, tags=_TAGS),
    Route("GET", "/workflows/{workflow}/files/produced_by_job/{key}", "list_files_produced_by_job",
          list_files_produced_by_job, "List the files that a job produces.",
          response=torc_answers.Page[torc.File], query=PAGE, tags=_TAGS),
)  # fmt: skip
