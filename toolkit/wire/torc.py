"""The documents of the torc API, field by field.

One model serves POST and PUT of a collection. Unknown fields are refused, with one exception: what a
server's own answer carries and nobody may set is dropped, so that a document that was read can be
sent back as it is. `null` stands for "not there" in a field that may be absent; a PUT clears it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lading.toolkit.domain.states import AllocationState, JobStatus
from lading.toolkit.wire.fields import (
    Amount,
    Boolean,
    Duration,
    Integer,
    Memory,
    Natural,
    Number,
    Object,
    Positive,
    PositiveNumber,
    PossiblyEmptyText,
    Retries,
    Seconds,
    Text,
    TextOrNull,
    Walltime,
    refuse,
)

MAXIMUM_PAGE = 100_000

SortMethod = Literal["gpus_runtime_memory", "gpus_memory_runtime", "none"]


class Part(BaseModel):
    """Any object of the API; a base."""

    model_config = ConfigDict(extra="forbid", use_enum_values=True)

    read_only: ClassVar[frozenset[str]] = frozenset()
    """Members of the server's answers that a body may repeat and nobody can set."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the read-only members too: else no answer that has them would fit."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name in sorted(cls.read_only):
            schema.setdefault("properties", {}).setdefault(name, {"readOnly": True})
        return schema

    @model_validator(mode="before")
    @classmethod
    def _drop_read_only(cls, value: Any) -> Any:
        if cls.read_only and isinstance(value, dict) and not cls.read_only.isdisjoint(value):
            return {name: item for name, item in value.items() if name not in cls.read_only}
        return value

    def filled(self) -> dict[str, Any]:
        """Return what a POST stores: what was sent, and the defaults."""
        return self.model_dump(by_alias=True, exclude_none=True)

    def sent(self) -> dict[str, Any]:
        """Return what a PUT changes: only what was sent, None for what it clears."""
        filled = self.filled()
        aliases = (type(self).model_fields[name].alias or name for name in self.model_fields_set)
        return {alias: filled.get(alias) for alias in aliases}


class Document(Part):
    """An object with an identity; a base. `_id` and `_rev` are the server's."""

    read_only: ClassVar[frozenset[str]] = frozenset({"_oldRev"})

    key: Text | None = Field(None, alias="_key")
    id: Text | None = Field(None, alias="_id")
    rev: Text | None = Field(None, alias="_rev")


# ---- workflows -------------------------------------------------------------------------------


class Workflow(Document):
    name: TextOrNull = ""
    user: TextOrNull = ""
    description: TextOrNull = ""
    timestamp: TextOrNull = ""
    """ISO 8601; set by the server when absent or empty."""
    is_archived: Boolean = False

    @field_validator("is_archived", mode="before")
    @classmethod
    def _null_is_false(cls, value: Any) -> Any:
        return False if value is None else value


class ComputeNodeResourceStatsConfig(Part):
    """What runners measure."""

    cpu: Boolean = True
    disk: Boolean = False
    memory: Boolean = True
    network: Boolean = False
    process: Boolean = False
    include_child_processes: Boolean = True
    recurse_child_processes: Boolean = False
    monitor_type: Literal["aggregation", "periodic"] = "aggregation"
    make_plots: Boolean = True
    interval: PositiveNumber = 10
    """Seconds between two samples."""


class WorkflowConfig(Document):
    workflow_startup_script: Text | None = None
    workflow_completion_script: Text | None = None
    worker_startup_script: Text | None = None
    compute_node_resource_stats: ComputeNodeResourceStatsConfig = Field(
        default_factory=ComputeNodeResourceStatsConfig
    )
    compute_node_expiration_buffer_seconds: Amount = 120
    compute_node_wait_for_new_jobs_seconds: Amount = 0
    compute_node_ignore_workflow_completion: Boolean = False
    compute_node_wait_for_healthy_database_minutes: Amount = 20
    prepare_jobs_sort_method: SortMethod = "gpus_runtime_memory"
    lease_seconds: Annotated[float, Field(ge=5, allow_inf_nan=False)] | None = None
    """Lading's: how long a runner may be out of touch; absent: the tolerated outage above."""
    memory_limit_policy: Literal["off", "warn", "kill"] | None = None
    """Lading's: what happens to a job over its memory."""
    on_suspend: Literal["wait", "requeue"] | None = None
    """Lading's: whether jobs of a suspended allocation wait or run elsewhere."""
    working_directory: Text | None = None
    """Where jobs run; ours."""
    output_directory: Text | None = None
    """Where jobs' output and runners' logs go; ours."""


