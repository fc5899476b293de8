"""What a workflow lacks before it can start, and what its ready jobs ask for."""

from __future__ import annotations

from typing import Any

from lading.api.services.documents.of_jobs import DEFAULT_REQUIREMENTS
from lading.api.services.documents.rules import scheduler_row
from lading.api.services.identity import Principal
from lading.api.services.resources import Services
from lading.api.services.workflows import find_workflow, workflow_key
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.domain.values import parse_duration, parse_memory

_MISSING_USER_DATA = """
SELECT d.id, d.key FROM user_data d
WHERE d.workflow_id = :workflow_id AND d.data = '{}'
  AND EXISTS (SELECT 1 FROM edge c WHERE c.workflow_id = :workflow_id AND c.name = 'consumes' AND c.to_id = d.id)
  AND NOT EXISTS (
    SELECT 1 FROM edge s JOIN job j ON j.id = s.from_id
    WHERE s.workflow_id = :workflow_id AND s.name = 'stores' AND s.to_id = d.id AND j.status <> 'done')
ORDER BY d.id
"""
"""Consumed, empty, and nobody is still going to store it."""

_EXISTING_FILES = """
SELECT f.id, f.key FROM file f
WHERE f.workflow_id = :workflow_id AND (
  (EXISTS (SELECT 1 FROM edge n WHERE n.workflow_id = :workflow_id AND n.name = 'needs' AND n.to_id = f.id)
   AND NOT EXISTS (
     SELECT 1 FROM edge p WHERE p.workflow_id = :workflow_id AND p.name = 'produces' AND p.to_id = f.id))
  OR EXISTS (
    SELECT 1 FROM edge p JOIN job j ON j.id = p.from_id
    WHERE p.workflow_id = :workflow_id AND p.name = 'produces' AND p.to_id = f.id
      AND j.status = 'done' AND j.return_code = 0))
ORDER BY f.id
"""
"""Needed and produced by no job, or produced by one that succeeded."""

_READY = """
SELECT r.id AS requirements, count(*) AS jobs, max(r.num_cpus) AS num_cpus, max(r.num_gpus) AS num_gpus,
       max(r.num_nodes) AS num_nodes, max(r.memory) AS memory, max(r.runtime) AS runtime
FROM job j LEFT JOIN resource_requirements r ON r.id = j.resource_requirements_id
WHERE j.workflow_id = :workflow_id AND j.status = 'ready'{schedulers}
GROUP BY r.id
"""


async def missing_user_data(services: Services, principal: Principal, workflow: str) -> dict[str, Any]:
    """Return the keys of consumed user data that is still `{}` and that no unfinished job stores."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        rows = yield Statement(_MISSING_USER_DATA, {"workflow_id": owner["id"]})
        return {"user_data": [key_of(row) for row in rows]}

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def required_existing_files(services: Services, principal: Principal, workflow: str) -> dict[str, Any]:
    """Return the `_id`s of the files that must exist for the workflow to start or go on."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        rows = yield Statement(_EXISTING_FILES, {"workflow_id": owner["id"]})
        name = workflow_key(owner)
        return {"files": [f"files__{name}/{key_of(row)}" for row in rows]}

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def ready_job_requirements(
    services: Services, principal: Principal, workflow: str, scheduler_config_id: str | None
) -> dict[str, Any]:
    """Return what all ready jobs ask for together; with a scheduler, only those it may run."""

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        parameters: dict[str, Any] = {"workflow_id": owner["id"]}
        schedulers = ""
        if scheduler_config_id:
            row = yield from scheduler_row(owner, "scheduler_config_id", scheduler_config_id)
            parameters["scheduler"] = row["id"]
            schedulers = " AND (j.scheduler_id IS NULL OR j.scheduler_id = :scheduler)"
        rows = yield Statement(_READY.replace("{schedulers}", schedulers), parameters)
        # What the largest jobs ask for matters to whoever plans for one scheduler; torc does not say it.
        return _sum_up(rows) | (_largest(rows) if scheduler_config_id and rows else {})

    answer: dict[str, Any] = await services.database.read(work)
    return answer


def _largest(rows: Any) -> dict[str, Any]:
    asked = [row if row["requirements"] is not None else DEFAULT_REQUIREMENTS for row in rows]
    return {
        "max_num_cpus": max(one["num_cpus"] for one in asked),
        "max_num_gpus": max(one["num_gpus"] for one in asked),
        "max_memory_gb": max(parse_memory(one["memory"]) for one in asked) / 2**30,
    }


def _sum_up(rows: Any) -> dict[str, Any]:
    num_jobs = num_cpus = num_gpus = memory = most_nodes = whole_nodes = 0
    longest, longest_text = 0.0, ""
    for row in rows:
        asked = row if row["requirements"] is not None else DEFAULT_REQUIREMENTS
        jobs = row["jobs"]
        num_jobs += jobs
        num_cpus += jobs * asked["num_cpus"]
        num_gpus += jobs * asked["num_gpus"]
        memory += jobs * parse_memory(asked["memory"])
        most_nodes = max(most_nodes, asked["num_nodes"])
        if asked["num_nodes"] > 1:
            whole_nodes += jobs * asked["num_nodes"]
        seconds = parse_duration(asked["runtime"])
        if seconds > longest:
            longest, longest_text = seconds, asked["runtime"]
    answer: dict[str, Any] = {
        "num_jobs": num_jobs,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "memory_gb": memory / 2**30,
        "max_num_nodes": most_nodes,
        "max_runtime": longest_text,
    }
    # Not torc's: said only where there are such jobs.
    return answer | ({"num_whole_nodes": whole_nodes} if whole_nodes else {})
