"""What a runner holds: attempts in their phases, and the node's resources that they occupy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from lading.toolkit.runner.messages import Stop
from lading.toolkit.wire.extensions import ClaimedJob, Ended


class Phase(StrEnum):
    QUEUED = "queued"
    """Claimed; no process."""
    LAUNCHED = "launched"
    """Handed to the guardian; occupies resources until its end."""
    ENDED = "ended"
    """Over; kept until the server has the report durably."""
    RETURNED = "returned"
    """Never started; kept until the server has taken it back."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the node gives to jobs."""

    num_cpus: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    """The names of its GPUs as CUDA_VISIBLE_DEVICES takes them."""
    max_jobs: int | None = None
    cpu_groups: tuple[tuple[int, ...], ...] = ()
    """Groups of CPUs that jobs are bound to; `num_cpus` counts the groups then. None: no binding."""
    hosts: tuple[str, ...] = ()
    """The nodes of the allocation that this runner hands out, its own first; none outside of Slurm."""


@dataclass(slots=True)
class Attempt:
    id: str
    phase: Phase
    job: ClaimedJob | None = None
    """None for one that we were told to kill and never had."""
    gpus: tuple[str, ...] = ()
    cpu_groups: tuple[tuple[int, ...], ...] = ()
    num_cpus: int = 0
    """What it occupies of the runner's own node."""
    memory_bytes: int = 0
    hosts: tuple[str, ...] = ()
    """The nodes that are its own while it runs; none for a job of one node."""
    pid: int | None = None
    started_at: float | None = None
    start_reported: bool = False
    slept_seconds: float = 0.0
    """How long it was suspended: that is no part of its run time."""
    stop: Stop | None = None
    kill_at: float | None = None
    """When KILL follows the TERM that was sent."""
    note: str = ""
    ended: Ended | None = None
    ended_at: float = 0.0
    spooled: bool = False

    @property
    def limit_at(self) -> float | None:
        """When the job's own run-time limit is over."""
        if self.job is None or self.job.runtime_limit_seconds is None or self.started_at is None:
            return None
        return self.started_at + self.slept_seconds + self.job.runtime_limit_seconds


_REMEMBERED = 4096


