"""The tables as Tortoise models, for reading lists: column by column what the migrations make.

No relations are declared: writers are generators of statements, and a reader joins where it must.
A test compares these models with both databases, so that a migration cannot leave them behind.
"""

from __future__ import annotations

from typing import Any

from tortoise.fields import BigIntField, BooleanField, Field, FloatField, TextField
from tortoise.models import Model


class Row(Model):
    """A row with an id of the growing sequence; a base."""

    id = BigIntField(primary_key=True, generated=False)

    @classmethod
    def table_name(cls) -> str:
        """Name the table."""
        return str(cls._meta.db_table)

    @classmethod
    def columns(cls) -> dict[str, Field[Any]]:
        """Return column -> field; the two are named alike everywhere."""
        return cls._meta.fields_map

    @classmethod
    def holds_text(cls, column: str) -> bool:
        """Whether there is a column of that name and it is one of texts."""
        return isinstance(cls.columns().get(column), TextField)

    class Meta:
        abstract = True


class Server(Row):
    server_id = TextField()
    created_ms = BigIntField()

    class Meta:
        table = "server"


class Workflow(Row):
    key = TextField(null=True)
    rev = BigIntField()
    name = TextField()
    user_name = TextField()
    description = TextField()
    timestamp = TextField()
    is_archived = BooleanField()
    owner = TextField()
    config = TextField()
    config_rev = BigIntField()
    status_rev = BigIntField()
    run_id = BigIntField()
    is_canceled = BooleanField()
    completion_script_claimed = BooleanField(null=True)
    auto_tune_status = TextField()
    scheduled_compute_node_ids = TextField()
    event_sequence = BigIntField()
    num_failed = BigIntField()
    n_uninitialized = BigIntField()
    n_blocked = BigIntField()
    n_ready = BigIntField()
    n_scheduled = BigIntField()
    n_submitted_pending = BigIntField()
    n_submitted = BigIntField()
    n_done = BigIntField()
    n_canceled = BigIntField()
    n_terminated = BigIntField()
    n_disabled = BigIntField()

    class Meta:
        table = "workflow"


class OfWorkflow(Row):
    """A row that belongs to a workflow and goes with it; a base."""

    workflow_id = BigIntField()

    class Meta:
        abstract = True


class RequestClass(OfWorkflow):
    num_cpus = BigIntField()
    num_gpus = BigIntField()
    num_nodes = BigIntField()
    memory_bytes = BigIntField()
    runtime_seconds = FloatField()
    scheduler_config_id = TextField()
    priority = BigIntField()
    n_claimable = BigIntField()

    class Meta:
        table = "request_class"


class DocumentRow(OfWorkflow):
    """A row that is a document: it has a key, perhaps a chosen one, and a revision; a base."""

    key = TextField(null=True)
    rev = BigIntField()

    class Meta:
        abstract = True


class ResourceRequirements(DocumentRow):
    name = TextField(null=True)
    num_cpus = BigIntField()
    num_gpus = BigIntField()
    num_nodes = BigIntField()
    memory = TextField()
    runtime = TextField()

    class Meta:
        table = "resource_requirements"


class SchedulerConfig(DocumentRow):
    kind = TextField()
    name = TextField(null=True)
    body = TextField()
    paused_reason = TextField(null=True)
    shape = TextField(null=True)
    shape_rev = BigIntField(null=True)
    shape_ms = BigIntField(null=True)
    shape_asked_ms = BigIntField(null=True)
    setbacks = BigIntField()
    setback_reason = TextField(null=True)
    setback_ms = BigIntField(null=True)
    not_before_ms = BigIntField(null=True)
    surplus = BigIntField()
    surplus_ms = BigIntField(null=True)

    class Meta:
        table = "scheduler_config"


class Job(DocumentRow):
    name = TextField(null=True)
    command = TextField()
    invocation_script = TextField(null=True)
    status = TextField()
    cancel_on_blocking_job_failure = BooleanField()
    supports_termination = BooleanField()
    schedule_compute_nodes = TextField(null=True)
    resource_requirements_id = BigIntField(null=True)
    scheduler_id = BigIntField(null=True)
    num_cpus = BigIntField()
    num_gpus = BigIntField()
    num_nodes = BigIntField()
    memory_bytes = BigIntField()
    runtime_seconds = FloatField()
    scheduler_config_id = TextField()
    input_hash = BigIntField()
    priority = BigIntField()
    retries = BigIntField()
    env = TextField(null=True)
    workdir = TextField(null=True)
    stdout = TextField()
    resources = TextField(null=True)
    time_request = FloatField(null=True)
    request_class_id = BigIntField(null=True)
    unfinished_blockers = BigIntField()
    claimable = BooleanField()
    open_attempt = BigIntField(null=True)
    return_code = BigIntField(null=True)
    scheduled_run_id = BigIntField(null=True)
    held_reason = TextField(null=True)

    class Meta:
        table = "job"


class File(DocumentRow):
    name = TextField(null=True)
    path = TextField()
    st_mtime = FloatField(null=True)

    class Meta:
        table = "file"


