"""A job's row as the document that clients see."""

from __future__ import annotations

from typing import Any

import orjson

from lading.api.storage.keys import key_of

SELECT_JOB = "SELECT * FROM job"


def revision(rev: int) -> str:
    """Return the `_rev` of a row: short, URL-safe, new on every change."""
    return f"_{rev}"


def parse_revision(text: str) -> int | None:
    """Return the integer behind a `_rev`; None for text that was never one of ours."""
    digits = text[1:]
    return (
        int(digits)
        if text[:1] == "_" and digits.isascii() and digits.isdigit() and len(digits) < 19
        else None
    )


def job_document(row: Any, workflow: str) -> dict[str, Any]:
    """Encode a job; `workflow` is the workflow's key. Our additive fields appear only when set."""
    key = key_of(row)
    runtime = row["runtime_seconds"]
    document: dict[str, Any] = {
        "name": row["name"],
        "command": row["command"],
        "cancel_on_blocking_job_failure": bool(row["cancel_on_blocking_job_failure"]),
        "supports_termination": bool(row["supports_termination"]),
        "status": row["status"],
        "internal": {
            "memory_bytes": row["memory_bytes"],
            "num_cpus": row["num_cpus"],
            "num_gpus": row["num_gpus"],
            "num_nodes": row["num_nodes"],
            "runtime_seconds": int(runtime) if runtime == int(runtime) else runtime,
            "scheduler_config_id": row["scheduler_config_id"],
            "hash": row["input_hash"],
        },
        "_key": key,
        "_id": f"jobs__{workflow}/{key}",
        "_rev": revision(row["rev"]),
    }
    if row["name"] is None:
        del document["name"]
    if row["invocation_script"] is not None:
        document["invocation_script"] = row["invocation_script"]
    if row["schedule_compute_nodes"] is not None:
        document["schedule_compute_nodes"] = orjson.loads(row["schedule_compute_nodes"])
    document.update(_additive(row))
    return document


def _additive(row: Any) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if row["priority"]:
        extra["priority"] = row["priority"]
    if row["retries"]:
        extra["retries"] = row["retries"]
    if row["env"] is not None:
        extra["env"] = orjson.loads(row["env"])
    if row["workdir"] is not None:
        extra["workdir"] = row["workdir"]
    if row["stdout"] != "separate":
        extra["stdout"] = row["stdout"]
    if row["resources"] is not None:
        extra["resources"] = orjson.loads(row["resources"])
    if row["time_request"] is not None:
        extra["time_request"] = row["time_request"]
    if row["held_reason"] is not None:
        extra["held_reason"] = row["held_reason"]
    return extra
