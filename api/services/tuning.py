"""Auto-tuning: run one job of each kind, measure it, and ask for what it took.

torc's own version fails as soon as a job is blocked, after it has changed requirements; here blocked
jobs are passed over, everything is checked before anything is stored, and the mode ends.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from lading.api.services.identity import Principal
from lading.api.services.initialize import all_jobs, reset_jobs
from lading.api.services.jobs import force_status
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.domain.states import ACTIVE, JobStatus
from lading.toolkit.errors import BadInput

_REQUIREMENTS = (
    "SELECT j.id, j.key, r.id AS requirements_id, r.name, r.num_cpus, r.memory, r.runtime FROM job j "
    "LEFT JOIN resource_requirements r ON r.id = j.resource_requirements_id "
    "WHERE j.workflow_id = :id ORDER BY j.id"
)
GIBIBYTE = 2**30


def begin(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Leave the first job of each kind as it is and disable the others, until results are processed."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        if not orjson.loads(row["config"]).get("compute_node_resource_stats", {}).get("process"):
            raise BadInput(
                "auto-tuning needs measurements: set compute_node_resource_stats.process to true in the "
                "workflow's config"
            )
        ledger = Ledger(row, now_ms, effects)
        jobs = {job.id: job for job in (yield from all_jobs(ledger))}
        if any(job.status in ACTIVE for job in jobs.values()):
            raise BadInput(f"workflow {workflow} has running jobs; wait for them before auto-tuning")
        chosen: dict[str, str] = {}
        for found in (yield Statement(_REQUIREMENTS, {"id": row["id"]})):
            job = jobs[found["id"]]
            if job.status in (JobStatus.BLOCKED, JobStatus.DISABLED):
                continue
            kind = found["name"] or "default"
            if kind not in chosen:
                chosen[kind] = job.key
                continue
            yield from force_status(ledger, job, JobStatus.DISABLED)
        _store_mode(ledger, enabled=True, keys=list(chosen.values()))
        yield from ledger.flush()
        return {"message": f"{len(chosen)} jobs run to be measured; others like them wait"}

    return work


def finish(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Write what the measured jobs took into their requirements and enable the others again."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        mode = orjson.loads(row["auto_tune_status"])
        if not mode.get("job_keys"):
            raise BadInput(f"workflow {workflow} is not being auto-tuned")
        ledger = Ledger(row, now_ms, effects)
        jobs = {job.key: job for job in (yield from all_jobs(ledger))}
        found = {key_of(item): item for item in (yield Statement(_REQUIREMENTS, {"id": row["id"]}))}
        measured: dict[str, dict[str, Any]] = {}
        for key in mode["job_keys"]:
            measured[key] = yield from _measurement(ledger, found.get(key), key)
        for key, change in measured.items():
            yield from _apply(ledger, found[key], change)
        chosen = set(mode["job_keys"])
        waiting = [job for job in jobs.values() if job.key not in chosen and job.status is JobStatus.DISABLED]
        yield from reset_jobs(ledger, waiting)
        _store_mode(ledger, enabled=False, keys=mode["job_keys"])
        yield from ledger.flush()
        return {"message": f"Adjusted the requirements of {len(measured)} kinds of jobs"}

    return work


def _store_mode(ledger: Ledger, *, enabled: bool, keys: list[str]) -> None:
    ledger.columns["auto_tune_status"] = orjson.dumps({"enabled": enabled, "job_keys": keys}).decode()
    ledger.columns["status_rev"] = ledger.workflow["status_rev"] + 1


def _measurement(ledger: Ledger, job: Any, key: str) -> Steps:
    """Return the requirements that a measured job would have needed."""
    if job is None:
        raise BadInput(f"job {key} was measured and is gone")
    if job["requirements_id"] is None:
        raise BadInput(f"job {key} has no resource requirements that could be adjusted")
    statistics = yield Statement(
        "SELECT * FROM job_process_stats WHERE workflow_id = :id AND job_key = :key "
        "ORDER BY run_id DESC, id DESC LIMIT 1",
        {"id": ledger.workflow_id, "key": key},
    )
    results = yield Statement(
        "SELECT * FROM result WHERE job_id = :job AND run_id = :run_id",
        {"job": job["id"], "run_id": ledger.run_id},
    )
    if not statistics or not results:
        what = "result in this run" if statistics else "process statistics"
        raise BadInput(f"job {key} has no {what}: let it finish, with process monitoring on")
    used = statistics[0]
    return {
        "num_cpus": math.ceil(used["max_cpu_percent"] / 100) or 1,
        "memory": f"{max(1, math.ceil(used['max_rss'] / GIBIBYTE))}g",
        "runtime": f"P0DT0H{max(1, math.ceil(results[0]['exec_time_minutes']))}M",
    }


def _apply(ledger: Ledger, job: Any, change: dict[str, Any]) -> Steps:
    yield Statement(
        "UPDATE resource_requirements SET num_cpus = :num_cpus, memory = :memory, runtime = :runtime, "
        "rev = rev + 1 WHERE id = :id",
        {"id": job["requirements_id"], **change},
    )
    old = {name: job[name] for name in ("num_cpus", "memory", "runtime")}
    ledger.add_event(
        {
            "category": "resource_requirements",
            "type": "update",
            "name": job["name"],
            "old": old,
            "new": change,
            "message": f"Adjusted resource requirements {job['name']}",
        }
    )
