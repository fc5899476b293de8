"""A whole workflow in one transaction: read and checked before, stored completely or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lading.api.services.identity import Principal
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.new_jobs import RELATIONS, NewJob, insert_jobs
from lading.api.storage.keys import chosen_id, take_ids
from lading.api.storage.statements import Effects, Many, Statement
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain.spec import JobSpecification, SlurmScheduler, Specification, to_document

AUTO_TUNE_OFF = '{"enabled":false,"job_keys":[]}'
_INSERT_WORKFLOW = (
    "INSERT INTO workflow (id, key, name, user_name, description, timestamp, is_archived, owner, config, "
    "auto_tune_status) VALUES (:id, :key, :name, :user_name, :description, :timestamp, :is_archived, :owner, "
    ":config, :auto_tune_status)"
)
_INSERT_SCHEDULER = (
    "INSERT INTO scheduler_config (id, workflow_id, kind, name, body) "
    "VALUES (:id, :workflow_id, :kind, :name, :body)"
)


def insert_workflow(
    principal: Principal,
    *,
    key: str | None,
    name: str,
    user: str,
    description: str,
    is_archived: bool,
    config: Mapping[str, Any],
    now_ms: int,
    timestamp: str = "",
) -> Steps:
    """Store an empty workflow; return its row."""
    if key:
        workflow_id, text = yield from chosen_id("workflow", None, key)
    else:
        [workflow_id] = yield from take_ids(1)
        text = None
    yield Statement(
        _INSERT_WORKFLOW,
        {
            "id": workflow_id,
            "key": text,
            "name": name,
            "user_name": user or principal.user,
            "description": description,
            "timestamp": timestamp or iso_utc(now_ms / 1000),
            "is_archived": is_archived,
            "owner": principal.user,
            "config": orjson.dumps(config).decode(),
            "auto_tune_status": AUTO_TUNE_OFF,
        },
    )
    [row] = yield Statement("SELECT * FROM workflow WHERE id = :id", {"id": workflow_id})
    return row


def store(
    principal: Principal,
    specification: Specification,
    config: Mapping[str, Any],
    *,
    now_ms: int,
    effects: Effects,
) -> Steps:
    """Store a checked specification; return the workflow's row. `config` is complete, defaults filled."""
    row = yield from insert_workflow(
        principal,
        key=specification.key,
        name=specification.name,
        user=specification.user,
        description=specification.description,
        is_archived=specification.is_archived,
        config=config,
        now_ms=now_ms,
    )
    ledger = Ledger(row, now_ms, effects)
    names: dict[tuple[str, str], int] = {}
    yield from _store_files(ledger, specification, names)
    yield from _store_user_data(ledger, specification, names)
    yield from _store_requirements(ledger, specification, names)
    yield from _store_schedulers(ledger, specification, names)
    ids = yield from take_ids(len(specification.jobs))
    names.update({("job", job.name): row_id for job, row_id in zip(specification.jobs, ids, strict=True)})
    jobs = [_new_job(job, names, ledger.workflow_key) for job in specification.jobs]
    yield from insert_jobs(ledger, jobs, ids)
    yield from ledger.flush()
    [row] = yield Statement("SELECT * FROM workflow WHERE id = :id", {"id": ledger.workflow_id})
    return row


def _store_files(ledger: Ledger, specification: Specification, names: dict[tuple[str, str], int]) -> Steps:
    ids = yield from take_ids(len(specification.files))
    names.update({("file", file.name): row for file, row in zip(specification.files, ids, strict=True)})
    yield Many(
        "INSERT INTO file (id, workflow_id, name, path, st_mtime) "
        "VALUES (:id, :workflow_id, :name, :path, :st_mtime)",
        [
            {
                "id": row,
                "workflow_id": ledger.workflow_id,
                "name": file.name,
                "path": file.path,
                "st_mtime": file.st_mtime,
            }
            for file, row in zip(specification.files, ids, strict=True)
        ],
    )


