"""New jobs: by the thousand from a specification, or one by one and in bulk through the API.

References in a request are `_id`s or keys of the same workflow; every one is checked before anything
is stored, and all of a request is stored or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from lading.api.services.blockers import add_blocks_edges
from lading.api.services.initialize import config_id
from lading.api.services.job_documents import job_document
from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.keys import chosen_id, is_integer_key, key_of, take_ids
from lading.api.storage.statements import Many, Statement
from lading.toolkit.domain.graph import edges_from_pairs, find_cycle
from lading.toolkit.domain.states import CLAIMABLE, JobStatus
from lading.toolkit.errors import BadInput, Violation

_COLUMNS = (
    "id", "workflow_id", "key", "name", "command", "invocation_script", "status",
    "cancel_on_blocking_job_failure", "supports_termination", "schedule_compute_nodes",
    "resource_requirements_id", "scheduler_id", "priority", "retries", "env", "workdir", "stdout",
    "resources", "time_request", "claimable",
)  # fmt: skip
INSERT_JOB = (
    f"INSERT INTO job ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + column for column in _COLUMNS)})"
)
INSERT_EDGE = (
    "INSERT INTO edge (id, workflow_id, name, from_id, to_id) "
    "VALUES (:id, :workflow_id, :name, :from_id, :to_id)"
)
RELATIONS = {
    "input_files": ("needs", "file"),
    "output_files": ("produces", "file"),
    "input_user_data": ("consumes", "user_data"),
    "output_user_data": ("stores", "user_data"),
}
_COLLECTIONS = {
    "file": "files",
    "user_data": "user_data",
    "job": "jobs",
    "resource_requirements": "resource_requirements",
}


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to be stored; relations are row ids that exist in its workflow."""

    command: str
    name: str | None = None
    key: str | None = None
    invocation_script: str | None = None
    status: JobStatus = JobStatus.UNINITIALIZED
    cancel_on_blocking_job_failure: bool = True
    supports_termination: bool = False
    schedule_compute_nodes: Mapping[str, Any] | None = None
    resource_requirements_id: int | None = None
    scheduler_id: int | None = None
    priority: int = 0
    retries: int = 0
    env: Mapping[str, str] | None = None
    workdir: str | None = None
    stdout: str = "separate"
    resources: Mapping[str, float] | None = None
    time_request: float | None = None
    edges: list[tuple[str, int]] = field(default_factory=list)
    """(edge name, target row) for everything but blockers."""
    blocked_by: list[int] = field(default_factory=list)


def insert_jobs(ledger: Ledger, jobs: Sequence[NewJob], ids: Sequence[int | tuple[int, str]]) -> Steps:
    """Store jobs under ids that the caller has taken (with the text key where one was chosen)."""
    rows = []
    for job, given in zip(jobs, ids, strict=True):
        row_id, key = (given, None) if isinstance(given, int) else given
        rows.append(_job_parameters(ledger.workflow_id, job, row_id, key))
        ledger.count_added(job.status)
    yield Many(INSERT_JOB, rows)
    links = [
        (row["id"], name, target) for row, job in zip(rows, jobs, strict=True) for name, target in job.edges
    ]
    links = list(dict.fromkeys(links))
    edge_ids = yield from take_ids(len(links))
    yield Many(
        INSERT_EDGE,
        [
            {"id": edge, "workflow_id": ledger.workflow_id, "name": name, "from_id": job, "to_id": target}
            for edge, (job, name, target) in zip(edge_ids, links, strict=True)
        ],
    )
    pairs = [(blocker, row["id"]) for row, job in zip(rows, jobs, strict=True) for blocker in job.blocked_by]
    yield from add_blocks_edges(ledger, list(dict.fromkeys(pairs)))


