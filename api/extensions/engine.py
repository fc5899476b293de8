"""Our own endpoints of the engine: nodes, submitter, and what people ask of a running workflow."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.routing import MEBIBYTE, NODES, PEOPLE, Query, Route
from lading.api.services import (
    allocations,
    jobs,
    lifecycle,
    nodes,
    planning,
    progress,
    restart,
    shapes,
    submission_reports,
    submissions,
    tuning,
)
from lading.api.services.idempotency import once
from lading.api.services.identity import Scope
from lading.api.services.sync import sync
from lading.api.services.wakeups import look_until_news
from lading.api.storage.statements import Effects, UseCase, Work
from lading.toolkit.clock import to_milliseconds
from lading.toolkit.errors import BadInput, Forbidden, NotFound
from lading.toolkit.wire.extensions import (
    Progress,
    RegisterRequest,
    RegisterResponse,
    RestartRequest,
    RestartResponse,
    StartRequest,
    SyncRequest,
    SyncResponse,
)
from lading.toolkit.wire.submissions import (
    AllocationRequest,
    AllocationRequestResponse,
    Launch,
    OpenAllocation,
    Planning,
    ShapeWanted,
    SubmitterSyncRequest,
    SubmitterSyncResponse,
)

SHORTEST_SECRET = 32
_OWNERS = frozenset({Scope.USER, Scope.ADMIN})


def _now(call: Call) -> int:
    return to_milliseconds(call.services.clock.wall())


async def _write_once(call: Call, work: Work) -> Any:
    """Run a use case whose call may be repeated: a lost answer must not start a second run."""
    key, body_hash, now_ms = call.idempotency_key, call.body_hash, _now(call)

    def guarded(effects: Effects) -> UseCase:
        return (yield from once(call.principal, key, body_hash, now_ms, lambda: work(effects)))

    return await call.services.database.write(guarded)


# ---- nodes ----------------------------------------------------------------------------------


async def register(call: Call) -> RegisterResponse:
    request: RegisterRequest = call.body
    if len(request.session_token) < SHORTEST_SECRET:
        raise BadInput(f"session_token: at least {SHORTEST_SECRET} characters of random text are needed.")
    if request.resources.num_cpus < 0 or request.resources.memory_bytes < 0:
        raise BadInput("resources: CPUs and memory cannot be negative.")
    answer: RegisterResponse = await call.services.database.write(
        nodes.register(
            call.principal,
            call.path["workflow"],
            request,
            server_id=call.services.server_id,
            now_ms=_now(call),
        )
    )
    return answer


async def sync_node(call: Call) -> SyncResponse:
    """Answer a runner; wait, without any transaction, when there is nothing to say."""
    principal, services = call.principal, call.services
    if principal.compute_node_id is None or principal.workflow_id is None:
        raise Forbidden("sync takes the session token of a compute node.")
    if call.path["key"] != str(principal.compute_node_id):
        raise NotFound(f"no such compute node: {call.path['key']}")
    workflow_id, node_id = principal.workflow_id, principal.compute_node_id
    request: SyncRequest = call.body
    # Of two requests of one node only the newer may claim: the older one's answer may find nobody.
    newest = services.wakeups.newest
    newest[node_id] = max(newest.get(node_id, 0), request.seq)
    claims = request.free is not None

    def is_newest() -> bool:
        return newest.get(node_id, 0) <= request.seq

    async def look() -> SyncResponse:
        work = sync(workflow_id, node_id, request, newest=is_newest, now_ms=_now(call))
        answer: SyncResponse = await services.database.write(work)
        if claims and not answer.claims and answer.num_ready and is_newest():
            # This node could not use the wake-up it got; another one may.
            services.wakeups.wake_next_claimant(workflow_id, node_id)
        return answer

    def has_news(answer: SyncResponse) -> bool:
        return _has_news(request, answer) or not is_newest() or call.request.transport is None

    with services.wakeups.node(workflow_id, node_id, claims=claims) as woken:
        answer = await look_until_news(services.wakeups, woken, request.wait, look, has_news)
    if request.leave:
        newest.pop(node_id, None)
    return answer


def _has_news(request: SyncRequest, answer: SyncResponse) -> bool:
    """Whether an answer is worth sending before its time."""
    if request.ended or request.returned or request.started or request.leave or answer.claims:
        return True
    known = set(request.acknowledged_orders)
    return any(order.id not in known or order.kind == "kill" for order in answer.orders) or (
        answer.is_complete or answer.is_canceled
    )


async def drain_node(call: Call) -> Any:
    return await call.services.database.write(
        nodes.drain(call.principal, call.path["workflow"], call.path["key"])
    )


async def declare_lost(call: Call) -> Any:
    return await call.services.database.write(
        nodes.declare_lost(call.principal, call.path["workflow"], call.path["key"], _now(call))
    )


async def request_allocations(call: Call) -> AllocationRequestResponse:
    answer: AllocationRequestResponse = await call.services.database.write(
        submissions.request_allocations(call.principal, call.path["workflow"], call.body, _now(call))
    )
    return answer


async def cancel_allocation(call: Call) -> Any:
    return await call.services.database.write(
        allocations.cancel_allocation(call.principal, call.path["workflow"], call.path["key"])
    )


async def drain_allocation(call: Call) -> Any:
    return await call.services.database.write(
        allocations.drain_allocation(call.principal, call.path["workflow"], call.path["key"])
    )


# ---- submitter ------------------------------------------------------------------------------


async def sync_submitter(call: Call) -> SubmitterSyncResponse:
    """Renew the submitter's lease, store its reports, plan, and say what is not finished."""
    request: SubmitterSyncRequest = call.body
    database, wakeups = call.services.database, call.services.wakeups
    other = await database.write(
        submission_reports.hold_lease(
            request.site, request.backends, request.holder, _now(call), leave=request.leave
        )
    )
    if other or request.leave:
        return SubmitterSyncResponse(
            granted=False, lease_seconds=submission_reports.LEASE_SECONDS, holder=other
        )
    for launch in request.launches:
        await database.write(submission_reports.report_launch(launch, _now(call)))
    for shape in request.shapes:
        await database.write(shapes.store(shape, _now(call)))
    for allocation in request.allocations:
        await database.write(submission_reports.report_allocation(allocation, _now(call)))

    async def look() -> tuple[list[Launch], list[OpenAllocation], list[ShapeWanted]]:
        for workflow_id in await database.read(planning.workflows_with_demand(request.backends)):
            await database.write(
                planning.plan_launches(
                    workflow_id,
                    request.backends,
                    _now(call),
                    site=request.site,
                    shape_backends=request.shape_backends,
                    take_back_backends=request.take_back_backends,
                )
            )
        found: tuple[list[Launch], list[OpenAllocation]] = await database.read(
            submissions.open_work(request.backends, _now(call), site=request.site)
        )
        wanted: list[ShapeWanted] = await database.read(
            shapes.wanted(request.shape_backends, _now(call), site=request.site)
        )
        return *found, wanted

    def has_news(found: tuple[list[Launch], list[OpenAllocation], list[ShapeWanted]]) -> bool:
        launches, allocations, wanted = found
        return bool(
            request.launches
            or request.allocations
            or request.shapes
            or any(want.config_row not in request.shapes_asked for want in wanted)
            or any(launch.withdraw or not launch.not_before_seconds for launch in launches)
            or any(
                allocation.cancel or allocation.take_back or allocation.suspect for allocation in allocations
            )
        )

    with wakeups.submitter() as woken:
        launches, allocations, wanted = await look_until_news(wakeups, woken, request.wait, look, has_news)
    return SubmitterSyncResponse(
        granted=True,
        lease_seconds=submission_reports.LEASE_SECONDS,
        holder=request.holder,
        launches=launches,
        allocations=allocations,
        shapes_wanted=wanted,
    )


