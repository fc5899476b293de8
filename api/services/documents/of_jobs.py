"""What belongs to one job or is asked for by it: requirements, user data, files, statistics, results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lading.api.services import jobs, new_jobs
from lading.api.services.documents.collections import (
    FILES,
    JOB_PROCESS_STATS,
    JOBS,
    RESOURCE_REQUIREMENTS,
    RESULTS,
    USER_DATA,
    Collection,
)
from lading.api.services.documents.reading import MAXIMUM_PAGE, Paging, document_of, envelope, find_row
from lading.api.services.documents.writing import insert_document
from lading.api.services.edges import REQUIRES, edge_document_of, insert_stored_edge
from lading.api.services.identity import Principal
from lading.api.services.initialize import apply_requirements
from lading.api.services.ledger import JOB_COLUMNS, Ledger
from lading.api.services.resources import Services
from lading.api.services.workflows import Steps, find_workflow, lock_workflow, workflow_key
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import NotFound

DEFAULT_REQUIREMENTS: Mapping[str, Any] = {
    "name": "default",
    "num_cpus": 1,
    "num_gpus": 0,
    "num_nodes": 1,
    "memory": "1m",
    "runtime": "P0DT1M",
}


async def job_keys(services: Services, principal: Principal, workflow: str) -> dict[str, Any]:
    """Return the keys of all jobs, in the order of their creation."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        rows = yield Statement(
            "SELECT id, key FROM job WHERE workflow_id = :id ORDER BY id", {"id": owner["id"]}
        )
        return {"items": [key_of(row) for row in rows]}

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def requirements_of_job(
    services: Services, principal: Principal, workflow: str, key: str
) -> dict[str, Any]:
    """Return the requirements a job is connected to; the defaults, without an identity, for none."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        job = yield from find_row(owner, JOBS, key)
        rows = yield Statement(
            "SELECT * FROM resource_requirements WHERE id = :id", {"id": job["resource_requirements_id"]}
        )
        if not rows:
            return dict(DEFAULT_REQUIREMENTS)
        return RESOURCE_REQUIREMENTS.document(rows[0], workflow_key(owner))

    answer: dict[str, Any] = await services.database.read(work)
    return answer


def assign_requirements(
    principal: Principal, workflow: str, key: str, requirements: str, now_ms: int, effects: Effects
) -> Steps:
    """Connect a job to other requirements; a node that holds the job goes on with the old ones."""
    owner = yield from lock_workflow(principal, workflow)
    job = yield from find_row(owner, JOBS, key)
    row = yield from find_row(owner, RESOURCE_REQUIREMENTS, requirements)
    # The `_rev` of a job that runs stays: whoever runs it holds that, and nothing that it shows has changed.
    yield Statement(
        "UPDATE job SET resource_requirements_id = :requirements WHERE id = :id",
        {"requirements": row["id"], "id": job["id"]},
    )
    yield from apply_requirements(Ledger(owner, now_ms, effects), row, job["id"])
    return (yield from edge_document_of(owner, REQUIRES, job["id"]))


async def process_stats_of_job(
    services: Services, principal: Principal, workflow: str, key: str
) -> list[dict[str, Any]]:
    """Return the process statistics of a job, by ascending run_id."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        job = yield from find_row(owner, JOBS, key)
        rows = yield Statement(
            "SELECT * FROM job_process_stats WHERE workflow_id = :workflow_id "
            "AND (job_id = :id OR (job_id IS NULL AND job_key = :key)) ORDER BY run_id, id",
            {"workflow_id": owner["id"], "id": job["id"], "key": key_of(job)},
        )
        return [JOB_PROCESS_STATS.document(row, workflow_key(owner)) for row in rows]

    answer: list[dict[str, Any]] = await services.database.read(work)
    return answer


