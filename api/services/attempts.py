"""The end of attempts: reported by their node, proven by its death, or forced by somebody's reset.

Each attempt ends once: the UPDATE is guarded by `state <> 'ended'`, and a report for an attempt that
has ended already changes nothing and is acknowledged again, so a lost answer costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from lading.api.services import dependents
from lading.api.services.input_hashes import store_hashes
from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.storage.keys import is_integer_key, take_ids
from lading.api.storage.statements import Many, Statement
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain import retry
from lading.toolkit.domain.states import JOB_COMPLETE, AttemptState, Cause, JobStatus
from lading.toolkit.wire.extensions import Usage

_END_ATTEMPT = (
    "UPDATE attempt SET state = 'ended', cause = :cause, return_code = :return_code, signal = :signal, "
    "exec_seconds = :exec_seconds, started_ms = :started_ms, ended_ms = :ended_ms, "
    "cpu_seconds = :cpu_seconds, max_rss_bytes = :max_rss_bytes, stdout_path = :stdout_path, "
    "stderr_path = :stderr_path, message = :message WHERE id = :id AND state <> 'ended'"
)
_INSERT_RESULT = (
    "INSERT INTO result (id, workflow_id, job_id, job_key, run_id, return_code, exec_time_minutes, "
    "completion_time, status) VALUES (:id, :workflow_id, :job_id, :job_key, :run_id, :return_code, "
    ":exec_time_minutes, :completion_time, :status) "
    # A job that was reset and ran again in the same run: its last result is the one that counts.
    "ON CONFLICT (job_id, run_id) DO UPDATE SET rev = result.rev + 1, return_code = excluded.return_code, "
    "exec_time_minutes = excluded.exec_time_minutes, completion_time = excluded.completion_time, "
    "status = excluded.status"
)
_EARLIER = (
    "SELECT job_id, cause, count(*) AS number FROM attempt WHERE job_id IN_LIST(:ids) "
    "AND run_id = :run_id AND state = 'ended' AND (cause <> 'exit' OR return_code <> 0) "
    "GROUP BY job_id, cause"
)
_INSERT_STATISTICS = (
    "INSERT INTO job_process_stats (id, workflow_id, job_key, job_id, run_id, avg_cpu_percent, "
    "max_cpu_percent, avg_rss, max_rss, num_samples, timestamp) VALUES (:id, :workflow_id, :job_key, "
    ":job_id, :run_id, :avg_cpu_percent, :max_cpu_percent, :avg_rss, :max_rss, :num_samples, :timestamp)"
)


@dataclass(slots=True)
class End:
    """How one open attempt ended. `attempt` is its row."""

    attempt: Any
    cause: Cause
    return_code: int
    status: JobStatus = JobStatus.DONE
    signal: int | None = None
    exec_seconds: float = 0.0
    age_seconds: float = 0.0
    started: bool = True
    usage: Usage | None = None
    file_times: dict[str, float] = field(default_factory=dict)
    stdout_path: str | None = None
    stderr_path: str | None = None
    message: str = ""
    completion_time: str | None = None
    """As a torc client wrote it; made from `age_seconds` otherwise."""


@dataclass(slots=True)
class _Results:
    ends: list[tuple[End, JobState, JobStatus, int]] = field(default_factory=list)


def end_attempts(ledger: Ledger, ends: Sequence[End], node_name: str) -> Steps:
    """Close attempts: store results, give jobs back, unblock or cancel dependents."""
    if not ends:
        return
    jobs = yield from _jobs_of(ledger, ends)
    earlier = yield from _earlier_ends(ledger, ends)
    results = _Results()
    finished: list[JobState] = []
    for end in ends:
        job = jobs.get(end.attempt["job_id"])
        if job is None:
            # Deleted meanwhile: the attempt is closed, there is nothing to hold a result.
            end.cause = Cause.CANCELED
            continue
        _close(
            ledger,
            end,
            job,
            earlier=earlier.get(job.id, Counter()),
            results=results,
            finished=finished,
            node_name=node_name,
        )
    yield Many(_END_ATTEMPT, [_attempt_parameters(ledger, end) for end in ends])
    yield from _store_results(ledger, results)
    yield from _store_file_times(ledger, ends)
    yield from store_hashes(ledger, finished)
    yield from dependents.settle(ledger, finished)


def _close(
    ledger: Ledger,
    end: End,
    job: JobState,
    *,
    earlier: Counter[Cause],
    results: _Results,
    finished: list[JobState],
    node_name: str,
) -> None:
    attempt = end.attempt
    owner = job.open_attempt == attempt["id"]
    if owner:
        ledger.set_attempt(job, None)
    if attempt["state"] == AttemptState.REVOKING or not owner or attempt["run_id"] != ledger.run_id:
        # Somebody took the job away; what it is now is theirs to say. A canceled job still gets the
        # one result of its run, which tells what the canceled process returned.
        end.cause = Cause.CANCELED
        if job.status is JobStatus.CANCELED and attempt["run_id"] == ledger.run_id:
            results.ends.append((end, job, JobStatus.CANCELED, end.return_code))
        return
    if end.started and attempt["started_ms"] is None:
        ledger.add_event(start_event(job, node_name), _began_ms(ledger, end))
    verdict = retry.decide(end.cause, end.return_code, end.status, earlier, job.retries)
    if isinstance(verdict, retry.Again) and not ledger.workflow["is_canceled"]:
        ledger.set_status(job, JobStatus.READY)
        end.message = end.message or verdict.message
        return
    if isinstance(verdict, retry.Again):
        verdict = retry.Over(JobStatus.CANCELED, end.return_code)
    end.message = end.message or verdict.message
    ledger.set_status(job, verdict.status, return_code=verdict.return_code)
    finished.append(job)
    results.ends.append((end, job, verdict.status, verdict.return_code))
    ledger.add_event(
        complete_event(job, node_name, verdict.status, verdict.return_code, end.message),
        ledger.now_ms - int(1000 * end.age_seconds),
    )


def declare_end(ledger: Ledger, job: JobState, end: End, node_name: str) -> Steps:
    """Store a client's word that a job is over, where there is no attempt that this could close."""
    if job.status is JobStatus.CANCELED:
        # It stays canceled; the result tells what the canceled process returned.
        end.status = JobStatus.CANCELED
    else:
        if job.status in JOB_COMPLETE:
            # Somebody declared it over before, and left the jobs behind it as they were.
            yield from dependents.unsettle(ledger, [job])
        ledger.set_status(job, end.status, return_code=end.return_code)
        yield from dependents.settle(ledger, [job])
    ledger.add_event(complete_event(job, node_name, end.status, end.return_code))
    yield from _store_results(ledger, _Results([(end, job, end.status, end.return_code)]))