# ---- people ---------------------------------------------------------------------------------


async def start_workflow(call: Call) -> Any:
    """Start; with auto_tune in the same transaction, so that no runner claims a job that is to wait."""
    request: StartRequest = call.body or StartRequest()
    principal, workflow, now_ms = call.principal, call.path["workflow"], _now(call)
    start = lifecycle.start(
        principal,
        workflow,
        missing_files=request.missing_files,
        file_times=request.file_times,
        ignore_missing_data=request.ignore_missing_data,
        now_ms=now_ms,
        local_cpus=call.services.local_cpus,
    )
    tune = tuning.begin(principal, workflow, now_ms)

    def work(effects: Effects) -> UseCase:
        answer = yield from start(effects)
        if request.auto_tune:
            yield from tune(effects)
        return answer

    return await _write_once(call, work)


async def restart_workflow(call: Call) -> Any:
    """Restart; a dry run's transaction is taken back and only its answer comes out."""
    request: RestartRequest = call.body or RestartRequest()
    work = restart.restart(
        call.principal,
        call.path["workflow"],
        file_times=request.file_times,
        missing_files=request.missing_files,
        only_uninitialized=request.only_uninitialized,
        ignore_missing_data=request.ignore_missing_data,
        dry_run=request.dry_run,
        now_ms=_now(call),
        local_cpus=call.services.local_cpus,
    )
    try:
        return await _write_once(call, work)
    except restart.DryRun as dry_run:
        return dry_run.answer


