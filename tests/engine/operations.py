"""What clients and nodes may ask of an engine, and what the model does then.

`tests.engine.driver.Engine` has the same methods, with the same arguments and answers, on the real
services; a method whose call must be refused raises `Refused` with the name of the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lading.toolkit.domain.states import ACTIVE, CLAIMABLE, JOB_COMPLETE, Cause, JobEvent, JobStatus
from tests.engine.model import FLUSH_MS, LEASE_MS, Ask, Attempt, Job, JobSpec, Model, Node, Refused, Report
from tests.engine.stored import Picture

UNTOUCHED_BY_RETRY = {JobStatus.BLOCKED, JobStatus.UNINITIALIZED, JobStatus.DISABLED}
UNLIMITED = 100_000


@dataclass(frozen=True)
class SyncCall:
    """One request of a node; attempts are named by their handles."""

    held: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    ended: tuple[tuple[str, Report], ...] = ()
    returned: tuple[str, ...] = ()
    free: Ask | None = None
    max_jobs: int = UNLIMITED
    is_newest: bool = True
    leave: bool = False
    is_final: bool = False
    suspending: bool = False


@dataclass(frozen=True)
class SyncAnswer:
    new: list[str] = field(default_factory=list)
    again: frozenset[str] = frozenset()
    """Claims whose first answer must have been lost."""
    kill: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()
    acknowledged: frozenset[str] = frozenset()
    is_complete: bool = False


class ModelEngine(Model):
    """See the module."""

    def look(self) -> Picture:
        return Picture(
            run_id=self.run_id,
            is_canceled=self.is_canceled,
            statuses={name: job.status.value for name, job in self.jobs.items()},
            opened={
                attempt.job: (attempt.state, attempt.run, attempt.number)
                for attempt in self.open
                if attempt.job in self.jobs
            },
            causes={
                name: sorted((ended.run, ended.number, ended.cause.value) for ended in job.ended)
                for name, job in self.jobs.items()
                if job.ended
            },
            results={
                (name, run): (status.value, return_code)
                for name, job in self.jobs.items()
                for run, (status, return_code) in job.results.items()
            },
            nodes={
                name: node.state if node.is_ours or node.state == "lost" else None
                for name, node in self.nodes.items()
            },
        )

    # ---- jobs and edges --------------------------------------------------------------------

    def add_jobs(self, specs: Sequence[JobSpec]) -> None:
        for spec in specs:
            self.jobs[spec.name] = Job(spec)
            self.edges |= {(blocker, spec.name) for blocker in spec.blocked_by}

    def delete_job(self, name: str) -> None:
        self.revoke(name)
        behind = self.dependents(name)
        del self.jobs[name]
        self.edges = {edge for edge in self.edges if name not in edge}
        self._release(behind - {name})

    def add_edge(self, blocker: str, blocked: str) -> None:
        if (blocker, blocked) in self.edges:
            return
        if blocker == blocked or blocker in self.downstream([blocked]):
            raise Refused("BadInput")
        self.edges.add((blocker, blocked))
        if self.jobs[blocked].status in CLAIMABLE and self.jobs[blocker].status not in JOB_COMPLETE:
            self.move(blocked, JobEvent.BLOCK)

    def remove_edge(self, blocker: str, blocked: str) -> None:
        self.edges.remove((blocker, blocked))
        self._release({blocked})

    def _release(self, names: set[str]) -> None:
        for name in names:
            if self.jobs[name].status is JobStatus.BLOCKED and self.unfinished(name) == 0:
                self.move(name, JobEvent.UNBLOCK)

    # ---- the workflow ----------------------------------------------------------------------

    def start(self) -> None:
        if self.open or any(job.status in ACTIVE for job in self.jobs.values()):
            raise Refused("BadInput")
        self.refuse_circle(self.edges | self.derived_edges())
        self.reset(self.jobs)
        self.is_canceled = False
        self.run_id += 1
        self.initialize(only_uninitialized=False)

    def cancel(self) -> None:
        for name, job in self.jobs.items():
            if job.status in ACTIVE:
                self.revoke(name)
                self.move(name, JobEvent.CANCEL)
        self.is_canceled = True

    def reset_status(self) -> None:
        self.is_canceled = False

    def reset_job_status(self, *, failed_only: bool) -> None:
        if not failed_only:
            self.reset(self.jobs)
            return
        failed = [name for name, job in self.jobs.items() if job.results.get(self.run_id, (None, 0))[1]]
        self.reset({*failed, *self.downstream(failed)})

    def schedule(self) -> int:
        """Do prepare_jobs_for_scheduling; return how many requests it answers."""
        if self.is_canceled:
            return 0
        asking = [
            name for name, job in self.jobs.items() if job.status is JobStatus.READY and job.spec.schedules
        ]
        for name in asking:
            self.move(name, JobEvent.SCHEDULE)
        return len(asking)

    # ---- one job ---------------------------------------------------------------------------

    def cancel_job(self, name: str) -> None:
        if self.jobs[name].status in JOB_COMPLETE:
            raise Refused("BadInput")
        self.revoke(name)
        self.move(name, JobEvent.CANCEL)
        self.settle([name])

    def retry_job(self, name: str) -> None:
        if self.jobs[name].status not in JOB_COMPLETE or self.is_canceled:
            raise Refused("BadInput")
        behind = [
            other for other in self.downstream([name]) if self.jobs[other].status not in UNTOUCHED_BY_RETRY
        ]
        self.reset([name, *behind])
        for other in [name, *behind]:
            self.jobs[other].results.pop(self.run_id, None)
        for other in [name, *behind]:
            blocked = self.unfinished(other) > 0
            self.move(other, JobEvent.INITIALIZE_BLOCKED if blocked else JobEvent.INITIALIZE_READY)

    def put_status(self, name: str, status: JobStatus, *, fresh: bool) -> None:
        if not fresh:
            raise Refused("Conflict")
        job = self.jobs[name]
        if job.status is not status:
            self.revoke(name)
            self._put(job, status)

    def manage_status(self, name: str, status: JobStatus, *, fresh: bool, same_run: bool) -> None:
        job = self.jobs[name]
        if status in JOB_COMPLETE or not fresh:
            raise Refused("BadInput")
        if job.status is status:
            return
        if not same_run:
            raise Refused("BadInput")
        if job.status in JOB_COMPLETE and status is JobStatus.UNINITIALIZED:
            self.reset([name, *self.downstream([name])])
            return
        self.revoke(name)
        self._put(job, status)

    # ---- torc's workers --------------------------------------------------------------------

    def add_foreign_node(self, name: str) -> None:
        self.nodes[name] = Node(Ask(), is_ours=False)

    def prepare(self, offer: Ask, method: str, limit: int) -> list[str]:
        names = [] if self.is_canceled else self.claim(offer, method, limit, UNLIMITED, None)
        self._hand_to_worker(names)
        return names

    def prepare_next(self, limit: int) -> list[str]:
        claimable = [name for name, job in self.jobs.items() if self.is_claimable(job)]
        names = [] if self.is_canceled else claimable[:limit]
        self._hand_to_worker(names)
        return names

    def _hand_to_worker(self, names: Sequence[str]) -> None:
        for name in names:
            self.open_attempt(name, None, ours=False)
            self.move(name, JobEvent.CLAIM)

    def start_job(self, name: str, node: str, *, fresh: bool, same_run: bool) -> None:
        job = self.jobs[name]
        if job.status is not JobStatus.SUBMITTED_PENDING:
            raise Refused("BadInput")
        if not fresh:
            raise Refused("Conflict")
        if not same_run:
            raise Refused("BadInput")
        attempt = job.attempt or self.open_attempt(name, node, ours=False)
        if attempt.node not in (None, node):
            raise Refused("Conflict")
        attempt.node, attempt.state, attempt.begun = node, "running", True
        self.move(name, JobEvent.START)

    def complete_job(
        self, name: str, node: str, status: JobStatus, return_code: int, *, fresh: bool, same_run: bool
    ) -> None:
        job = self.jobs[name]
        if job.status is not JobStatus.CANCELED or not same_run:
            if not fresh:
                raise Refused("Conflict")
            if not same_run:
                raise Refused("BadInput")
        if self.run_id in job.results:
            raise Refused("Conflict")
        cause = Cause.CANCELED if status is JobStatus.CANCELED else Cause.EXIT
        report = Report(cause, return_code, status, is_final=True)
        if job.status not in JOB_COMPLETE and job.attempt is None:
            self.open_attempt(name, node, ours=False)
        attempt = job.attempt
        if attempt is None or (attempt.node is not None and self.nodes[attempt.node].is_ours):
            self.revoke(name)
            if job.status is JobStatus.CANCELED:
                job.results[self.run_id] = (JobStatus.CANCELED, return_code)
                return
            # A result of a job that was declared over by hand sets free what was left behind it.
            self._put(job, JobStatus.UNINITIALIZED)
            self.finish(name, status, return_code)
            self.settle([name])
            return
        if job.status is JobStatus.CANCELED:
            attempt.state = "revoking"
        self.close([(attempt, report)])

    # ---- our nodes -------------------------------------------------------------------------

    def register(self, name: str, shape: Ask) -> None:
        lease_until = self.now + LEASE_MS + FLUSH_MS
        self.nodes[name] = Node(shape, lease_until=lease_until, last_seen=self.now)

    def drain(self, name: str) -> None:
        if not self.nodes[name].is_alive:
            raise Refused("BadInput")
        self.nodes[name].is_draining = True

    def declare_lost(self, name: str) -> None:
        if self.nodes[name].state in ("left", "lost"):
            raise Refused("BadInput")
        self._lose(name)

    def sweep(self) -> int:
        """Mark silent nodes and end leases; return how many nodes were lost."""
        lost = [name for name, node in self.nodes.items() if node.is_alive and node.lease_until < self.now]
        for node in self.nodes.values():
            if node.is_ours and node.state == "active" and node.last_seen < self.now - 60_000:
                node.state = "silent"
        for name in lost:
            self._lose(name)
        return len(lost)

    def _lose(self, name: str) -> None:
        self._give_up(name, Cause.NODE_LOST, "lost")

    def _give_up(self, name: str, cause: Cause, state: str) -> None:
        report = Report(cause, -9, JobStatus.TERMINATED)
        self.close([(attempt, report) for attempt in self.of_node(name)])
        self.nodes[name].state = state

    def sync(self, name: str, call: SyncCall) -> SyncAnswer:
        node = self.nodes[name]
        opened = {attempt.handle: attempt for attempt in self.of_node(name)}
        for handle in call.started:
            if handle in opened:
                self._begin(opened[handle])
        self.close([(opened.pop(handle), report) for handle, report in call.ended if handle in opened])
        for handle in call.returned:
            if handle in opened:
                self._take_back(opened.pop(handle))
        if call.leave and node.is_alive:
            self._give_up(name, Cause.INFRASTRUCTURE, "left")
        acknowledged = frozenset([*(handle for handle, _ in call.ended), *call.returned])
        if not node.is_alive:
            orders = frozenset() if call.leave else frozenset({"end"})
            return SyncAnswer(acknowledged=acknowledged, orders=orders, is_complete=self.is_complete)
        self._renew(node)
        new, again = self._hand_over(name, call, opened)
        opened |= {attempt.handle: attempt for attempt in self.of_node(name)}
        kill = {handle for handle, attempt in opened.items() if attempt.state == "revoking"}
        kill |= {handle for handle in call.held if handle not in opened}
        orders = frozenset({"drain"} if node.is_draining else ())
        return SyncAnswer(new, again, frozenset(kill), frozenset(orders), acknowledged, self.is_complete)

    def _begin(self, attempt: Attempt) -> None:
        if attempt.begun:
            return
        attempt.begun = True
        attempt.state = "running" if attempt.state == "claimed" else attempt.state
        job = self.jobs.get(attempt.job)
        if job is not None and job.status is JobStatus.SUBMITTED_PENDING:
            self.move(attempt.job, JobEvent.START)

    def _take_back(self, attempt: Attempt) -> None:
        """A claim that never ran is no attempt."""
        self.open.remove(attempt)
        job = self.jobs.get(attempt.job)
        if job is None:
            return
        job.attempt = None
        if attempt.state != "revoking" and job.status in ACTIVE:
            self.move(attempt.job, JobEvent.CANCEL if self.is_canceled else JobEvent.GIVE_BACK)

    def _renew(self, node: Node) -> None:
        fresh = self.now + LEASE_MS + FLUSH_MS
        if node.state == "silent" or fresh - node.lease_until >= FLUSH_MS / 2:
            node.lease_until, node.last_seen, node.state = fresh, self.now, "active"

    def _hand_over(
        self, name: str, call: SyncCall, opened: dict[str, Attempt]
    ) -> tuple[list[str], frozenset[str]]:
        node = self.nodes[name]
        if not call.is_newest:
            return [], frozenset()
        lost = [
            handle
            for handle, attempt in opened.items()
            if handle not in call.held and attempt.state == "claimed"
        ]
        if lost:
            return [], frozenset(handle for handle in lost if opened[handle].job in self.jobs)
        if call.free is None or node.is_draining or self.is_canceled:
            return [], frozenset()
        names = self.claim(call.free, "gpus_runtime_memory", UNLIMITED, call.max_jobs, None)
        attempts = [self.open_attempt(job, name, ours=True) for job in names]
        for job in names:
            self.move(job, JobEvent.CLAIM)
        return [attempt.handle for attempt in attempts], frozenset()