class AutoTuneStatus(Part):
    read_only: ClassVar[frozenset[str]] = frozenset({"disabled"})

    enabled: Boolean = False
    job_keys: list[Text] = Field(default_factory=list)


class WorkflowStatus(Document):
    read_only: ClassVar[frozenset[str]] = Document.read_only | {"scheduled_compute_node_ids"}

    is_canceled: Boolean
    run_id: Natural
    auto_tune_status: AutoTuneStatus
    has_detected_need_to_run_completion_script: Boolean = False


# ---- jobs ------------------------------------------------------------------------------------


class ScheduleParameters(Part):
    """Allocations to ask for when the job becomes ready."""

    scheduler_id: Text
    num_jobs: Positive
    max_parallel_jobs: Positive | None = None
    start_one_worker_per_node: Boolean = False


class JobInternal(Part):
    """What the server worked out at initialize_jobs."""

    memory_bytes: Natural = 0
    num_cpus: Natural = 0
    num_gpus: Natural = 0
    num_nodes: Natural = 0
    runtime_seconds: Amount = 0
    scheduler_config_id: TextOrNull = ""
    hash: Integer = 0


class Job(Document):
    read_only: ClassVar[frozenset[str]] = Document.read_only | {
        "attempt", "held_reason", "reason", "return_code", "unfinished_blockers",
    }  # fmt: skip

    name: Text | None = None
    command: Text
    invocation_script: Text | None = None
    status: JobStatus | None = None
    schedule_compute_nodes: ScheduleParameters | None = None
    cancel_on_blocking_job_failure: Boolean = True
    supports_termination: Boolean = False
    blocked_by: list[Text] = Field(default_factory=list)
    input_files: list[Text] = Field(default_factory=list)
    output_files: list[Text] = Field(default_factory=list)
    input_user_data: list[Text] = Field(default_factory=list)
    output_user_data: list[Text] = Field(default_factory=list)
    resource_requirements: Text | None = None
    scheduler: Text | None = None
    internal: JobInternal = Field(default_factory=JobInternal)
    priority: Integer = 0
    """Lading's: among jobs that fit, the higher goes first."""
    retries: Retries = 0
    """Lading's: how often a job that failed by itself is run again."""
    env: dict[Text, PossiblyEmptyText] | None = None
    """Lading's: environment variables of the job."""
    workdir: Text | None = None
    """Lading's: the directory the job runs in."""
    stdout: Literal["separate", "merge", "none"] = "separate"
    """Lading's: two files, one file, or none for what the job prints."""
    resources: dict[Text, PositiveNumber] | None = None
    """Lading's: amounts of named resources, such as licences."""
    time_request: Seconds | None = None
    """Lading's: how long the job will probably run, in seconds or as a duration."""


class Jobs(Part):
    jobs: list[Job]


class Result(Document):
    job_key: Text
    run_id: Natural
    return_code: Integer
    exec_time_minutes: Number
    completion_time: Text
    status: JobStatus


class JobProcessStats(Document):
    job_key: Text
    run_id: Natural
    avg_cpu_percent: Number
    max_cpu_percent: Number
    avg_rss: Number
    max_rss: Number
    num_samples: Natural
    timestamp: Text


# ---- what jobs need --------------------------------------------------------------------------


class File(Document):
    name: Text | None = None
    path: Text
    st_mtime: Number | None = None
    """Seconds since the epoch; absent: never seen."""


class UserData(Document):
    name: Text | None = None
    is_ephemeral: Boolean = False
    data: Object | None = None