def _job_parameters(workflow_id: int, job: NewJob, row_id: int, key: str | None) -> dict[str, Any]:
    return {
        "id": row_id,
        "workflow_id": workflow_id,
        "key": key,
        "name": job.name,
        "command": job.command,
        "invocation_script": job.invocation_script,
        "status": job.status.value,
        "cancel_on_blocking_job_failure": job.cancel_on_blocking_job_failure,
        "supports_termination": job.supports_termination,
        "schedule_compute_nodes": json_text(job.schedule_compute_nodes),
        "resource_requirements_id": job.resource_requirements_id,
        "scheduler_id": job.scheduler_id,
        "priority": job.priority,
        "retries": job.retries,
        "env": json_text(job.env) if job.env else None,
        "workdir": job.workdir,
        "stdout": job.stdout,
        "resources": json_text(job.resources) if job.resources else None,
        "time_request": job.time_request,
        "claimable": job.status in CLAIMABLE,
    }


def json_text(value: Any) -> str | None:
    """Return a value as it is stored; NULL stays NULL."""
    return None if value is None else orjson.dumps(value).decode()


def add_jobs(ledger: Ledger, documents: Sequence[Mapping[str, Any]], *, path: str) -> Steps:
    """Store job documents whose relations are `_id`s; return their documents in the same order.

    `path` names the list in error texts: `jobs[3].input_files[0]`, or '' for a single job.
    """
    found = yield from _resolve(ledger, documents)
    plain = [number for number, document in enumerate(documents) if not document.get("_key")]
    ids: list[int | tuple[int, str]] = [0] * len(documents)
    taken = yield from take_ids(len(plain))
    for number, row_id in zip(plain, taken, strict=True):
        ids[number] = row_id
    given: set[int | str] = set(taken)
    for number, document in enumerate(documents):
        if key := document.get("_key"):
            row_id, text = yield from _chosen(ledger, key, given)
            ids[number] = row_id if text is None else (row_id, text)
            # A job may wait for one of the same request if the caller chose that one's key.
            found["job", key] = row_id
    jobs: list[NewJob] = []
    faults: list[Violation] = []
    for number, document in enumerate(documents):
        prefix = f"{path}[{number}]." if path else ""
        jobs.append(_new_job(ledger, document, found, prefix, faults))
    row_ids = [given if isinstance(given, int) else given[0] for given in ids]
    _refuse_circle(jobs, row_ids, path, faults)
    if faults:
        raise BadInput.of(faults)
    yield from insert_jobs(ledger, jobs, ids)
    rows = yield Statement("SELECT * FROM job WHERE id IN_LIST(:ids)", {"ids": row_ids})
    by_id = {row["id"]: row for row in rows}
    return [job_document(by_id[row_id], ledger.workflow_key) for row_id in row_ids]


def _chosen(ledger: Ledger, key: str, given: set[int | str]) -> Steps:
    """Return the id, and the text key if it is one; `given` are those of the request so far."""
    row_id, text = yield from chosen_id("job", ledger.workflow_id, key)
    if row_id in given or text in given:
        raise BadInput(f"_key: {key!r} is given twice.")
    given.update({row_id} if text is None else {row_id, text})
    return row_id, text


def _refuse_circle(
    jobs: Sequence[NewJob], row_ids: Sequence[int], path: str, faults: list[Violation]
) -> None:
    """New jobs can only close a circle among themselves: nothing that exists waits for them yet."""
    places = {row_id: number for number, row_id in enumerate(row_ids)}
    pairs = [
        (blocker, row_id)
        for row_id, job in zip(row_ids, jobs, strict=True)
        for blocker in job.blocked_by
        if blocker in places
    ]
    circle = find_cycle(edges_from_pairs(pairs)) if pairs else None
    if circle is not None:
        first = places[circle[0]]
        names = " → ".join(
            jobs[places[row_id]].name or f"job {places[row_id]}" for row_id in (*circle[:20], circle[0])
        )
        prefix = f"{path}[{first}]." if path else ""
        faults.append(
            Violation(f"{prefix}blocked_by", f"the jobs would wait for each other in a circle: {names}")
        )


