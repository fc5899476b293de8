"""A stored workflow as a specification again: what comes out can be posted and gives the same workflow."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson

from lading.api.services.identity import Principal
from lading.api.services.jobs import find_job_row
from lading.api.services.ledger import Steps
from lading.api.services.new_jobs import RELATIONS
from lading.api.services.workflows import find_workflow
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.domain.spec import (
    FileSpecification,
    JobSpecification,
    ResourceRequirements,
    ScheduleComputeNodes,
    UserDataSpecification,
    to_document,
)

_EDGES = ("needs", "produces", "consumes", "stores", "blocks")
_OWN_CONFIG = ("_key", "_id", "_rev")


def specification(principal: Principal, workflow: str) -> Work:
    """Return the specification of a workflow, without ids."""

    def work(_effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        names = yield from _names(row)
        jobs = yield from _jobs(row, names, None)
        config = orjson.loads(row["config"])
        document: dict[str, Any] = {
            "name": row["name"],
            "user": row["user_name"],
            "description": row["description"],
            "jobs": [to_document(job) for job in jobs],
            "files": [to_document(file) for file in (yield from _files(row, names))],
            "user_data": [to_document(item) for item in (yield from _user_data(row, names))],
            "resource_requirements": [to_document(item) for item in (yield from _requirements(row, names))],
            "schedulers": (yield from _schedulers(row, names)),
            "config": {name: value for name, value in config.items() if name not in _OWN_CONFIG},
        }
        return document

    return work


def job_specifications(principal: Principal, workflow: str, key: str | None, skip: int, limit: int) -> Work:
    """Return the job parts of the specification: one of them, or a page."""

    def work(_effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        names = yield from _names(row)
        if key is not None:
            job = yield from find_job_row(row, key)
            [only] = yield from _jobs(row, names, job["id"])
            return to_document(only)
        jobs = yield from _jobs(row, names, None)
        page = [to_document(job) for job in jobs[skip : skip + limit]]
        return {
            "items": page,
            "skip": skip,
            "max_limit": 100_000,
            "count": len(page),
            "total_count": len(jobs),
            "has_more": bool(page) and skip + len(page) < len(jobs),
        }

    return work


def _names(row: Any) -> Steps:
    """Return table -> id -> the name by which the specification refers to it, unique per table.

    Through the API names may be missing or repeated, which a specification cannot hold: those get
    their key instead, or behind their name.
    """
    names: dict[str, dict[int, str]] = {}
    for table in ("job", "file", "user_data", "resource_requirements", "scheduler_config"):
        kind = ", kind" if table == "scheduler_config" else ""
        found = yield Statement(
            f"SELECT id, key, name{kind} FROM {table} WHERE workflow_id = :id ORDER BY id", {"id": row["id"]}
        )
        taken: set[str] = set()
        own: dict[int, str] = {}
        for item in found:
            scope = item["kind"] if kind else ""
            name = item["name"] or key_of(item)
            while f"{scope}/{name}" in taken:
                name = f"{name}-{key_of(item)}"
            taken.add(f"{scope}/{name}")
            own[item["id"]] = f"{scope}_schedulers/{name}" if kind else name
        names[table] = own
    return names


def _jobs(row: Any, names: dict[str, dict[int, str]], only: int | None) -> Steps:
    condition = "" if only is None else " AND id = :job"
    parameters = {"id": row["id"]} if only is None else {"id": row["id"], "job": only}
    jobs = yield Statement(f"SELECT * FROM job WHERE workflow_id = :id{condition} ORDER BY id", parameters)
    edges = yield Statement(
        "SELECT name, from_id, to_id FROM edge WHERE workflow_id = :id AND name IN_LIST(:names) ORDER BY id",
        {"id": row["id"], "names": list(_EDGES)},
    )
    related: dict[tuple[int, str], list[int]] = defaultdict(list)
    for edge in edges:
        if edge["name"] == "blocks":
            related[edge["to_id"], "blocks"].append(edge["from_id"])
        else:
            related[edge["from_id"], edge["name"]].append(edge["to_id"])
    derived = _derived(edges)
    return [_job(job, names, related, derived) for job in jobs]


def _derived(edges: Any) -> set[tuple[int, int]]:
    """Return the (blocker, blocked) pairs that follow from files and user data: nobody wrote them down."""
    writers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for edge in edges:
        if edge["name"] in ("produces", "stores"):
            kind = "needs" if edge["name"] == "produces" else "consumes"
            writers[kind, edge["to_id"]].append(edge["from_id"])
    return {
        (writer, edge["from_id"])
        for edge in edges
        if edge["name"] in ("needs", "consumes")
        for writer in writers[edge["name"], edge["to_id"]]
    }


def _job(
    job: Any,
    names: dict[str, dict[int, str]],
    related: dict[tuple[int, str], list[int]],
    derived: set[tuple[int, int]],
) -> JobSpecification:
    relations: dict[str, Any] = {
        relation: tuple(names[table][target] for target in related[job["id"], edge])
        for relation, (edge, table) in RELATIONS.items()
    }
    blockers = [blocker for blocker in related[job["id"], "blocks"] if (blocker, job["id"]) not in derived]
    requirements = job["resource_requirements_id"]
    return JobSpecification(
        name=names["job"][job["id"]],
        command=job["command"],
        invocation_script=job["invocation_script"],
        cancel_on_blocking_job_failure=bool(job["cancel_on_blocking_job_failure"]),
        supports_termination=bool(job["supports_termination"]),
        scheduler=None if job["scheduler_id"] is None else names["scheduler_config"][job["scheduler_id"]],
        schedule_compute_nodes=_schedule(job, names),
        blocked_by=tuple(names["job"][blocker] for blocker in blockers if blocker in names["job"]),
        resource_requirements=None if requirements is None else names["resource_requirements"][requirements],
        priority=job["priority"],
        retries=job["retries"],
        env=orjson.loads(job["env"]) if job["env"] else {},
        workdir=job["workdir"],
        stdout=job["stdout"],
        resources=orjson.loads(job["resources"]) if job["resources"] else {},
        time_request=job["time_request"],
        **relations,
    )


def _schedule(job: Any, names: dict[str, dict[int, str]]) -> ScheduleComputeNodes | None:
    if job["schedule_compute_nodes"] is None:
        return None
    stored = orjson.loads(job["schedule_compute_nodes"])
    key = str(stored["scheduler_id"]).rpartition("/")[2]
    known = names["scheduler_config"].get(int(key)) if key.isdigit() else None
    return ScheduleComputeNodes(**{**stored, "scheduler_id": known or stored["scheduler_id"]})


def _files(row: Any, names: dict[str, dict[int, str]]) -> Steps:
    rows = yield Statement("SELECT * FROM file WHERE workflow_id = :id ORDER BY id", {"id": row["id"]})
    return [FileSpecification(name=names["file"][item["id"]], path=item["path"]) for item in rows]


def _user_data(row: Any, names: dict[str, dict[int, str]]) -> Steps:
    rows = yield Statement("SELECT * FROM user_data WHERE workflow_id = :id ORDER BY id", {"id": row["id"]})
    return [
        UserDataSpecification(
            name=names["user_data"][item["id"]],
            is_ephemeral=bool(item["is_ephemeral"]),
            data=None if item["data"] is None else orjson.loads(item["data"]),
        )
        for item in rows
    ]


def _requirements(row: Any, names: dict[str, dict[int, str]]) -> Steps:
    rows = yield Statement(
        "SELECT * FROM resource_requirements WHERE workflow_id = :id ORDER BY id", {"id": row["id"]}
    )
    return [
        ResourceRequirements(
            name=names["resource_requirements"][item["id"]],
            num_cpus=item["num_cpus"],
            num_gpus=item["num_gpus"],
            num_nodes=item["num_nodes"],
            memory=item["memory"],
            runtime=item["runtime"],
        )
        for item in rows
    ]


def _schedulers(row: Any, names: dict[str, dict[int, str]]) -> Steps:
    rows = yield Statement(
        "SELECT * FROM scheduler_config WHERE workflow_id = :id ORDER BY id", {"id": row["id"]}
    )
    schedulers: dict[str, list[dict[str, Any]]] = {
        "aws_schedulers": [],
        "local_schedulers": [],
        "slurm_schedulers": [],
    }
    for item in rows:
        collection, _, name = names["scheduler_config"][item["id"]].partition("/")
        schedulers[collection].append({"name": name, **orjson.loads(item["body"])})
    return schedulers


# ---- documents that do not come from a workflow -----------------------------------------------

EXAMPLE: dict[str, Any] = {
    "name": "example",
    "user": "user",
    "description": "Two jobs: the second one reads what the first one wrote.",
    "jobs": [
        {
            "name": "work",
            "command": "bash -c 'cat inputs.json settings.json > work.json'",
            "input_files": ["inputs", "settings"],
            "output_files": ["work"],
            "resource_requirements": "medium",
        },
        {
            "name": "postprocess",
            "command": "bash -c 'cat work.json template.txt > report.txt'",
            "input_files": ["work", "layout"],
            "output_files": ["report"],
            "resource_requirements": "small",
        },
    ],
    "files": [
        {"name": "inputs", "path": "inputs.json"},
        {"name": "settings", "path": "settings.json"},
        {"name": "work", "path": "work.json"},
        {"name": "layout", "path": "template.txt"},
        {"name": "report", "path": "report.txt"},
    ],
    "user_data": [],
    "resource_requirements": [
        {"name": "small", "num_cpus": 1, "num_gpus": 0, "num_nodes": 1, "memory": "1g", "runtime": "P0DT10M"},
        {"name": "medium", "num_cpus": 4, "num_gpus": 0, "num_nodes": 1, "memory": "8g", "runtime": "P0DT1H"},
    ],
    "schedulers": {"aws_schedulers": [], "local_schedulers": [], "slurm_schedulers": []},
}


def template(config: dict[str, Any]) -> dict[str, Any]:
    """Return an empty specification with the default config, to be filled in."""
    return {
        "name": "",
        "user": "",
        "description": "",
        "jobs": [],
        "files": [],
        "resource_requirements": [],
        "schedulers": {"aws_schedulers": [], "local_schedulers": [], "slurm_schedulers": []},
        "config": config,
    }
