"""Our own documents: `sync` of a job runner, registration, progress. Those of a submitter: `submissions`.

msgspec structures, because a runner and the server exchange thousands of these a second.
Durations are seconds; no date travels in a report, only ages, so that clocks of nodes need not agree.
Unknown fields are ignored by readers, so that an older runner can talk to a newer server.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Cause = Literal[
    "exit", "signal", "out_of_memory", "job_timeout", "allocation_ended", "preempted",
    "spot_interruption", "node_lost", "canceled", "infrastructure",
]  # fmt: skip

MAXIMUM_WAIT_SECONDS = 25.0


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all documents here."""


# ---- registration of a node -----------------------------------------------------------------


class NodeResources(Message):
    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    num_nodes: int = 1
    time_limit_seconds: float | None = None
    """Seconds until the runner must have left; None when nothing ends it."""
    scheduler_config_id: str = ""


class RegisterRequest(Message):
    """`POST /workflows/{workflow}/compute_nodes/register`, with the token of the node file.

    Repeating it with the same `registration_id` and secret answers the same node: a lost answer
    costs nothing. A different `registration_id` for an allocation row that has a living node of the
    same `node_index` and no lower `restart_count` is refused (409, code `fenced`): the caller leaves.
    """

    registration_id: str
    session_token: str
    """Chosen by the runner (at least 32 random bytes, URL-safe text); the server keeps its hash."""
    hostname: str
    pid: int
    boot_id: str
    resources: NodeResources
    allocation: str | None = None
    """Key of the `scheduled_compute_nodes` row; None for a runner that a person started."""
    node_index: int = 0
    restart_count: int = 0
    scheduler: dict[str, Any] = {}
    storage_domain: str = ""


class RegisterResponse(Message):
    workflow: str
    compute_node: str
    """Key of the node's document."""
    lease_seconds: float
    run_id: int
    server_id: str
    config: dict[str, Any] = {}
    """The workflow's config document."""
    working_directory: str | None = None
    output_directory: str | None = None
    end_seconds: float | None = None
    idle_seconds: float | None = None
    """How long it stays without work, by its config's `idle_minutes`."""


# ---- sync of a runner -----------------------------------------------------------------------


class Usage(Message):
    """What a job used, from wait4 and samples."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    average_rss_bytes: int = 0
    average_cpu_percent: float = 0.0
    max_cpu_percent: float = 0.0
    num_samples: int = 0


class Started(Message):
    attempt_id: str
    pid: int
    age_seconds: float = 0.0
    """Since the process began, when this was sent."""


class Ended(Message):
    """One attempt is over and none of its processes is left: this line is the proof."""

    attempt_id: str
    cause: Cause
    return_code: int
    """The exit code; -N when signal N ended it."""
    exec_seconds: float
    age_seconds: float = 0.0
    """Since the end, when this was sent."""
    signal: int | None = None
    status: Literal["done", "terminated", "canceled"] = "done"
    started: bool = True
    usage: Usage | None = None
    file_times: dict[str, float] = {}
    """Key of each output file that exists -> its modification time, seconds since the epoch."""
    missing_files: list[str] = []
    """Paths of outputs that a successful job did not write; `return_code` is 1 then."""
    stdout_path: str | None = None
    stderr_path: str | None = None
    message: str = ""


class Free(Message):
    """What may still be claimed; no claim is made when a request carries none."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    num_nodes: int = 1
    time_limit_seconds: float | None = None
    max_jobs: int | None = None
    """The most jobs that this claim may hand over."""
    job_num_cpus: int | None = None
    """The most CPUs that any one job may ask for, where `num_cpus` exceeds the node: a runner of very
    short jobs claims some ahead and runs them one after the other. None: `num_cpus` is the limit."""
    job_memory_bytes: int | None = None
    """The same for memory."""
    other_nodes: int = 0
    """Nodes of the allocation, beside the runner's own, that no job occupies. A job of several nodes
    takes them whole, and the runner's own only when nothing runs there."""


class NodeStatistics(Message):
    """Measurements that are told together. A request whose answer was lost tells them again."""

    number: int
    """Chosen at random by the runner; of those with the same number one is stored."""
    stats: list[dict[str, Any]]
    """Entries of a compute_node_stats document."""


class SyncRequest(Message):
    """`POST /workflows/{workflow}/compute_nodes/{key}/sync`, with the session token.

    Level-triggered: what the runner holds is stated whole each time. Attempts of this node that are
    neither held nor ended are handed over again; held ones that are not this node's are to be killed.
    A request with reports, or with `wait` 0, answers at once; else it may wait for a claim or an order.
    """

    seq: int
    """Rises with every new request; a retry repeats it. n+1 ends the wait of n."""
    held: list[str] = []
    """All attempts the runner has and has not seen acknowledged as ended or returned, except those
    listed in `ended` or `returned` of this very request."""
    started: list[Started] = []
    ended: list[Ended] = []
    returned: list[str] = []
    """Claimed, never started, handed back."""
    free: Free | None = None
    wait: float = 0.0
    leave: bool = False
    """The last call: every process has ended; whatever is not listed in `ended` never finished."""
    is_final: bool = False
    """With `leave`: the runner goes by itself, so that its batch system will not start this allocation again."""
    suspending: bool = False
    """Every process of the node is about to be stopped: its lease stands still until it is heard again."""
    acknowledged_orders: list[str] = []
    node_statistics: list[NodeStatistics] = []