def _resolve(ledger: Ledger, documents: Sequence[Mapping[str, Any]]) -> Steps:
    """Look up every reference of all documents: (collection, key) -> row id."""
    wanted: dict[str, set[str]] = {table: set() for table in _COLLECTIONS}
    schedulers: set[str] = set()
    for document in documents:
        for name, (_, table) in RELATIONS.items():
            wanted[table].update(_key_part(text) for text in document.get(name) or ())
        wanted["job"].update(_key_part(text) for text in document.get("blocked_by") or ())
        if document.get("resource_requirements"):
            wanted["resource_requirements"].add(_key_part(document["resource_requirements"]))
        if document.get("scheduler"):
            schedulers.add(document["scheduler"])
    found: dict[tuple[str, str], int] = {}
    for table, keys in wanted.items():
        if not keys:
            continue
        numbers = [int(key) for key in keys if is_integer_key(key)]
        rows = yield Statement(
            f"SELECT id, key FROM {table} WHERE workflow_id = :workflow_id "
            "AND ((key IS NULL AND id IN_LIST(:numbers)) OR key IN_LIST(:keys))",
            {"workflow_id": ledger.workflow_id, "numbers": numbers, "keys": sorted(keys)},
        )
        found.update({(table, key_of(row)): row["id"] for row in rows})
    if schedulers:
        rows = yield Statement(
            "SELECT id, kind, key FROM scheduler_config WHERE workflow_id = :workflow_id",
            {"workflow_id": ledger.workflow_id},
        )
        found.update({("scheduler", config_id(ledger.workflow_key, row)): row["id"] for row in rows})
    return found


def _key_part(text: str) -> str:
    return text.rpartition("/")[2]


def _new_job(
    ledger: Ledger,
    document: Mapping[str, Any],
    found: Mapping[tuple[str, str], int],
    prefix: str,
    faults: list[Violation],
) -> NewJob:
    def look_up(table: str, text: str, place: str) -> int | None:
        collection, slash, key = text.rpartition("/")
        known = found.get((table, key))
        expected = f"{_COLLECTIONS[table]}__{ledger.workflow_key}"
        if known is None or (slash and collection != expected):
            faults.append(
                Violation(
                    f"{prefix}{place}",
                    f"{text!r} is no document of {expected}",
                    text,
                    f"the _id or _key of a document in {_COLLECTIONS[table]} of this workflow",
                )
            )
            return None
        return known

    edges = []
    for name, (edge, table) in RELATIONS.items():
        for number, text in enumerate(document.get(name) or ()):
            if (target := look_up(table, text, f"{name}[{number}]")) is not None:
                edges.append((edge, target))
    blockers = [
        target
        for number, text in enumerate(document.get("blocked_by") or ())
        if (target := look_up("job", text, f"blocked_by[{number}]")) is not None
    ]
    requirements = document.get("resource_requirements")
    scheduler = document.get("scheduler")
    if scheduler and ("scheduler", scheduler) not in found:
        faults.append(
            Violation(
                f"{prefix}scheduler", f"{scheduler!r} is no scheduler config of this workflow", scheduler
            )
        )
    return NewJob(
        command=document["command"],
        name=document.get("name"),
        invocation_script=document.get("invocation_script"),
        status=JobStatus(document.get("status") or JobStatus.UNINITIALIZED),
        cancel_on_blocking_job_failure=document.get("cancel_on_blocking_job_failure", True),
        supports_termination=document.get("supports_termination", False),
        schedule_compute_nodes=document.get("schedule_compute_nodes"),
        resource_requirements_id=look_up("resource_requirements", requirements, "resource_requirements")
        if requirements
        else None,
        scheduler_id=found.get(("scheduler", scheduler)) if scheduler else None,
        priority=document.get("priority") or 0,
        retries=document.get("retries") or 0,
        env=document.get("env"),
        workdir=document.get("workdir"),
        stdout=document.get("stdout") or "separate",
        resources=document.get("resources"),
        time_request=document.get("time_request"),
        edges=edges,
        blocked_by=blockers,
    )
