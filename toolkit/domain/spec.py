"""A workflow specification: what a person asked for, complete and checked.

The objects here are made by `lading.toolkit.domain.spec_reader`, which refuses what is wrong. Names
and defaults are those of the torc API; the fields that Lading adds are marked, and travel only where
they differ from their default, so that a document without them is a plain torc document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from lading.toolkit.domain.values import format_duration, parse_duration, parse_memory

StreamMode: TypeAlias = Literal["separate", "merge", "none"]
SubmitProgram: TypeAlias = Literal["sbatch", "pyslurm"]
SortMethod: TypeAlias = Literal["gpus_runtime_memory", "gpus_memory_runtime", "none"]
MemoryLimitPolicy: TypeAlias = Literal["off", "warn", "kill"]
SuspendPolicy: TypeAlias = Literal["wait", "requeue"]

SCHEDULER_COLLECTIONS: Final = ("aws_schedulers", "local_schedulers", "slurm_schedulers")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpecification:
    """A file that jobs read or write."""

    name: str
    path: str
    st_mtime: float | None = None
    """Seconds since the epoch; None: never seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDataSpecification:
    """A JSON object that jobs read or write, kept by the server."""

    name: str
    is_ephemeral: bool = False
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequirements:
    """What a job needs to run."""

    name: str
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory: str = "1m"
    """As written; `memory_bytes` is its meaning."""
    runtime: str = "P0DT1M"
    """ISO 8601; `runtime_seconds` is its meaning. The job is ended when it runs longer."""

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return parse_memory(self.memory)

    @property
    def runtime_seconds(self) -> float:
        """The run-time limit in seconds."""
        return parse_duration(self.runtime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Lading's, in every kind of scheduler: how many allocations come by themselves."""

    min_allocations: int | None = None
    """Kept open while the workflow has unfinished jobs; None: none."""
    max_allocations: int | None = None
    """The most that are open at once; None: none comes without a request."""
    max_parallel_jobs: int | None = None
    """The most jobs that one runner runs at once."""
    idle_minutes: float | None = None
    """How long a runner without work stays."""
    cpu_affinity_cpus_per_job: int | None = None
    """Bind each job to so many CPUs of one NUMA node; jobs count such groups as CPUs. None: no binding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalScheduler(Sizing):
    """Run on this machine; None: all that it has."""

    name: str = "default"
    memory: str | None = None
    num_cpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmScheduler(Sizing):
    """Run in Slurm allocations; the texts are those of sbatch options."""

    name: str = "default"
    account: str
    nodes: int
    gres: str | None = None
    mem: str | None = None
    ntasks_per_node: int | None = None
    partition: str | None = None
    qos: str = "normal"
    tmp: str | None = None
    walltime: str | None = None
    extra: str | None = None
    cpus: int | None = None
    """Lading's, like all that follow. CPUs of each task; None, without other sizes: whole nodes."""
    gpus: int | None = None
    """GPUs of each node."""
    exclusive: bool | None = None
    """Whether nodes are taken whole; None: unless a size is given."""
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    array: bool = True
    """Whether equal allocations are the tasks of one job array."""
    site: str | None = None
    """Where it is submitted: the name of a submitter's site."""
    set_up: tuple[str, ...] = ()
    """Lines of shell that run before the runner."""
    submit: SubmitProgram | None = None
    """By what it is submitted; by default by sbatch."""
    on_cannot_start: str = "cancel"
    """What becomes of an allocation that will never start as it stands: `cancel` (and pause the config), `keep`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsScheduler(Sizing):
    """Run on EC2 instances."""

    name: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedulers:
    """The scheduler configs of the workflow."""

    aws_schedulers: tuple[AwsScheduler, ...] = ()
    local_schedulers: tuple[LocalScheduler, ...] = ()
    slurm_schedulers: tuple[SlurmScheduler, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleComputeNodes:
    """Allocations to ask for when the job becomes ready."""

    scheduler_id: str
    """COLLECTION/NAME of a scheduler of the same document."""
    num_jobs: int
    max_parallel_jobs: int | None = None
    start_one_worker_per_node: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpecification:
    """One job; relations hold names of the same document."""

    name: str
    command: str
    key: str | None = None
    """Accepted and without effect, as in torc: the server gives keys."""
    invocation_script: str | None = None
    cancel_on_blocking_job_failure: bool = True
    supports_termination: bool = False
    scheduler: str | None = None
    """COLLECTION/NAME."""
    schedule_compute_nodes: ScheduleComputeNodes | None = None
    input_files: tuple[str, ...] = ()
    output_files: tuple[str, ...] = ()
    input_user_data: tuple[str, ...] = ()
    output_user_data: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    resource_requirements: str | None = None
    priority: int = 0
    """Lading's: among jobs that fit, the higher goes first."""
    retries: int = 0
    """Lading's: how often a job that failed by itself is run again."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Lading's: environment variables of the job."""
    workdir: str | None = None
    """Lading's: the directory the job runs in; None: that of the workflow."""
    stdout: StreamMode = "separate"
    """Lading's: two files, one file, or none for what the job prints."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Lading's: amounts of named resources, such as licences."""
    time_request: float | None = None
    """Lading's: the seconds the job will probably run, apart from its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatistics:
    """What runners measure."""

    cpu: bool = True
    disk: bool = False
    memory: bool = True
    network: bool = False
    process: bool = False
    include_child_processes: bool = True
    recurse_child_processes: bool = False
    monitor_type: Literal["aggregation", "periodic"] = "aggregation"
    make_plots: bool = True
    interval: float = 10
    """Seconds between two samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowConfig:
    """How the workflow is run."""

    workflow_startup_script: str | None = None
    workflow_completion_script: str | None = None
    worker_startup_script: str | None = None
    compute_node_resource_stats: ResourceStatistics = field(default_factory=ResourceStatistics)
    compute_node_expiration_buffer_seconds: float = 120
    compute_node_wait_for_new_jobs_seconds: float = 0
    compute_node_ignore_workflow_completion: bool = False
    compute_node_wait_for_healthy_database_minutes: float = 20
    prepare_jobs_sort_method: SortMethod = "gpus_runtime_memory"
    lease_seconds: float | None = None
    """Lading's: how long a runner may be out of touch; None: the tolerated outage above."""
    memory_limit_policy: MemoryLimitPolicy | None = None
    """Lading's: what happens to a job over its memory; None: the server's default."""
    on_suspend: SuspendPolicy | None = None
    """Lading's: whether jobs of a suspended allocation wait or run elsewhere; None: wait."""
    working_directory: str | None = None
    """Lading's: where jobs run, an absolute path; None: where the runner was started."""
    output_directory: str | None = None
    """Lading's: where jobs' output and runners' logs go, an absolute path; None: ./output there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """A whole workflow."""

    name: str = ""
    user: str = ""
    description: str = ""
    key: str | None = None
    is_archived: bool = False
    jobs: tuple[JobSpecification, ...] = ()
    files: tuple[FileSpecification, ...] = ()
    user_data: tuple[UserDataSpecification, ...] = ()
    resource_requirements: tuple[ResourceRequirements, ...] = ()
    schedulers: Schedulers = field(default_factory=Schedulers)
    config: WorkflowConfig = field(default_factory=WorkflowConfig)

    def to_document(self) -> dict[str, Any]:
        """Return the JSON body of `POST /workflow_specifications`, without what has its default."""
        return to_document(self)


def to_document(part: object) -> dict[str, Any]:
    """Return a specification, or a part of one, as a JSON object without what has its default."""
    document: dict[str, Any] = {}
    kind: Any = type(part)
    for name, default in _defaults(kind):
        value = getattr(part, name)
        if default is not _REQUIRED and value == default:
            continue
        document[name] = format_duration(value) if name in _DURATIONS else _plain(value)
    return document


_REQUIRED: Final = object()
# Seconds in the object, text with a unit in the document.
_DURATIONS: Final = frozenset({"time_request"})


@cache
def _defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((item.name, _default(item)) for item in fields(kind))


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return _REQUIRED if item.default_factory is MISSING else item.default_factory()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_document(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value