async def show_progress(call: Call) -> Progress:
    """Answer at once, or when the event sequence exceeds `after`."""
    after, wait = call.query["after"], call.query["wait"]

    async def look() -> Progress:
        work = progress.progress(call.principal, call.path["workflow"], _now(call))
        answer: Progress = await call.services.database.read(work)
        return answer

    if after is None or wait <= 0:
        return await look()
    find = progress.workflow_id(call.principal, call.path["workflow"])
    workflow_id = await call.services.database.read(find)
    with call.services.wakeups.progress(workflow_id) as woken:
        return await look_until_news(
            call.services.wakeups, woken, wait, look, lambda answer: answer.sequence > after
        )


async def show_planning(call: Call) -> Planning:
    answer: Planning = await call.services.database.read(
        planning.planning(call.principal, call.path["workflow"], _now(call))
    )
    return answer


async def list_attempts(call: Call) -> Any:
    return await call.services.database.read(
        progress.attempts(
            call.principal,
            call.path["workflow"],
            job=call.query["job_key"],
            run_id=call.query["run_id"],
            skip=call.query["skip"],
            limit=call.query["limit"],
        )
    )


async def cancel_job(call: Call) -> Any:
    return await call.services.database.write(
        jobs.cancel_job(call.principal, call.path["workflow"], call.path["key"], _now(call))
    )


async def retry_job(call: Call) -> Any:
    return await call.services.database.write(
        jobs.retry_job(call.principal, call.path["workflow"], call.path["key"], _now(call))
    )


async def explain_job(call: Call) -> Any:
    return await call.services.database.read(
        progress.explain(call.principal, call.path["workflow"], call.path["key"], _now(call))
    )