def _store_user_data(
    ledger: Ledger, specification: Specification, names: dict[tuple[str, str], int]
) -> Steps:
    ids = yield from take_ids(len(specification.user_data))
    names.update(
        {("user_data", item.name): row for item, row in zip(specification.user_data, ids, strict=True)}
    )
    yield Many(
        "INSERT INTO user_data (id, workflow_id, name, is_ephemeral, data) "
        "VALUES (:id, :workflow_id, :name, :is_ephemeral, :data)",
        [
            {
                "id": row,
                "workflow_id": ledger.workflow_id,
                "name": item.name,
                "is_ephemeral": item.is_ephemeral,
                "data": None if item.data is None else orjson.dumps(item.data).decode(),
            }
            for item, row in zip(specification.user_data, ids, strict=True)
        ],
    )


def _store_requirements(
    ledger: Ledger, specification: Specification, names: dict[tuple[str, str], int]
) -> Steps:
    requirements = specification.resource_requirements
    ids = yield from take_ids(len(requirements))
    names.update({("requirements", item.name): row for item, row in zip(requirements, ids, strict=True)})
    yield Many(
        "INSERT INTO resource_requirements (id, workflow_id, name, num_cpus, num_gpus, num_nodes, memory, "
        "runtime) VALUES (:id, :workflow_id, :name, :num_cpus, :num_gpus, :num_nodes, :memory, :runtime)",
        [
            {
                "id": row,
                "workflow_id": ledger.workflow_id,
                "name": item.name,
                "num_cpus": item.num_cpus,
                "num_gpus": item.num_gpus,
                "num_nodes": item.num_nodes,
                "memory": item.memory,
                "runtime": item.runtime,
            }
            for item, row in zip(requirements, ids, strict=True)
        ],
    )


def _store_schedulers(
    ledger: Ledger, specification: Specification, names: dict[tuple[str, str], int]
) -> Steps:
    configs = [
        (kind, scheduler)
        for kind, group in (
            ("aws", specification.schedulers.aws_schedulers),
            ("local", specification.schedulers.local_schedulers),
            ("slurm", specification.schedulers.slurm_schedulers),
        )
        for scheduler in group
    ]
    ids = yield from take_ids(len(configs))
    rows = []
    for row_id, (kind, scheduler) in zip(ids, configs, strict=True):
        names["scheduler", f"{kind}_schedulers/{scheduler.name}"] = row_id
        body = {name: value for name, value in to_document(scheduler).items() if name != "name"}
        if isinstance(scheduler, SlurmScheduler):
            # The published document always has it, also when it is the default.
            body["qos"] = scheduler.qos
        rows.append(
            {
                "id": row_id,
                "workflow_id": ledger.workflow_id,
                "kind": kind,
                "name": scheduler.name,
                "body": orjson.dumps(body).decode(),
            }
        )
    yield Many(_INSERT_SCHEDULER, rows)


def _new_job(job: JobSpecification, names: Mapping[tuple[str, str], int], workflow: str) -> NewJob:
    schedule = None
    if job.schedule_compute_nodes is not None:
        schedule = to_document(job.schedule_compute_nodes)
        collection, _, name = job.schedule_compute_nodes.scheduler_id.partition("/")
        # torc leaves the name untranslated, so that nobody could use it from a specification.
        scheduler = names["scheduler", f"{collection}/{name}"]
        schedule["scheduler_id"] = f"{collection}__{workflow}/{scheduler}"
    return NewJob(
        command=job.command,
        name=job.name,
        invocation_script=job.invocation_script,
        cancel_on_blocking_job_failure=job.cancel_on_blocking_job_failure,
        supports_termination=job.supports_termination,
        schedule_compute_nodes=schedule,
        resource_requirements_id=names["requirements", job.resource_requirements]
        if job.resource_requirements
        else None,
        scheduler_id=names["scheduler", job.scheduler] if job.scheduler else None,
        priority=job.priority,
        retries=job.retries,
        env=job.env,
        workdir=job.workdir,
        stdout=job.stdout,
        resources=job.resources,
        time_request=job.time_request,
        edges=[
            (edge, names[table, name])
            for relation, (edge, table) in RELATIONS.items()
            for name in getattr(job, relation)
        ],
        blocked_by=[names["job", name] for name in job.blocked_by],
    )