@dataclass(slots=True)
class Holdings:
    """All attempts of this node that the server does not know to be over."""

    capacity: Capacity
    attempts: dict[str, Attempt] = field(default_factory=dict)
    launched: dict[str, Attempt] = field(default_factory=dict)
    queue: deque[Attempt] = field(default_factory=deque)
    finished: dict[str, Attempt] = field(default_factory=dict)
    returned: dict[str, Attempt] = field(default_factory=dict)
    settled: dict[str, None] = field(default_factory=dict)
    """The last attempts that were dropped, oldest first: an answer that crossed our report may still
    name them, and they must neither run again nor be reported as something else."""
    free_cpus: int = 0
    free_memory: int = 0
    free_gpus: list[str] = field(default_factory=list)
    free_groups: list[tuple[int, ...]] = field(default_factory=list)
    free_hosts: list[str] = field(default_factory=list)
    """Nodes beside our own that no job of several nodes has."""
    other_hosts: set[str] = field(default_factory=set)
    """Nodes beside our own that are still there."""

    def __post_init__(self) -> None:
        self.free_cpus = self.capacity.num_cpus
        self.free_memory = self.capacity.memory_bytes
        self.free_gpus = list(self.capacity.gpus)
        self.free_groups = list(self.capacity.cpu_groups)
        self.free_hosts = list(self.capacity.hosts[1:])
        self.other_hosts = set(self.free_hosts)

    def __contains__(self, attempt: str) -> bool:
        """Tell whether an attempt is held, or was held not long ago."""
        return attempt in self.attempts or attempt in self.settled

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits to run; reports may still be on their way."""
        return not self.launched and not self.queue

    def can_ever_run(self, job: ClaimedJob) -> bool:
        whole = self.capacity
        return (
            job.num_cpus <= whole.num_cpus
            and job.memory_bytes <= whole.memory_bytes
            and job.num_gpus <= len(whole.gpus)
            and job.num_nodes <= 1 + len(self.other_hosts)
        )

    def lose(self, hosts: Iterable[str]) -> list[Attempt]:
        """Give no job these nodes any more, our own excepted; return what is queued and cannot run now."""
        self.other_hosts.difference_update(hosts)
        self.free_hosts = [host for host in self.free_hosts if host in self.other_hosts]
        # Queued jobs start in their order: one that waits for what is gone would hold all others back.
        return [one for one in self.queue if one.job is not None and not self.can_ever_run(one.job)]

    def enqueue(self, job: ClaimedJob) -> None:
        attempt = Attempt(job.attempt_id, Phase.QUEUED, job)
        self.attempts[attempt.id] = attempt
        self.queue.append(attempt)

    def take_launchable(self) -> Iterator[Attempt]:
        """Move queued attempts, in their order, to launched as long as they fit."""
        while self.queue:
            attempt = self.queue[0]
            job = attempt.job
            assert job is not None, "only claimed jobs are queued"  # noqa: S101
            if not self._fits(job):
                # In order, or a wide job would wait for ever behind narrow ones.
                return
            self.queue.popleft()
            if job.num_nodes > 1:
                self._occupy_nodes(attempt, job.num_nodes)
            else:
                self._occupy(attempt, job.num_cpus, job.memory_bytes, job.num_gpus)
            attempt.phase = Phase.LAUNCHED
            self.launched[attempt.id] = attempt
            yield attempt

    def end(self, attempt: Attempt, ended: Ended, at: float) -> None:
        """Note that an attempt is over: its resources are free, its report is to be sent."""
        self._leave_phase(attempt)
        attempt.phase, attempt.ended, attempt.ended_at = Phase.ENDED, ended, at
        self.attempts[attempt.id] = self.finished[attempt.id] = attempt

    def give_back(self, attempt: Attempt) -> None:
        """Note that an attempt will not be started here."""
        self._leave_phase(attempt)
        attempt.phase = Phase.RETURNED
        self.attempts[attempt.id] = self.returned[attempt.id] = attempt

    def settle(self, attempts: Iterable[str]) -> list[str]:
        """Drop attempts whose end or return the server has durably; return those we had."""
        settled = []
        for name in attempts:
            attempt = self.attempts.get(name)
            if attempt is not None and attempt.phase in {Phase.ENDED, Phase.RETURNED}:
                del self.attempts[name]
                self.finished.pop(name, None)
                self.returned.pop(name, None)
                self.settled[name] = None
                settled.append(name)
        while len(self.settled) > _REMEMBERED:
            del self.settled[next(iter(self.settled))]
        return settled

    def queued_cpus(self) -> int:
        return sum(attempt.job.num_cpus for attempt in self.queue if attempt.job)

    def queued_memory(self) -> int:
        return sum(attempt.job.memory_bytes for attempt in self.queue if attempt.job)

    def queued_gpus(self) -> int:
        return sum(attempt.job.num_gpus for attempt in self.queue if attempt.job)

    def has_queued_wide_job(self) -> bool:
        return any(attempt.job.num_nodes > 1 for attempt in self.queue if attempt.job)

    def _occupy(self, attempt: Attempt, num_cpus: int, memory_bytes: int, num_gpus: int) -> None:
        attempt.num_cpus, attempt.memory_bytes = num_cpus, memory_bytes
        self.free_cpus -= num_cpus
        self.free_memory -= memory_bytes
        attempt.gpus = tuple(self.free_gpus[:num_gpus])
        del self.free_gpus[:num_gpus]
        attempt.cpu_groups = tuple(self.free_groups[:num_cpus])
        del self.free_groups[:num_cpus]

    def _occupy_nodes(self, attempt: Attempt, number: int) -> None:
        """Take other nodes first: jobs of one node can run on ours alone."""
        others = self.free_hosts[:number]
        del self.free_hosts[:number]
        if len(others) < number:
            others.insert(0, self.capacity.hosts[0])
            self._occupy(attempt, self.free_cpus, self.free_memory, len(self.free_gpus))
        attempt.hosts = tuple(others)

    @property
    def _own_node_is_idle(self) -> bool:
        whole = self.capacity
        return (self.free_cpus, self.free_memory, len(self.free_gpus)) == (
            whole.num_cpus,
            whole.memory_bytes,
            len(whole.gpus),
        )

    def _fits(self, job: ClaimedJob) -> bool:
        limit = self.capacity.max_jobs
        if job.num_nodes > 1:
            nodes = len(self.free_hosts) + self._own_node_is_idle
            return job.num_nodes <= nodes and (limit is None or len(self.launched) < limit)
        return (
            job.num_cpus <= self.free_cpus
            and job.memory_bytes <= self.free_memory
            and job.num_gpus <= len(self.free_gpus)
            and (limit is None or len(self.launched) < limit)
        )

    def _leave_phase(self, attempt: Attempt) -> None:
        if attempt.phase is Phase.LAUNCHED and attempt.job is not None:
            del self.launched[attempt.id]
            self.free_cpus += attempt.num_cpus
            self.free_memory += attempt.memory_bytes
            self.free_hosts.extend(host for host in attempt.hosts if host in self.other_hosts)
            self.free_gpus.extend(attempt.gpus)
            self.free_groups.extend(attempt.cpu_groups)
        elif attempt.phase is Phase.QUEUED and attempt.job is not None:
            self.queue.remove(attempt)