class ResourceRequirements(Document):
    read_only: ClassVar[frozenset[str]] = Document.read_only | {"runtime_seconds", "memory_bytes"}

    name: Text | None = None
    num_cpus: Positive = 1
    num_gpus: Natural = 0
    num_nodes: Positive = 1
    memory: Memory = "1m"
    runtime: Duration = "P0DT1M"


class Edge(Document):
    from_: Text = Field(alias="_from")
    to: Text = Field(alias="_to")
    data: Object | None = None


# ---- nodes and schedulers --------------------------------------------------------------------


class ComputeNodeResources(Part):
    """What a node has, or has left."""

    num_cpus: Natural
    memory_gb: Amount
    num_gpus: Natural = 0
    num_nodes: Natural = 1
    time_limit: Duration | None = None
    scheduler_config_id: TextOrNull = ""


class ComputeNode(Document):
    read_only: ClassVar[frozenset[str]] = Document.read_only | {
        "state", "reason", "draining", "last_seen_ms", "lease_until_ms", "started_ms", "node_index",
    }  # fmt: skip

    hostname: Text
    pid: Natural
    start_time: Text
    duration_seconds: Amount | None = None
    is_active: Boolean | None = None
    resources: ComputeNodeResources
    scheduler: Object = Field(default_factory=dict)


class ComputeNodeStatistic(Part):
    resource_type: Text
    average: Object
    minimum: Object
    maximum: Object
    num_samples: Natural
    job_key: Text | None = None


class ComputeNodeStats(Document):
    hostname: Text
    stats: list[ComputeNodeStatistic] = Field(default_factory=list)
    timestamp: Text


class ScheduledComputeNode(Document):
    read_only: ClassVar[frozenset[str]] = Document.read_only | {
        "reason", "cause", "cancel_requested", "created_ms", "ended_ms", "end_ms",
    }  # fmt: skip

    scheduler_id: Text | None = None
    """What the batch system calls the allocation."""
    scheduler_config_id: Text
    status: AllocationState


class SchedulerConfig(Document):
    """What the three kinds share; Lading's own."""

    read_only: ClassVar[frozenset[str]] = Document.read_only | {"paused_reason"}

    max_allocations: Natural | None = None
    """Allocations of this config that may be open at once by Lading's own planning."""
    min_allocations: Natural | None = None
    max_parallel_jobs: Natural | None = None
    idle_minutes: Natural | None = None
    """How long an idle node waits for work before it leaves."""
    cpu_affinity_cpus_per_job: Positive | None = None
    """Lading's: bind each job to so many CPUs of one NUMA node; jobs count such groups as CPUs."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        least, most = self.min_allocations, self.max_allocations
        if least is not None and most is not None and least > most:
            raise refuse("range", f"min_allocations: {least} is more than max_allocations, {most}")
        return self


class LocalScheduler(SchedulerConfig):
    name: Text = "default"
    memory: Memory | None = None
    num_cpus: Positive | None = None


class SlurmScheduler(SchedulerConfig):
    name: Text | None = None
    account: Text
    nodes: Positive
    gres: Text | None = None
    mem: Text | None = None
    ntasks_per_node: Positive | None = None
    partition: Text | None = None
    qos: Text = "normal"
    tmp: Text | None = None
    walltime: Walltime | None = None
    extra: Text | None = None
    cpus: Positive | None = None
    """Lading's own, like all that follow: CPUs of each task."""
    gpus: Positive | None = None
    """Of each node."""
    exclusive: Boolean | None = None
    """Whether nodes are taken whole; without it they are unless a size is given."""
    constraint: Text | None = None
    exclude: Text | None = None
    reservation: Text | None = None
    array: Boolean | None = None
    """False: equal allocations are jobs of their own instead of the tasks of one array."""
    site: Text | None = None
    set_up: list[Text] | None = None
    """Lines of shell that run before the runner."""
    submit: Literal["sbatch", "pyslurm"] | None = None
    """By what it is submitted; by default by sbatch."""
    on_cannot_start: Literal["cancel", "keep"] | None = None
    """What becomes of an allocation that Slurm will never start as it stands; by default it is canceled."""


class AwsScheduler(SchedulerConfig):
    name: Text | None = None