class OutputFile(Message):
    key: str
    path: str


class ClaimedJob(Message):
    """One attempt, handed to the node that claimed it."""

    attempt_id: str
    job_key: str
    run_id: int
    number: int
    """Of the attempt within its run, from 1."""
    command: str
    name: str = ""
    invocation_script: str | None = None
    env: dict[str, str] = {}
    workdir: str | None = None
    stdout: Literal["separate", "merge", "none"] = "separate"
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory_bytes: int = 0
    runtime_seconds: float = 0.0
    """What packing counts with."""
    runtime_limit_seconds: float | None = None
    """What the runner enforces; None for a job whose author set no requirements."""
    memory_limit_bytes: int | None = None
    supports_termination: bool = False
    output_files: list[OutputFile] = []


class Order(Message):
    """Repeated in every answer until acknowledged (kill: until the attempt is reported ended)."""

    id: str
    kind: Literal["kill", "drain", "end"]
    """kill: end these attempts; drain: claim no more, leave when idle; end: kill everything, leave."""
    attempts: list[str] = []
    grace_seconds: float = 30.0
    """Between TERM and KILL, for jobs that support termination; others are killed at once."""
    cause: Cause = "canceled"
    reason: str = ""


class SyncResponse(Message):
    seq: int
    lease_seconds: float
    run_id: int
    claims: list[ClaimedJob] = []
    orders: list[Order] = []
    acknowledged: list[str] = []
    """Attempts whose end or return is stored durably: their spool records may go."""
    end_seconds: float | None = None
    """Until the allocation ends, as its batch system says; the buffer is already taken off."""
    is_complete: bool = False
    is_canceled: bool = False
    num_ready: int = 0
    """Ready jobs of the workflow, whether or not they fit this node."""
    num_unfinished: int = 0
    """Jobs that are not workflow-complete."""
    has_completion_script: bool = False
    """The workflow is complete and nobody has claimed its completion script yet."""


class CompletionScript(Message, omit_defaults=False):
    """`POST /workflows/{workflow}/compute_nodes/{key}/claim_completion_script`, by a runner."""

    run_id: int
    script: str | None
    """For the one runner that is to run it; None for all others."""


class CompletionScriptReport(Message):
    """`POST /workflows/{workflow}/compute_nodes/{key}/report_completion_script`."""

    run_id: int
    return_code: int
    message: str = ""
    stdout_path: str | None = None
    stderr_path: str | None = None


# ---- what people ask ------------------------------------------------------------------------


class Progress(Message, omit_defaults=False):
    """`GET /workflows/{workflow}/progress?after=SEQUENCE&wait=SECONDS`."""

    sequence: int
    """Of the last event; the call waits until it exceeds `after`."""
    run_id: int
    counts: dict[str, int]
    """Status -> number of jobs."""
    num_failed: int
    """Job-complete jobs of this run whose return code is not 0 (canceled ones not counted)."""
    is_complete: bool
    is_canceled: bool
    active_nodes: int
    open_allocations: int
    reasons: list[str] = []
    """Why nothing moves, in sentences a person can act on."""


class StartRequest(Message):
    """`POST /workflows/{workflow}/start`."""

    ignore_missing_data: bool = False
    missing_files: list[str] = []
    """Paths of required files that the caller looked for and did not find."""
    file_times: dict[str, float] = {}
    """Key of each existing file -> modification time, seconds since the epoch."""
    auto_tune: bool = False
    """Only the first job of each kind runs, to be measured; the others are disabled until then."""


class RestartRequest(Message):
    """`POST /workflows/{workflow}/restart`: what the caller, who sees the file system, found."""

    dry_run: bool = False
    only_uninitialized: bool = False
    ignore_missing_data: bool = False
    file_times: dict[str, float] = {}
    """Key of each existing file -> modification time, seconds since the epoch."""
    missing_files: list[str] = []
    """Keys of files that do not exist."""


class RestartedJob(Message, omit_defaults=False):
    key: str
    name: str
    reason: str


class RestartResponse(Message, omit_defaults=False):
    run_id: int
    """The new one; the present one after a dry run."""
    dry_run: bool
    jobs: list[RestartedJob]
    """What runs again, and why."""


class AttemptDocument(Message, omit_defaults=False):
    """`GET /workflows/{workflow}/attempts?job_key=&run_id=` (list envelope)."""

    attempt_id: str
    job_key: str
    job_name: str
    run_id: int
    number: int
    state: str
    compute_node: str | None
    hostname: str | None
    claimed_at: str
    started_at: str | None
    ended_at: str | None
    cause: str | None
    return_code: int | None
    signal: int | None
    exec_seconds: float | None
    stdout_path: str | None
    stderr_path: str | None
    message: str
