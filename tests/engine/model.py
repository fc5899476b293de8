"""The engine once more, as plain Python over dictionaries: what every database must agree with.

Nothing is counted or cached here: each question is answered by looking at all jobs and all edges, so
that a counter of the real engine that drifts is seen. Which statuses may follow which is not written
down again: `Model.move` asks the domain's table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lading.toolkit.domain import retry
from lading.toolkit.domain.states import (
    ACTIVE,
    CLAIMABLE,
    JOB_COMPLETE,
    JOB_TRANSITIONS,
    WORKFLOW_COMPLETE,
    Cause,
    JobEvent,
    JobStatus,
)

LEASE_MS = 60_000
FLUSH_MS = 10_000


class Refused(Exception):
    """The engine must refuse this with the error of that name."""


@dataclass(frozen=True)
class Ask:
    """What a job asks for, or what a node offers."""

    cpus: int = 1
    memory: int = 2**20
    gpus: int = 0
    nodes: int = 1
    runtime: float = 60.0
    only_config: bool = False
    """Asks: only nodes of the config may run it. Offers: such a node."""


@dataclass(frozen=True)
class JobSpec:
    name: str
    ask: Ask = Ask()
    blocked_by: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    cancel: bool = True
    """Canceled when a blocker failed."""
    retries: int = 0
    priority: int = 0
    schedules: bool = False
    """Asks for allocations of its own."""


@dataclass(eq=False)
class Attempt:
    job: str
    run: int
    number: int
    node: str | None
    handle: str = ""
    """What the tests call it; attempts of torc's clients have none."""
    state: str = "claimed"
    begun: bool = False


@dataclass
class Ended:
    run: int
    number: int
    cause: Cause
    return_code: int | None


@dataclass
class Job:
    spec: JobSpec
    status: JobStatus = JobStatus.UNINITIALIZED
    attempt: Attempt | None = None
    is_initialized: bool = False
    return_code: int | None = None
    ended: list[Ended] = field(default_factory=list)
    results: dict[int, tuple[JobStatus, int]] = field(default_factory=dict)


@dataclass
class Node:
    shape: Ask
    is_ours: bool = True
    state: str = "active"
    lease_until: int = 0
    last_seen: int = 0
    is_draining: bool = False

    @property
    def is_alive(self) -> bool:
        return self.is_ours and self.state in ("active", "silent")


@dataclass
class Report:
    """The end of an attempt, as a node tells it."""

    cause: Cause = Cause.EXIT
    return_code: int = 0
    status: JobStatus = JobStatus.DONE
    is_final: bool = False
    """Whether no retry may follow: torc's clients know none."""