class UserData(DocumentRow):
    name = TextField(null=True)
    is_ephemeral = BooleanField()
    data = TextField(null=True)

    class Meta:
        table = "user_data"


class Edge(OfWorkflow):
    key = TextField(null=True)
    name = TextField()
    from_id = BigIntField()
    to_id = BigIntField()
    data = TextField(null=True)

    class Meta:
        table = "edge"


class Launch(OfWorkflow):
    tag = TextField()
    backend = TextField()
    scheduler_id = BigIntField()
    scheduler_config_id = TextField()
    count = BigIntField()
    state = TextField()
    automatic = BooleanField()
    parameters = TextField()
    error = TextField(null=True)
    not_before_ms = BigIntField()
    created_ms = BigIntField()

    class Meta:
        table = "launch"


class ScheduledComputeNode(DocumentRow):
    scheduler_id = TextField(null=True)
    scheduler_config_id = TextField()
    status = TextField()
    launch_id = BigIntField(null=True)
    row_index = BigIntField()
    reason = TextField(null=True)
    cause = TextField(null=True)
    cancel_requested = BooleanField()
    draining = BooleanField()
    end_ms = BigIntField(null=True)
    created_ms = BigIntField()
    ended_ms = BigIntField(null=True)
    take_back_reason = TextField(null=True)

    class Meta:
        table = "scheduled_compute_node"


class ComputeNode(DocumentRow):
    hostname = TextField()
    pid = BigIntField()
    start_time = TextField()
    duration_seconds = FloatField(null=True)
    is_active = BooleanField(null=True)
    resources = TextField()
    scheduler = TextField()
    state = TextField(null=True)
    registration_id = TextField(null=True)
    boot_id = TextField(null=True)
    allocation_id = BigIntField(null=True)
    node_index = BigIntField()
    restart_count = BigIntField()
    num_cpus = BigIntField()
    num_gpus = BigIntField()
    memory_bytes = BigIntField()
    scheduler_config_id = TextField()
    lease_seconds = FloatField(null=True)
    lease_until_ms = BigIntField(null=True)
    last_seen_ms = BigIntField(null=True)
    frozen = BooleanField()
    draining = BooleanField()
    ending = BooleanField()
    has_worked = BooleanField()
    started_ms = BigIntField(null=True)
    reason = TextField(null=True)

    class Meta:
        table = "compute_node"


class Attempt(OfWorkflow):
    attempt_id = TextField()
    job_id = BigIntField()
    run_id = BigIntField()
    number = BigIntField()
    compute_node_id = BigIntField(null=True)
    state = TextField()
    claimed_ms = BigIntField()
    started_ms = BigIntField(null=True)
    ended_ms = BigIntField(null=True)
    cause = TextField(null=True)
    return_code = BigIntField(null=True)
    signal = BigIntField(null=True)
    exec_seconds = FloatField(null=True)
    pid = BigIntField(null=True)
    num_cpus = BigIntField()
    num_gpus = BigIntField()
    memory_bytes = BigIntField()
    cpu_seconds = FloatField(null=True)
    max_rss_bytes = BigIntField(null=True)
    stdout_path = TextField(null=True)
    stderr_path = TextField(null=True)
    message = TextField(null=True)

    class Meta:
        table = "attempt"


class Result(DocumentRow):
    job_id = BigIntField(null=True)
    job_key = TextField()
    run_id = BigIntField()
    return_code = BigIntField()
    exec_time_minutes = FloatField()
    completion_time = TextField()
    status = TextField()

    class Meta:
        table = "result"


class ComputeNodeStats(DocumentRow):
    hostname = TextField()
    timestamp = TextField()
    stats = TextField()
    compute_node_id = BigIntField(null=True)

    class Meta:
        table = "compute_node_stats"


class JobProcessStats(DocumentRow):
    job_key = TextField()
    job_id = BigIntField(null=True)
    run_id = BigIntField()
    avg_cpu_percent = FloatField()
    max_cpu_percent = FloatField()
    avg_rss = FloatField()
    max_rss = FloatField()
    num_samples = BigIntField()
    timestamp = TextField()

    class Meta:
        table = "job_process_stats"


class Event(DocumentRow):
    sequence = BigIntField()
    timestamp = BigIntField()
    category = TextField(null=True)
    type = TextField(null=True)
    body = TextField()

    class Meta:
        table = "event"


class Token(Row):
    hash = TextField()
    label = TextField()
    scope = TextField()
    user_name = TextField()
    workflow_id = BigIntField(null=True)
    allocation_id = BigIntField(null=True)
    compute_node_id = BigIntField(null=True)
    created_ms = BigIntField()
    expires_ms = BigIntField(null=True)
    revoked_ms = BigIntField(null=True)

    class Meta:
        table = "token"


class SubmitterLease(Row):
    site = TextField()
    backend = TextField()
    holder = TextField()
    until_ms = BigIntField()

    class Meta:
        table = "submitter_lease"


class Idempotency(Row):
    principal = TextField()
    idempotency_key = TextField()
    request_hash = TextField()
    response = TextField()
    created_ms = BigIntField()

    class Meta:
        table = "idempotency"
