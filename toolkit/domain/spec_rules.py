"""The fields of a specification: the one table that says what is accepted where."""

from __future__ import annotations

from typing import Any, Final

from lading.toolkit.domain import spec_fields as read
from lading.toolkit.domain.spec_fields import INVALID, MOST, Rule
from lading.toolkit.domain.spec_report import Report, Way
from lading.toolkit.domain.tree import Node, clip

_line: Final = read.text(is_line=True)
_any_line: Final = read.text(is_line=True, may_be_empty=True)
_any_text: Final = read.text(may_be_empty=True)

# Keys are parts of addresses; these are the characters that the torc service's database allows.
_KEY_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:.@()+,=;$!*'%"
)
_LONGEST_KEY: Final = 254


def _key(node: Node, way: Way, report: Report) -> Any:
    value = _line(node, way, report)
    if value is INVALID or (_KEY_CHARACTERS.issuperset(value) and len(value) <= _LONGEST_KEY):
        return value
    accepted = f"at most {_LONGEST_KEY} of the characters A-Z a-z 0-9 _-:.@()+,=;$!*'%"
    report.add(
        way, f"The key {clip(value)!r} is refused; accepted are {accepted}.", value=value, accepted=accepted
    )
    return INVALID


_IDS: Final = {name: Rule(read.ignored, is_nullable=True) for name in ("_key", "_id", "_rev")}

FILE: Final = {
    "name": Rule(_line),
    "path": Rule(_line, is_required=True),
    "st_mtime": Rule(read.number(), is_nullable=True),
    **_IDS,
}

USER_DATA: Final = {
    "name": Rule(_line, is_required=True),
    "is_ephemeral": Rule(read.boolean),
    "data": Rule(read.free_object),
    **_IDS,
}

RESOURCE_REQUIREMENTS: Final = {
    "name": Rule(_line, is_required=True),
    "num_cpus": Rule(read.integer(1)),
    "num_gpus": Rule(read.integer(0)),
    "num_nodes": Rule(read.integer(1)),
    "memory": Rule(read.memory),
    "runtime": Rule(read.duration),
    **_IDS,
}

_SIZING: Final = {
    "min_allocations": Rule(read.integer(0)),
    "max_allocations": Rule(read.integer(0)),
    "max_parallel_jobs": Rule(read.integer(1)),
    "idle_minutes": Rule(read.number()),
    "cpu_affinity_cpus_per_job": Rule(read.integer(1), is_nullable=True),
}

AWS_SCHEDULER: Final = {"name": Rule(_line), **_SIZING, **_IDS}

LOCAL_SCHEDULER: Final = {
    "name": Rule(_line),
    "memory": Rule(read.memory),
    "num_cpus": Rule(read.integer(1)),
    **_SIZING,
    **_IDS,
}

SLURM_SCHEDULER: Final = {
    "name": Rule(_line),
    "account": Rule(_line, is_required=True),
    "nodes": Rule(read.integer(1), is_required=True),
    "gres": Rule(_line, is_nullable=True),
    "mem": Rule(_line, is_nullable=True),
    "ntasks_per_node": Rule(read.integer(1), is_nullable=True),
    "partition": Rule(_line),
    "qos": Rule(_line),
    "tmp": Rule(_line, is_nullable=True),
    "walltime": Rule(read.walltime),
    "extra": Rule(_line, is_nullable=True),
    "cpus": Rule(read.integer(1), is_nullable=True),
    "gpus": Rule(read.integer(1), is_nullable=True),
    "exclusive": Rule(read.boolean, is_nullable=True),
    "constraint": Rule(_line, is_nullable=True),
    "exclude": Rule(_line, is_nullable=True),
    "reservation": Rule(_line, is_nullable=True),
    "array": Rule(read.boolean),
    "site": Rule(_line, is_nullable=True),
    "set_up": Rule(read.items(read.text(is_line=True), "lines of shell")),
    "submit": Rule(read.choice("sbatch", "pyslurm"), is_nullable=True),
    "on_cannot_start": Rule(read.choice("cancel", "keep")),
    **_SIZING,
    **_IDS,
}