class Model:
    """See the module. `now` is in milliseconds."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.jobs: dict[str, Job] = {}
        self.edges: set[tuple[str, str]] = set()
        self.nodes: dict[str, Node] = {}
        self.open: list[Attempt] = []
        self.run_id = 0
        self.is_canceled = False
        self.handed_out = 0
        self.asks: dict[str, Ask] = {}
        """What each attempt that a node of ours was handed occupies there."""

    # ---- looking ---------------------------------------------------------------------------

    def blockers(self, name: str) -> set[str]:
        return {blocker for blocker, blocked in self.edges if blocked == name}

    def dependents(self, name: str) -> set[str]:
        return {blocked for blocker, blocked in self.edges if blocker == name}

    def unfinished(self, name: str) -> int:
        return sum(self.jobs[blocker].status not in JOB_COMPLETE for blocker in self.blockers(name))

    def downstream(self, names: Iterable[str]) -> set[str]:
        start = set(names)
        found: set[str] = set()
        wave = start
        while wave:
            wave = {behind for name in wave for behind in self.dependents(name)} - found - start
            found |= wave
        return found

    def of_node(self, node: str) -> list[Attempt]:
        return [attempt for attempt in self.open if attempt.node == node]

    # ---- changing a job --------------------------------------------------------------------

    def move(self, name: str, event: JobEvent, return_code: int | None = None) -> None:
        """Change a status by an event of the domain's table."""
        allowed, target = JOB_TRANSITIONS[event]
        job = self.jobs[name]
        assert job.status in allowed, f"{event.value} of {name}, which is {job.status.value}"
        self._put(job, target, return_code)

    def _put(self, job: Job, status: JobStatus, return_code: int | None = None) -> None:
        job.status = status
        job.return_code = return_code if status in JOB_COMPLETE else None

    def settle(self, finished: Iterable[str]) -> None:
        """Spread the end of jobs to the end of the graph."""
        wave = {name: self._took_down(name) for name in finished}
        while wave:
            doomed, free = [], []
            for name, job in self.jobs.items():
                before = self.blockers(name) & wave.keys()
                if job.status is not JobStatus.BLOCKED or not before:
                    continue
                if job.spec.cancel and any(wave[blocker] for blocker in before):
                    doomed.append(name)
                elif self.unfinished(name) == 0:
                    free.append(name)
            for name in free:
                self.move(name, JobEvent.UNBLOCK)
            for name in doomed:
                self.move(name, JobEvent.CANCEL)
            useless = [
                name
                for name in {blocker for name in doomed for blocker in self.blockers(name)}
                if self.jobs[name].status is JobStatus.READY
                and all(self.jobs[behind].status is JobStatus.CANCELED for behind in self.dependents(name))
            ]
            for name in useless:
                self.move(name, JobEvent.CANCEL)
            wave = dict.fromkeys([*doomed, *useless], True)

    def _took_down(self, name: str) -> bool:
        job = self.jobs[name]
        return job.status is JobStatus.CANCELED or bool(job.return_code)

    def revoke(self, name: str) -> None:
        """Take a job from whoever runs it: our runners must confirm, others are not asked."""
        job = self.jobs[name]
        attempt = job.attempt
        if attempt is None:
            return
        if attempt.node is not None and self.nodes[attempt.node].is_alive:
            attempt.state = "revoking"
            return
        self.open.remove(attempt)
        job.attempt = None
        job.ended.append(Ended(attempt.run, attempt.number, Cause.CANCELED, None))

    # ---- attempts --------------------------------------------------------------------------

    def open_attempt(self, name: str, node: str | None, *, ours: bool) -> Attempt:
        job = self.jobs[name]
        assert job.attempt is None, f"{name} would have two open attempts"
        number = 1 + max((ended.number for ended in job.ended if ended.run == self.run_id), default=0)
        attempt = Attempt(name, self.run_id, number, node)
        if ours:
            self.handed_out += 1
            attempt.handle = f"{name}/{self.run_id}/{number}#{self.handed_out}"
            self.asks[attempt.handle] = job.spec.ask
        job.attempt = attempt
        self.open.append(attempt)
        return attempt

    def close(self, ends: Sequence[tuple[Attempt, Report]]) -> None:
        """End attempts that are open."""
        finished = []
        for attempt, report in ends:
            self.open.remove(attempt)
            job = self.jobs.get(attempt.job)
            if job is not None and self._close(job, attempt, report):
                finished.append(attempt.job)
        self.settle(finished)

    def _close(self, job: Job, attempt: Attempt, report: Report) -> bool:
        """Return whether the job is over by it."""
        job.attempt = None
        earlier = Counter(
            ended.cause
            for ended in job.ended
            if ended.run == self.run_id and (ended.cause is not Cause.EXIT or ended.return_code)
        )
        ended = Ended(attempt.run, attempt.number, report.cause, report.return_code)
        job.ended.append(ended)
        if attempt.state == "revoking" or attempt.run != self.run_id:
            ended.cause = Cause.CANCELED
            if job.status is JobStatus.CANCELED and attempt.run == self.run_id:
                job.results.setdefault(attempt.run, (JobStatus.CANCELED, report.return_code))
            return False
        retries = 0 if report.is_final else job.spec.retries
        verdict = retry.decide(report.cause, report.return_code, report.status, earlier, retries)
        if isinstance(verdict, retry.Again):
            if not self.is_canceled:
                self.move(attempt.job, JobEvent.GIVE_BACK)
                return False
            verdict = retry.Over(JobStatus.CANCELED, report.return_code)
        self.finish(attempt.job, verdict.status, verdict.return_code)
        return True

    def finish(self, name: str, status: JobStatus, return_code: int) -> None:
        """Give a job its end and its result."""
        event = {
            JobStatus.DONE: JobEvent.COMPLETE,
            JobStatus.TERMINATED: JobEvent.TERMINATE,
            JobStatus.CANCELED: JobEvent.CANCEL,
        }[status]
        self.move(name, event, return_code)
        results = self.jobs[name].results
        if status is JobStatus.CANCELED:
            results.setdefault(self.run_id, (status, return_code))
        else:
            results[self.run_id] = (status, return_code)

    # ---- claims ----------------------------------------------------------------------------

    def claim(self, offer: Ask, method: str, limit: int, most: int, time_limit: float | None) -> list[str]:
        """Return what a naive walk over all jobs takes."""

        def order(job: Job) -> tuple[float, ...]:
            ask = job.spec.ask
            ranks: dict[str, tuple[float, ...]] = {
                "gpus_runtime_memory": (-ask.gpus, -ask.runtime, -ask.memory),
                "gpus_memory_runtime": (-ask.gpus, -ask.memory, -ask.runtime),
                "none": (),
            }
            return (-job.spec.priority, *ranks[method])

        def fits(ask: Ask) -> bool:
            return (
                ask.cpus <= offer.cpus
                and ask.memory <= offer.memory
                and ask.gpus <= offer.gpus
                and ask.nodes <= offer.nodes
                and (time_limit is None or ask.runtime <= time_limit)
                and (offer.only_config or not ask.only_config)
            )

        ready = [job for job in self.jobs.values() if self.is_claimable(job) and job.is_initialized]
        cpus, memory, gpus = offer.cpus, offer.memory, offer.gpus
        taken: list[str] = []
        for job in sorted((job for job in ready if fits(job.spec.ask)), key=order)[:limit]:
            ask = job.spec.ask
            if len(taken) >= most or cpus <= 0 or memory <= 0:
                break
            if ask.cpus <= cpus and ask.memory <= memory and ask.gpus <= gpus:
                taken.append(job.spec.name)
                cpus, memory, gpus = cpus - ask.cpus, memory - ask.memory, gpus - ask.gpus
        return taken

    @staticmethod
    def is_claimable(job: Job) -> bool:
        return job.status in CLAIMABLE and job.attempt is None

    # ---- the graph at its start ------------------------------------------------------------

    def derived_edges(self) -> set[tuple[str, str]]:
        """Return who waits for whom because of files."""
        return {
            (writer.spec.name, reader.spec.name)
            for writer in self.jobs.values()
            for reader in self.jobs.values()
            if writer is not reader and set(writer.spec.produces) & set(reader.spec.needs)
        }

    def refuse_circle(self, edges: set[tuple[str, str]]) -> None:
        """Take away who waits for nobody until nobody is left, or only those who wait for each other."""
        left = set(self.jobs)
        while free := left - {blocked for blocker, blocked in edges if blocker in left}:
            left -= free
        if left:
            raise Refused("BadInput")

    def initialize(self, *, only_uninitialized: bool) -> None:
        """Follow the rules of initialize_jobs."""
        edges = self.edges | self.derived_edges()
        self.refuse_circle(edges)
        self.edges = edges
        for job in self.jobs.values():
            job.is_initialized = True
        fresh = [name for name, job in self.jobs.items() if job.status is JobStatus.UNINITIALIZED]
        for name in self.downstream(fresh):
            if self.jobs[name].status not in ACTIVE:
                self.move(name, JobEvent.RESET)
        looked_at = [
            name
            for name, job in self.jobs.items()
            if job.status not in ACTIVE | {JobStatus.DISABLED}
            and (not only_uninitialized or job.status in (JobStatus.UNINITIALIZED, JobStatus.BLOCKED))
        ]
        done = {name for name, job in self.jobs.items() if job.status is JobStatus.DONE}
        while undone := {name for name in done if name in looked_at and not self.blockers(name) <= done}:
            done -= undone
        for name in looked_at:
            if not self.blockers(name) <= done:
                self.move(name, JobEvent.INITIALIZE_BLOCKED)
            elif self.jobs[name].status not in (JobStatus.DONE, JobStatus.CANCELED):
                self.move(name, JobEvent.INITIALIZE_READY)

    def reset(self, names: Iterable[str]) -> None:
        for name in names:
            if self.jobs[name].status is not JobStatus.UNINITIALIZED:
                self.revoke(name)
                self.move(name, JobEvent.RESET)

    @property
    def is_complete(self) -> bool:
        return all(job.status in WORKFLOW_COMPLETE for job in self.jobs.values())