async def latest_result(services: Services, principal: Principal, workflow: str, key: str) -> dict[str, Any]:
    """Return the result of a job in the current run. Raises NotFound when that run has none."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        job = yield from find_row(owner, JOBS, key)
        rows = yield Statement(
            "SELECT * FROM result WHERE workflow_id = :workflow_id AND run_id = :run_id "
            "AND (job_id = :id OR (job_id IS NULL AND job_key = :key)) "
            "ORDER BY CASE WHEN job_id IS NULL THEN 1 ELSE 0 END, id DESC LIMIT 1",
            {
                "workflow_id": owner["id"],
                "run_id": owner["run_id"],
                "id": job["id"],
                "key": key_of(job),
            },
        )
        if not rows:
            raise NotFound(f"no result of job {key_of(job)} in run {owner['run_id']}")
        return RESULTS.document(rows[0], workflow_key(owner))

    answer: dict[str, Any] = await services.database.read(work)
    return answer


def add_user_data_of_job(
    principal: Principal, workflow: str, key: str, document: Mapping[str, Any], now_ms: int
) -> Steps:
    """Store user data that a job stores; returns the user data."""
    owner = yield from lock_workflow(principal, workflow)
    job = yield from find_row(owner, JOBS, key)
    stored = yield from insert_document(owner, USER_DATA, document, now_ms)
    row = yield from find_row(owner, USER_DATA, stored["_key"])
    yield from insert_stored_edge(owner, "stores", job["id"], row["id"])
    return stored


async def list_user_data_of_job(
    services: Services, principal: Principal, workflow: str, key: str, edge: str
) -> dict[str, Any]:
    """Return the user data that a job `stores` or `consumes`, all of it."""
    paging = Paging(limit=MAXIMUM_PAGE)
    return await _list_connected(services, principal, workflow, key, edge, USER_DATA, paging)


async def list_files_of_job(
    services: Services, principal: Principal, workflow: str, key: str, paging: Paging
) -> dict[str, Any]:
    """Return a page of the files that a job produces."""
    return await _list_connected(services, principal, workflow, key, "produces", FILES, paging)


async def list_jobs_of_file(
    services: Services, principal: Principal, workflow: str, key: str, paging: Paging
) -> dict[str, Any]:
    """Return a page of the jobs that need a file."""
    return await _list_connected(services, principal, workflow, key, "needs", FILES, paging, inbound=True)


async def _list_connected(
    services: Services,
    principal: Principal,
    workflow: str,
    key: str,
    edge: str,
    other: Collection,
    paging: Paging,
    *,
    inbound: bool = False,
) -> dict[str, Any]:
    """Return the documents at the other end of a job's edges, or the jobs at the start of its edges."""
    near, far = (other, JOBS) if inbound else (JOBS, other)
    near_end, far_end = ("to_id", "from_id") if inbound else ("from_id", "to_id")

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        row = yield from find_row(owner, near, key)
        parameters = {"workflow_id": owner["id"], "edge": edge, "id": row["id"]}
        matching = (
            f"FROM edge e JOIN {far.table} d ON d.id = e.{far_end} "
            f"WHERE e.workflow_id = :workflow_id AND e.name = :edge AND e.{near_end} = :id"
        )
        counted = yield Statement(f"SELECT count(*) AS total {matching}", parameters)
        rows = yield Statement(
            f"SELECT d.* {matching} ORDER BY d.id LIMIT :limit OFFSET :skip",
            {**parameters, "limit": paging.capped, "skip": paging.skip},
        )
        name = workflow_key(owner)
        return envelope([document_of(far, found, name) for found in rows], paging.skip, counted[0]["total"])

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def list_downstream_jobs(
    services: Services, principal: Principal, workflow: str, key: str, paging: Paging
) -> dict[str, Any]:
    """Return a page of all jobs that wait for a job, directly or not: each once, nearest first."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        job = yield from find_row(owner, JOBS, key)
        seen, found, wave = {job["id"]}, [], [job["id"]]
        while wave:
            rows = yield Statement(
                "SELECT DISTINCT to_id FROM edge WHERE workflow_id = :workflow_id AND name = 'blocks' "
                "AND from_id IN_LIST(:ids) ORDER BY to_id",
                {"workflow_id": owner["id"], "ids": wave},
            )
            wave = [row["to_id"] for row in rows if row["to_id"] not in seen]
            seen.update(wave)
            found += wave
        page = found[paging.skip : paging.skip + paging.capped]
        rows = yield Statement("SELECT * FROM job WHERE id IN_LIST(:ids)", {"ids": page})
        by_id = {row["id"]: row for row in rows}
        name = workflow_key(owner)
        items = [document_of(JOBS, by_id[job_id], name) for job_id in page if job_id in by_id]
        return envelope(items, paging.skip, len(found))

    answer: dict[str, Any] = await services.database.read(work)
    return answer


def add_jobs(
    principal: Principal,
    workflow: str,
    documents: Sequence[Mapping[str, Any]],
    path: str,
    now_ms: int,
    effects: Effects,
) -> Steps:
    """Store jobs, all or none; returns their documents. `path` names the list in error texts."""
    ledger = Ledger((yield from lock_workflow(principal, workflow)), now_ms, effects)
    stored = yield from new_jobs.add_jobs(ledger, documents, path=path)
    yield from ledger.flush()
    return stored


def remove_job(principal: Principal, workflow: str, key: str, now_ms: int, effects: Effects) -> Steps:
    """Remove a job with its edges; returns its document as it was."""
    owner = yield from lock_workflow(principal, workflow)
    row = yield from find_row(owner, JOBS, key)
    ledger = Ledger(owner, now_ms, effects)
    yield from _remove(ledger, [row])
    return document_of(JOBS, row, workflow_key(owner))


def remove_all_jobs(principal: Principal, workflow: str, now_ms: int, effects: Effects) -> Steps:
    """Remove every job of a workflow."""
    owner = yield from lock_workflow(principal, workflow)
    ledger = Ledger(owner, now_ms, effects)
    rows = yield Statement(
        f"SELECT {JOB_COLUMNS} FROM job WHERE workflow_id = :id ORDER BY id", {"id": owner["id"]}
    )
    yield from _remove(ledger, rows)
    return {"message": f"Removed all documents of jobs__{workflow_key(owner)}."}


def _remove(ledger: Ledger, rows: Any) -> Steps:
    removed = ledger.adopt(rows)
    yield Statement(
        "UPDATE job_process_stats SET job_id = NULL WHERE job_id IN_LIST(:ids)",
        {"ids": [job.id for job in removed]},
    )
    yield from jobs.remove_jobs(ledger, removed)
    yield from ledger.flush()