SCHEDULERS: Final = {
    "aws_schedulers": Rule(read.items(read.part(AWS_SCHEDULER), "schedulers")),
    "local_schedulers": Rule(read.items(read.part(LOCAL_SCHEDULER), "schedulers")),
    "slurm_schedulers": Rule(read.items(read.part(SLURM_SCHEDULER), "schedulers")),
}

SCHEDULE_COMPUTE_NODES: Final = {
    "scheduler_id": Rule(_line, is_required=True),
    "num_jobs": Rule(read.integer(1), is_required=True),
    "max_parallel_jobs": Rule(read.integer(1), is_nullable=True),
    "start_one_worker_per_node": Rule(read.boolean),
}

JOB: Final = {
    "name": Rule(_line, is_required=True),
    "key": Rule(_key),
    "command": Rule(read.command, is_required=True),
    "invocation_script": Rule(read.command, is_nullable=True),
    "cancel_on_blocking_job_failure": Rule(read.boolean),
    "supports_termination": Rule(read.boolean),
    "scheduler": Rule(_any_line, is_nullable=True),
    "schedule_compute_nodes": Rule(read.part(SCHEDULE_COMPUTE_NODES), is_nullable=True),
    "input_files": Rule(read.file_references),
    "output_files": Rule(read.file_references),
    "input_user_data": Rule(read.names("names of user data")),
    "output_user_data": Rule(read.names("names of user data")),
    "blocked_by": Rule(read.names("names of jobs")),
    "resource_requirements": Rule(_line),
    "priority": Rule(read.integer(-MOST)),
    "retries": Rule(read.integer(0, 1_000)),
    "env": Rule(read.mapping(read.variable, "environment variables")),
    "workdir": Rule(_line),
    "stdout": Rule(read.choice("separate", "merge", "none")),
    "resources": Rule(read.mapping(read.number(0, is_exclusive=True), "resources")),
    "time_request": Rule(read.duration_seconds),
}

RESOURCE_STATISTICS: Final = {
    **{
        name: Rule(read.boolean)
        for name in ("cpu", "disk", "memory", "network", "process", "include_child_processes")
    },
    "recurse_child_processes": Rule(read.boolean),
    "monitor_type": Rule(read.choice("aggregation", "periodic")),
    "make_plots": Rule(read.boolean),
    "interval": Rule(read.number(0, is_exclusive=True)),
}

CONFIG: Final = {
    "workflow_startup_script": Rule(read.command),
    "workflow_completion_script": Rule(read.command),
    "worker_startup_script": Rule(read.command),
    "compute_node_resource_stats": Rule(read.part(RESOURCE_STATISTICS)),
    "compute_node_expiration_buffer_seconds": Rule(read.number()),
    "compute_node_wait_for_new_jobs_seconds": Rule(read.number()),
    "compute_node_ignore_workflow_completion": Rule(read.boolean),
    "compute_node_wait_for_healthy_database_minutes": Rule(read.number()),
    "prepare_jobs_sort_method": Rule(read.choice("gpus_runtime_memory", "gpus_memory_runtime", "none")),
    "lease_seconds": Rule(read.number(5)),
    "memory_limit_policy": Rule(read.choice("off", "warn", "kill")),
    "on_suspend": Rule(read.choice("wait", "requeue")),
    "working_directory": Rule(_line),
    "output_directory": Rule(_line),
    **_IDS,
}

SPECIFICATION: Final = {
    "name": Rule(_any_line, is_nullable=True),
    "user": Rule(_any_line, is_nullable=True),
    "description": Rule(_any_text, is_nullable=True),
    "key": Rule(_key),
    "is_archived": Rule(read.boolean, is_nullable=True),
    "jobs": Rule(read.items(read.part(JOB), "jobs")),
    "files": Rule(read.items(read.part(FILE), "files")),
    "user_data": Rule(read.items(read.part(USER_DATA), "user data")),
    "resource_requirements": Rule(read.items(read.part(RESOURCE_REQUIREMENTS), "resource requirements")),
    "schedulers": Rule(read.part(SCHEDULERS)),
    "config": Rule(read.part(CONFIG)),
}
