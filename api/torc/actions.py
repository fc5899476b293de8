"""What changes the state of jobs and workflows: claims, starts, completions, resets."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.decoding import LARGEST_INTEGER
from lading.api.routing import MEBIBYTE, Query, Route
from lading.api.services import execution, lifecycle, specifications, submissions
from lading.api.services.documents import workflows
from lading.api.services.ledger import Steps
from lading.api.storage.statements import Effects
from lading.api.torc.answers import now_ms, write
from lading.toolkit.domain.packing import Offer, parse_sort_method
from lading.toolkit.domain.spec import WorkflowConfig, to_document
from lading.toolkit.domain.spec_reader import read_specification
from lading.toolkit.domain.tree import Node
from lading.toolkit.domain.values import parse_duration
from lading.toolkit.errors import NotFound
from lading.toolkit.wire import torc, torc_answers

SPECIFICATION_BODY = 512 * MEBIBYTE
GIBIBYTE = 2**30
_WORKFLOW = "/workflows/{key}"
_JOB = "/workflows/{workflow}/jobs/{key}"
_LIMIT = Query("limit", int, execution.MAXIMUM_LIMIT, minimum=0)
_CLAIMS = ("claims",)
_LIFE = ("workflows",)


# ---- workflow specifications ----------------------------------------------------------------


async def add_specification(call: Call) -> Any:
    """Store a whole workflow: everything is read and checked first, then stored in one transaction."""
    # A document without jobs is what torc's template is; files that people write must have some.
    specification = read_specification(Node.from_plain(call.body), may_have_no_jobs=True)
    config = {**workflows.default_config(), **_config(specification.config)}

    def steps(effects: Effects) -> Steps:
        row = yield from specifications.store(
            call.principal, specification, config, now_ms=now_ms(call), effects=effects
        )
        return workflows.workflow_document(row)

    return await write(call, steps)


def _config(config: WorkflowConfig) -> dict[str, Any]:
    """Return what a specification's config says, its nested part complete."""
    document = to_document(config)
    if "compute_node_resource_stats" in document:
        defaults = workflows.default_config()["compute_node_resource_stats"]
        document["compute_node_resource_stats"] = {**defaults, **document["compute_node_resource_stats"]}
    return document


# ---- a workflow's life ----------------------------------------------------------------------


async def initialize_jobs(call: Call) -> Any:
    return await call.services.database.write(
        lifecycle.initialize_jobs(
            call.principal,
            call.path["key"],
            only_uninitialized=call.query["only_uninitialized"],
            clear_ephemeral=call.query["clear_ephemeral_user_data"],
            now_ms=now_ms(call),
        )
    )


async def reset_status(call: Call) -> Any:
    return await call.services.database.write(
        lifecycle.reset_status(call.principal, call.path["key"], now_ms(call))
    )


async def reset_job_status(call: Call) -> Any:
    return await call.services.database.write(
        lifecycle.reset_job_status(
            call.principal, call.path["key"], failed_only=call.query["failed_only"], now_ms=now_ms(call)
        )
    )


async def cancel_workflow(call: Call) -> Any:
    return await call.services.database.write(
        lifecycle.cancel(call.principal, call.path["key"], now_ms(call))
    )


async def is_complete(call: Call) -> Any:
    """Say whether a workflow is over.

    Without authentication the caller may be a worker of an old client, which learns here that it is to
    run the completion script. Who sends a token is a person: our runners claim the script by name.
    """
    may_run_script = call.principal.token_id is None and not call.services.read_only
    work = execution.is_complete(
        call.principal, call.path["key"], may_run_script=may_run_script, now_ms=now_ms(call)
    )
    if call.services.read_only:
        return await call.services.database.read(work)
    return await call.services.database.write(work)


# ---- claims ---------------------------------------------------------------------------------


async def prepare_jobs(call: Call) -> Any:
    resources: torc.ComputeNodeResources = call.body
    offer = Offer(
        resources.num_cpus,
        int(min(resources.memory_gb * GIBIBYTE, LARGEST_INTEGER)),
        resources.num_gpus,
        resources.num_nodes,
        None if resources.time_limit is None else parse_duration(resources.time_limit),
        resources.scheduler_config_id or "",
    )
    return await call.services.database.write(
        execution.prepare_jobs(
            call.principal,
            call.path["key"],
            offer,
            parse_sort_method(call.query["sort_method"]),
            min(call.query["limit"], execution.MAXIMUM_LIMIT),
            now_ms(call),
        )
    )


async def prepare_next_jobs(call: Call) -> Any:
    limit = min(call.query["limit"], execution.MAXIMUM_LIMIT)
    return await call.services.database.write(
        execution.prepare_next_jobs(call.principal, call.path["key"], limit, now_ms(call))
    )


async def prepare_scheduling(call: Call) -> Any:
    return await call.services.database.write(
        submissions.prepare_jobs_for_scheduling(
            call.principal, call.path["key"], launch=call.query["launch"], now_ms=now_ms(call)
        )
    )