def start_event(job: JobState, node_name: str) -> dict[str, Any]:
    """The event that torc's service writes when a job starts."""
    return {
        "category": "job",
        "type": "start",
        "job_key": job.key,
        "job_name": job.name,
        "node_name": node_name,
        "message": f"Started job {job.name or job.key}",
    }


def complete_event(
    job: JobState, node_name: str, status: JobStatus, return_code: int, message: str = ""
) -> dict[str, Any]:
    """The event that torc's service writes when a job completes."""
    text = f"Completed job {job.name or job.key} status={status.value} return_code={return_code}"
    return {
        "category": "job",
        "type": "complete",
        "job_key": job.key,
        "job_name": job.name,
        "node_name": node_name,
        "message": f"{text}: {message}" if message else text,
    }


def _jobs_of(ledger: Ledger, ends: Sequence[End]) -> Steps:
    loaded = yield from ledger.load(end.attempt["job_id"] for end in ends)
    return {job.id: job for job in loaded}


def _earlier_ends(ledger: Ledger, ends: Sequence[End]) -> Steps:
    """Count how earlier attempts of this run ended, for those jobs where it matters."""
    ids = [end.attempt["job_id"] for end in ends if end.cause is not Cause.EXIT or end.return_code != 0]
    earlier: dict[int, Counter[Cause]] = {}
    if ids:
        rows = yield Statement(_EARLIER, {"ids": ids, "run_id": ledger.run_id})
        for row in rows:
            earlier.setdefault(row["job_id"], Counter())[Cause(row["cause"])] += row["number"]
    return earlier


def _began_ms(ledger: Ledger, end: End) -> int:
    """Return when an attempt began whose start was never reported; never before its claim."""
    began_ms = ledger.now_ms - int(1000 * (end.age_seconds + end.exec_seconds))
    return max(int(end.attempt["claimed_ms"]), began_ms)


def _attempt_parameters(ledger: Ledger, end: End) -> dict[str, Any]:
    ended_ms = ledger.now_ms - int(1000 * end.age_seconds)
    started_ms = end.attempt["started_ms"]
    if started_ms is None and end.started:
        started_ms = _began_ms(ledger, end)
    # Ages are measured on the node and rounded: an attempt must not end before it began.
    ended_ms = max(ended_ms, started_ms or end.attempt["claimed_ms"])
    return {
        "id": end.attempt["id"],
        "cause": end.cause.value,
        "return_code": end.return_code,
        "signal": end.signal,
        "exec_seconds": end.exec_seconds,
        "started_ms": started_ms,
        "ended_ms": ended_ms,
        "cpu_seconds": end.usage.cpu_seconds if end.usage else None,
        "max_rss_bytes": end.usage.max_rss_bytes if end.usage else None,
        "stdout_path": end.stdout_path,
        "stderr_path": end.stderr_path,
        "message": end.message or None,
    }