_JOB = "/workflows/{workflow}/jobs/{key}"
_NODE = "/workflows/{workflow}/compute_nodes/{key}"
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/workflows/{workflow}/compute_nodes/register", "register_compute_node", register,
        "Add a job runner to a workflow; repeated with the same registration_id it answers the same node.",
        body=RegisterRequest, response=RegisterResponse, scopes=NODES, tags=("nodes",),
    ),
    Route(
        "POST", f"{_NODE}/sync", "sync_compute_node", sync_node,
        "Report, renew the lease, claim jobs and hear orders, in one call.",
        body=SyncRequest, response=SyncResponse, scopes=frozenset({Scope.NODE}), tags=("nodes",),
        maximum_body=64 * MEBIBYTE,
    ),
    Route(
        "POST", f"{_NODE}/drain", "drain_compute_node", drain_node,
        "Let a node finish its jobs, claim no more and leave.", scopes=_OWNERS, tags=("nodes",),
    ),
    Route(
        "POST", f"{_NODE}/declare_lost", "declare_compute_node_lost", declare_lost,
        "End a node's lease by hand; its jobs go to others.", scopes=_OWNERS, tags=("nodes",),
    ),
    Route(
        "POST", "/workflows/{workflow}/scheduled_compute_nodes/{key}/cancel", "cancel_allocation",
        cancel_allocation, "End an allocation.", scopes=_OWNERS, tags=("allocations",),
    ),
    Route(
        "POST", "/workflows/{workflow}/scheduled_compute_nodes/{key}/drain", "drain_allocation",
        drain_allocation, "Let the nodes of an allocation finish their jobs, claim no more and leave.",
        scopes=_OWNERS, tags=("allocations",),
    ),
    Route(
        "POST", "/workflows/{workflow}/allocations", "request_allocations", request_allocations,
        "Ask for allocations of a scheduler config now, beyond what comes by itself.",
        body=AllocationRequest, response=AllocationRequestResponse, scopes=_OWNERS, tags=("allocations",),
        creates=True,
    ),
    Route(
        "POST", "/submitter/sync", "sync_submitter", sync_submitter,
        "Renew the submitter's lease, report launches and allocations, hear what is to be done.",
        body=SubmitterSyncRequest, response=SubmitterSyncResponse, scopes=_OWNERS, tags=("submitter",),
        maximum_body=16 * MEBIBYTE,
    ),
    Route(
        "POST", "/workflows/{workflow}/start", "start_workflow", start_workflow,
        "Run a workflow from its beginning: checks, resets, raises run_id, initialises.",
        body=StartRequest, scopes=_OWNERS, tags=("workflows",), creates=True,
    ),
    Route(
        "POST", "/workflows/{workflow}/restart", "restart_workflow", restart_workflow,
        "Run again what is out of date or never ended; says what and why.",
        body=RestartRequest, response=RestartResponse, scopes=_OWNERS, tags=("workflows",), creates=True,
    ),
    Route(
        "GET", "/workflows/{workflow}/progress", "get_progress", show_progress,
        "Return counts, and why nothing moves; waits until the event sequence exceeds `after`.",
        response=Progress, scopes=PEOPLE, tags=("workflows",),
        query=(Query("after", int), Query("wait", float, 0.0, minimum=0)),
    ),
    Route(
        "GET", "/workflows/{workflow}/planning", "get_planning", show_planning,
        "Return for each scheduler config what planning wants of it, and why no more comes.",
        response=Planning, scopes=PEOPLE, tags=("allocations",),
    ),
    Route(
        "GET", "/workflows/{workflow}/attempts", "list_attempts", list_attempts,
        "List attempts of jobs, oldest first.", tags=("jobs",),
        query=(
            Query("job_key"), Query("run_id", int), Query("skip", int, 0, minimum=0),
            Query("limit", int, progress.MAXIMUM_LIMIT, minimum=0),
        ),
    ),
    Route(
        "POST", f"{_JOB}/cancel", "cancel_job", cancel_job, "Cancel one job.", scopes=_OWNERS, tags=("jobs",)
    ),
    Route(
        "POST", f"{_JOB}/retry", "retry_job", retry_job, "Run a finished job again in the same run.",
        scopes=_OWNERS, tags=("jobs",),
    ),
    Route(
        "GET", f"{_JOB}/explain", "explain_job", explain_job, "Say why a job is where it is.", tags=("jobs",)
    ),
)  # fmt: skip