# ---- one job --------------------------------------------------------------------------------


def _run_id(call: Call) -> int:
    # A path value of the wrong type makes torc's route not match: 404, not 400.
    text = call.path["run_id"]
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
        raise NotFound(f"run_id: {text!r} is not an integer")
    return int(text)


async def start_job(call: Call) -> Any:
    return await call.services.database.write(
        execution.start_job(
            call.principal,
            call.path["workflow"],
            call.path["key"],
            rev=call.path["rev"],
            run_id=_run_id(call),
            node=call.path["compute_node_key"],
            now_ms=now_ms(call),
        )
    )


async def complete_job(call: Call) -> Any:
    result: torc.Result = call.body
    return await call.services.database.write(
        execution.complete_job(
            call.principal,
            call.path["workflow"],
            call.path["key"],
            status=call.path["status"],
            rev=call.path["rev"],
            run_id=_run_id(call),
            node=call.path["compute_node_key"],
            result=result.filled(),
            now_ms=now_ms(call),
        )
    )


async def manage_status_change(call: Call) -> Any:
    return await call.services.database.write(
        execution.manage_status_change(
            call.principal,
            call.path["workflow"],
            call.path["key"],
            status=call.path["status"],
            rev=call.path["rev"],
            run_id=_run_id(call),
            now_ms=now_ms(call),
        )
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/workflow_specifications", "add_workflow_specification", add_specification,
        "Store a whole workflow from its specification, or nothing of it.", body=dict,
        response=torc.Workflow, creates=True, maximum_body=SPECIFICATION_BODY, tags=_LIFE,
    ),
    Route(
        "POST", f"{_WORKFLOW}/initialize_jobs", "initialize_jobs", initialize_jobs,
        "Evaluate dependencies; jobs become ready or blocked.", response=torc_answers.Message, tags=_LIFE,
        query=(
            Query("only_uninitialized", bool, default=False),
            Query("clear_ephemeral_user_data", bool, default=True),
        ),
    ),
    Route(
        "POST", f"{_WORKFLOW}/reset_status", "reset_workflow_status", reset_status,
        "Forget that the workflow was canceled.", response=torc_answers.Message, tags=_LIFE,
    ),
    Route(
        "POST", f"{_WORKFLOW}/reset_job_status", "reset_job_status", reset_job_status,
        "Make jobs uninitialized: all, or the failed ones and what is behind them.", response=torc_answers.Message, tags=_LIFE,
        query=(Query("failed_only", bool, default=False),),
    ),
    Route(
        "PUT", f"{_WORKFLOW}/cancel", "cancel_workflow", cancel_workflow,
        "Cancel the workflow; running jobs are killed.", response=torc_answers.Message, tags=_LIFE,
    ),
    Route(
        "GET", f"{_WORKFLOW}/is_complete", "is_workflow_complete", is_complete,
        "Say whether the workflow is over.", response=torc_answers.WorkflowCompleteness, tags=_LIFE,
    ),
    Route(
        "POST", f"{_WORKFLOW}/prepare_jobs_for_submission", "prepare_jobs_for_submission", prepare_jobs,
        "Claim jobs that fit what a worker has left.", body=torc.ComputeNodeResources, response=torc_answers.ClaimedJobs,
        query=(Query("sort_method", str, "gpus_runtime_memory"), _LIMIT), tags=_CLAIMS,
    ),
    Route(
        "POST", f"{_WORKFLOW}/prepare_next_jobs_for_submission", "prepare_next_jobs_for_submission",
        prepare_next_jobs, "Claim the next jobs, whatever they ask for.", response=torc_answers.ClaimedJobs,
        query=(Query("limit", int, 1, minimum=0),), tags=_CLAIMS,
    ),
    Route(
        "POST", f"{_WORKFLOW}/prepare_jobs_for_scheduling", "prepare_jobs_for_scheduling",
        prepare_scheduling, "Mark ready jobs that ask for allocations as scheduled; return what they ask for.",
        response=torc_answers.SchedulerRequests, query=(Query("launch", bool, default=False),), tags=_CLAIMS,
    ),
    Route(
        "PUT", f"{_JOB}/start_job/{{rev}}/{{run_id}}/{{compute_node_key}}", "start_job", start_job,
        "Confirm that a claimed job runs.", response=torc.Job, tags=_CLAIMS,
    ),
    Route(
        "POST", f"{_JOB}/complete_job/{{status}}/{{rev}}/{{run_id}}/{{compute_node_key}}", "complete_job",
        complete_job, "Store a job's result and unblock or cancel what is behind it.", body=torc.Result,
        response=torc.Job, tags=_CLAIMS,
    ),
    Route(
        "PUT", f"{_JOB}/manage_status_change/{{status}}/{{rev}}/{{run_id}}", "manage_status_change",
        manage_status_change, "Change a job's status.", response=torc.Job, tags=_CLAIMS,
    ),
)  # fmt: skip