def _store_results(ledger: Ledger, results: _Results) -> Steps:
    if not results.ends:
        return
    # A canceled job may have been given its result when it was canceled: the first one stays.
    canceled = [job.id for _, job, status, _ in results.ends if status is JobStatus.CANCELED]
    have: set[int] = set()
    if canceled:
        rows = yield Statement(
            "SELECT job_id FROM result WHERE job_id IN_LIST(:ids) AND run_id = :run_id",
            {"ids": canceled, "run_id": ledger.run_id},
        )
        have = {row["job_id"] for row in rows}
    stored = [entry for entry in results.ends if entry[1].id not in have]
    ids = yield from take_ids(len(stored))
    yield Many(
        _INSERT_RESULT,
        [
            {
                "id": result_id,
                "workflow_id": ledger.workflow_id,
                "job_id": job.id,
                "job_key": job.key,
                "run_id": ledger.run_id,
                "return_code": return_code,
                "exec_time_minutes": end.exec_seconds / 60.0,
                "completion_time": end.completion_time or iso_utc(ledger.now_ms / 1000 - end.age_seconds),
                "status": status.value,
            }
            for result_id, (end, job, status, return_code) in zip(ids, stored, strict=True)
        ],
    )
    yield from _store_statistics(ledger, results)


def _store_statistics(ledger: Ledger, results: _Results) -> Steps:
    """Keep a document of sampled use where the workflow's config asks for one."""
    if not any(end.usage and end.usage.num_samples for end, *_ in results.ends):
        return
    if not orjson.loads(ledger.workflow["config"]).get("compute_node_resource_stats", {}).get("process"):
        return
    sampled = [(end.usage, job) for end, job, *_ in results.ends if end.usage and end.usage.num_samples]
    ids = yield from take_ids(len(sampled))
    yield Many(
        _INSERT_STATISTICS,
        [
            {
                "id": document_id,
                "workflow_id": ledger.workflow_id,
                "job_key": job.key,
                "job_id": job.id,
                "run_id": ledger.run_id,
                "avg_cpu_percent": usage.average_cpu_percent,
                "max_cpu_percent": usage.max_cpu_percent,
                "avg_rss": float(usage.average_rss_bytes),
                "max_rss": float(usage.max_rss_bytes),
                "num_samples": usage.num_samples,
                "timestamp": iso_utc(ledger.now_ms / 1000),
            }
            for document_id, (usage, job) in zip(ids, sampled, strict=True)
        ],
    )


def _store_file_times(ledger: Ledger, ends: Sequence[End]) -> Steps:
    times = [
        {
            "id": int(key) if is_integer_key(key) else -1,
            "key": key,
            "st_mtime": mtime,
            "workflow_id": ledger.workflow_id,
        }
        for end in ends
        for key, mtime in end.file_times.items()
    ]
    if times:
        yield Many(
            "UPDATE file SET st_mtime = :st_mtime, rev = rev + 1 WHERE workflow_id = :workflow_id "
            "AND ((id = :id AND key IS NULL) OR key = :key) "
            "AND (st_mtime IS NULL OR st_mtime <> :st_mtime)",
            times,
        )


def revoke(ledger: Ledger, jobs: Sequence[JobState]) -> Steps:
    """Take running jobs away from their nodes; the caller then gives them their new status.

    The attempt stays open, as `revoking`, until its node confirms that nothing of it runs, or dies:
    until then no claim takes the job, so two attempts can never overlap. A torc client's worker
    never confirms anything: its attempts are closed at once.
    """
    held = {job.open_attempt: job for job in jobs if job.open_attempt is not None}
    if not held:
        return
    rows = yield Statement(
        "SELECT a.*, n.state AS node_state FROM attempt a "
        "LEFT JOIN compute_node n ON n.id = a.compute_node_id WHERE a.id IN_LIST(:ids)",
        {"ids": list(held)},
    )
    closed, revoked = [], []
    for row in rows:
        if row["state"] == AttemptState.ENDED:
            ledger.set_attempt(held[row["id"]], None)
        elif row["node_state"] in ("active", "silent"):
            revoked.append({"id": row["id"]})
            ledger.effects.nodes.add(row["compute_node_id"])
        else:
            closed.append({"id": row["id"], "now": ledger.now_ms})
            ledger.set_attempt(held[row["id"]], None)
    if revoked:
        yield Many("UPDATE attempt SET state = 'revoking' WHERE id = :id AND state <> 'ended'", revoked)
    if closed:
        yield Many(
            "UPDATE attempt SET state = 'ended', cause = 'canceled', ended_ms = :now "
            "WHERE id = :id AND state <> 'ended'",
            closed,
        )
