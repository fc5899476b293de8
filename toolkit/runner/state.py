"""What a runner does next: events in, instructions out. No clock, no I/O, no randomness.

`RunnerState.handle` is the only door. Each claimed attempt leaves through exactly one of two exits:
reported ended, or handed back; both are repeated until the server has acknowledged them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, assert_never

from lading.toolkit.runner import ending, lookahead
from lading.toolkit.runner.completion import infrastructure_stop
from lading.toolkit.runner.conversation import (
    BATCH_SECONDS,
    BUSY_BATCH_SECONDS,
    BUSY_PAUSE_SECONDS,
    QUIET_PAUSE_SECONDS,
    STARTED_BATCH_SECONDS,
    Conversation,
)
from lading.toolkit.runner.departure import Departure, ScriptOffer
from lading.toolkit.runner.ending import GRACE_SECONDS
from lading.toolkit.runner.events import (
    Assignment,
    CompletionScriptOver,
    Event,
    Exit,
    Forget,
    GuardianLost,
    HoldLease,
    Instruction,
    JobsEnded,
    JobsStarted,
    KillMarked,
    LaunchesRefused,
    LaunchJobs,
    Note,
    Prepared,
    ProcessesKilled,
    RenewLease,
    ResidentSampled,
    RunCompletionScript,
    StopRequested,
    SuspensionSignaled,
    SyncAnswered,
    SyncFailed,
    Tick,
)
from lading.toolkit.runner.holdings import Attempt, Capacity, Holdings, Phase
from lading.toolkit.runner.lease import Lease, Punctuality
from lading.toolkit.runner.messages import Stop
from lading.toolkit.runner.policy import (
    EXIT_FAILED,
    EXIT_LEFT,
    EXIT_UNREACHABLE,
    GUARDIAN_RETRY_SECONDS,
    OFFLINE_PATIENCE_SECONDS,
    ONE_SIGNAL_SECONDS,
    Mode,
    Policy,
)
from lading.toolkit.runner.suspension import Suspension
from lading.toolkit.wire.extensions import Order, SyncResponse

_NEVER: Final = float("inf")


@dataclass(slots=True)
class RunnerState:
    """Everything a runner knows."""

    holdings: Holdings
    lease: Lease
    policy: Policy = field(default_factory=Policy)
    end_at: float | None = None
    """When the allocation's time is over."""
    mode: Mode = Mode.PREPARING
    exit_code: int = EXIT_LEFT
    num_ready: int = 0
    is_over: bool = False
    """The workflow is complete or canceled."""

    _script: ScriptOffer = field(default_factory=ScriptOffer)
    _departure: Departure = field(default_factory=Departure)
    _conversation: Conversation = field(default_factory=Conversation)
    _look_ahead: lookahead.LookAhead = field(default_factory=lookahead.LookAhead)
    _punctuality: Punctuality = field(default_factory=Punctuality)
    _suspension: Suspension = field(default_factory=Suspension)
    _distrust: bool = False
    """Late: nothing is launched before an answer to a request that was sent after waking."""
    _stop_signals: int = 0
    _stop_signal_at: float = 0.0
    _kill_marked_at: float = _NEVER
    _out: list[Instruction] = field(default_factory=list)

    @classmethod
    def create(
        cls, capacity: Capacity, *, now: float, lease_seconds: float, policy: Policy, end_at: float | None
    ) -> RunnerState:
        """Make the state of a node that has just been registered by a request sent at `now`."""
        return cls(Holdings(capacity), Lease(lease_seconds, now + lease_seconds), policy, end_at)

    # ---- the door ----------------------------------------------------------------------------

    def handle(self, event: Event, *, now: float, asleep: float = 0.0) -> list[Instruction]:
        """Take one event; return what is to be done, in order.

        `now` is on CLOCK_BOOTTIME; `asleep` says how long the machine has been suspended since its start.
        """
        if self.mode is Mode.LEFT:
            return []
        self._out = []
        if self._punctuality.is_late(now, asleep, self.lease.seconds):
            self._note("Woke up late: no job is started before the server has answered.", is_error=True)
            # An answer that was on its way while we were gone may hand out what is no longer ours.
            self._distrust = True
            self._conversation.start_over()
        if now >= self._suspension.ends_at:
            # Also when CONT has not been looked at yet: first of all the clocks are put right.
            self._wake(now)
        self._take(event, now)
        if not self._has_left():
            self._enforce_times(now)
            self._launch()
            if isinstance(event, SyncAnswered) and self.holdings.queue:
                self._conversation.rest_until(now + BUSY_PAUSE_SECONDS)
            self._consider_leaving(now)
            self._sync(now)
        self._punctuality.expected_at = self._next_wakeup(now)
        return self._out

    @property
    def wakeup_at(self) -> float:
        """When a `Tick` is due unless another event comes first."""
        return self._punctuality.expected_at

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Tick():
                pass
            case Prepared():
                self._on_prepared(event, now)
            case SyncAnswered():
                self._on_answer(event, now)
            case SyncFailed():
                self._on_failure(event, now)
            case JobsStarted():
                self._on_started(event, now)
            case JobsEnded():
                self._on_ended(event, now)
            case LaunchesRefused():
                self._give_back([a for name in event.attempts if (a := self.holdings.launched.get(name))])
            case ResidentSampled():
                policy = self.policy.memory_limit
                self._out += ending.enforce_memory(self.holdings, event.resident_bytes, policy)
            case StopRequested():
                self._on_stop(event, now)
            case SuspensionSignaled():
                self._on_suspension(event, now)
            case GuardianLost():
                self._on_guardian_lost(now)
            case ProcessesKilled():
                self._on_processes_killed(event, now)
            case CompletionScriptOver():
                self._script.runs = False
            case _:
                raise AssertionError(f"unknown event {event!r}")

    def _next_wakeup(self, now: float) -> float:
        moments = [
            now + self.lease.seconds / 4,
            self._kill_marked_at,
            self._suspension.ends_at,
            self._departure.next_moment(self.policy),
            ending.next_moment(self.holdings),
            self._conversation.next_moment(),
        ]
        if self.end_at is not None and self.mode is not Mode.STOPPING:
            moments.append(self.end_at)
        return max(now, min(moments))

    # ---- the server --------------------------------------------------------------------------

    def _on_answer(self, event: SyncAnswered, now: float) -> None:
        sent = self._conversation.answered(event.seq)
        if sent is None:
            return
        response = event.response
        self._distrust = False
        self._renew(sent.sent_at, response.lease_seconds)
        if sent.suspending and not any(order.kind == "end" for order in response.orders):
            self._suspension.is_granted = True
            self._out.append(HoldLease())
            self._note("The lease stands still until this node is heard again.")
            self._conversation.rest_until(self._suspension.ends_at)
        if response.end_seconds is not None:
            self.end_at = now + response.end_seconds
        self.num_ready = response.num_ready
        self.is_over = response.is_complete or response.is_canceled
        self._script.told(response.run_id if response.has_completion_script else None)
        for name in sent.started:
            if attempt := self.holdings.attempts.get(name):
                attempt.start_reported = True
        settled = self.holdings.settle(response.acknowledged)
        if settled:
            self._out.append(Forget(tuple(settled)))
        if sent.leave:
            self._on_leave_answered(now)
            return
        claims = self._take_claims(response)
        orders = self._take_orders(response, now)
        self._conversation.rate(sent, now, brought_news=claims or orders or bool(settled))

    def _renew(self, sent_at: float, seconds: float) -> None:
        self.lease.renew(sent_at, seconds)
        lease = self.lease
        self._out.append(RenewLease(lease.kill_at, lease.until, lease.seconds, self._conversation.seq))

    def _take_claims(self, response: SyncResponse) -> bool:
        # What we hold is handed over again when our request had crossed the first time.
        fresh = [job for job in response.claims if job.attempt_id not in self.holdings]
        for job in fresh:
            self.holdings.enqueue(job)
            can_run = self.holdings.can_ever_run(job)
            if not can_run:
                self._look_ahead.refused = True
            if not can_run or self.mode is not Mode.WORKING:
                self._give_back([self.holdings.attempts[job.attempt_id]])
        return bool(fresh)

    def _take_orders(self, response: SyncResponse, now: float) -> bool:
        has_news = False
        for order in response.orders:
            if order.kind == "kill":
                has_news |= self._obey_kill(order, now)
                continue
            if order.id not in self._conversation.orders:
                self._conversation.orders.append(order.id)
                self._conversation.report_by(now)
                has_news = True
            if order.kind == "drain":
                self._drain(order)
            elif order.kind == "end":
                if self.mode is not Mode.STOPPING:
                    reason = order.reason or "told to end"
                    self._begin_stop(now, reason, grace=order.grace_seconds, cause=order.cause)
            else:
                assert_never(order.kind)
        return has_news

    def _drain(self, order: Order) -> None:
        if self.mode in {Mode.WORKING, Mode.PREPARING}:
            self.mode = Mode.DRAINING
            self._departure.reason = order.reason or "drained"
            self._give_back(list(self.holdings.queue))

    def _obey_kill(self, order: Order, now: float) -> bool:
        has_news = False
        stop: Stop = {
            "cause": order.cause,
            "status": "canceled" if order.cause == "canceled" else "terminated",
            "message": order.reason or "Ended by the server's order.",
        }
        for name in order.attempts:
            attempt = self.holdings.attempts.get(name)
            if attempt is None and name in self.holdings:
                continue  # its end is acknowledged by this very answer, or was by an earlier one
            if attempt is None:
                # Revoked before its claim reached us: it is over as surely as one that we ended.
                attempt = Attempt(name, Phase.QUEUED)
            if attempt.phase is Phase.QUEUED:
                self.holdings.end(attempt, ending.unseen_end(attempt, stop, seconds=0.0, started=False), now)
                self._conversation.report_by(now)
                has_news = True
            elif attempt.phase is Phase.LAUNCHED and attempt.stop is None:
                self._out += ending.end_jobs([attempt], stop, order.grace_seconds, now)
                has_news = True
        return has_news

    def _on_failure(self, event: SyncFailed, now: float) -> None:
        sent = self._conversation.failed(event.seq)
        if sent is None:
            return
        failures = self._conversation.failures
        self._conversation.pause_until(now + self.lease.pause_after(failures, event.jitter))
        if event.fenced:
            if sent.leave:
                self._leave(EXIT_FAILED, f"the server does not know this node any more: {event.reason}")
            elif self.mode is not Mode.STOPPING:
                self.exit_code = EXIT_FAILED
                self._begin_stop(now, f"fenced: {event.reason}", grace=0.0, cause="infrastructure")
            return
        if failures in {1, 10, 100, 1000}:
            self._note(f"The server was not reached ({failures}): {event.reason}", is_error=True)
        if sent.leave and self._departure.has_waited_enough(now):
            self._leave(EXIT_UNREACHABLE, "the server was not reached; the reports stay in the spool")
        elif now > self.lease.until + OFFLINE_PATIENCE_SECONDS and self.holdings.is_idle:
            self._leave(EXIT_UNREACHABLE, "the server was not reached for long after the lease had ended")

    # ---- the jobs ----------------------------------------------------------------------------

    def _on_prepared(self, event: Prepared, now: float) -> None:
        if event.failure and self.mode is not Mode.STOPPING:
            self.exit_code = EXIT_FAILED
            self._begin_stop(now, event.failure, grace=0.0)
        elif self.mode is Mode.PREPARING:
            self.mode = Mode.WORKING
            # The request that waits since the preparation began asks for nothing.
            self._conversation.report_by(now)

    def _on_started(self, event: JobsStarted, now: float) -> None:
        for name, pid, at in event.jobs:
            attempt = self.holdings.launched.get(name)
            if attempt is not None:
                attempt.pid, attempt.started_at = pid, at
                self._conversation.report_by(now + STARTED_BATCH_SECONDS)

    def _on_ended(self, event: JobsEnded, now: float) -> None:
        self._give_back(self.holdings.lose(event.lost_hosts))
        for ended, at in event.jobs:
            attempt = self.holdings.launched.get(ended.attempt_id)
            if attempt is None:
                continue
            if attempt.note:
                ended.message = f"{ended.message} {attempt.note}".strip()
            self.holdings.end(attempt, ended, at)
            if ended.cause == "exit":
                self._look_ahead.observe(ended.exec_seconds)
        if self.holdings.queue:
            delay = BUSY_BATCH_SECONDS
        else:
            # Alone, nothing is gained by waiting for company: dependents may be waiting.
            delay = BATCH_SECONDS if self.holdings.launched else 0.0
        self._conversation.report_by(now + delay)

    def _launch(self) -> None:
        if self._distrust or self._suspension.is_near or self.mode is not Mode.WORKING:
            return
        assignments = tuple(
            Assignment(
                attempt.job,
                attempt.gpus,
                tuple(cpu for group in attempt.cpu_groups for cpu in group),
                attempt.hosts,
            )
            for attempt in self.holdings.take_launchable()
            if attempt.job is not None
        )
        if assignments:
            self._out.append(LaunchJobs(assignments))

    def _give_back(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self.holdings.give_back(attempt)
            self._conversation.report_by(0.0)

    def _enforce_times(self, now: float) -> None:
        if now >= self._kill_marked_at:
            self._kill_marked_at = _NEVER
            self._out.append(KillMarked())
        if self.end_at is not None and now >= self.end_at and self.mode is not Mode.STOPPING:
            self._begin_stop(now, "the allocation's time is over", grace=GRACE_SECONDS, by_itself=True)
        self._out += ending.enforce_times(self.holdings, now)

    # ---- stopping and leaving ----------------------------------------------------------------

    def _on_stop(self, event: StopRequested, now: float) -> None:
        if self._stop_signals and now - self._stop_signal_at < ONE_SIGNAL_SECONDS:
            return
        self._stop_signals += 1
        self._stop_signal_at = now
        if self._stop_signals == 1:
            self._begin_stop(now, event.reason, grace=self.policy.signal_grace_seconds)
            return
        self._departure.is_urgent = True
        for attempt in self.holdings.launched.values():
            attempt.kill_at = now

    def _on_suspension(self, event: SuspensionSignaled, now: float) -> None:
        """Let the jobs sleep, or give them up while there is time to; in two seconds nothing here runs."""
        if event.is_over:
            if self._suspension.is_near:
                self._wake(now)
            return
        if self.policy.on_suspend == "requeue":
            if self.mode is not Mode.STOPPING:
                self._begin_stop(now, "its allocation is being suspended", grace=0.0, by_itself=True)
            return
        self._note("About to be suspended.")
        self._suspension.warn(now)
        self._conversation.report_by(now)

    def _wake(self, now: float) -> None:
        slept, was_granted = self._suspension.end(now)
        self._note(f"Goes on {slept:.0f} s after the warning of a suspension.")
        # Slurm does not count that time, so neither do the jobs' limits.
        for attempt in self.holdings.launched.values():
            attempt.slept_seconds += slept
        if self.end_at is not None:
            self.end_at += slept
        if was_granted:
            # The server counts again from when it hears of us, which is later than this moment.
            self._renew(now, self.lease.seconds)
        self._distrust = True
        self._conversation.start_over()

    def _begin_stop(
        self,
        now: float,
        reason: str,
        *,
        grace: float,
        cause: str = "allocation_ended",
        by_itself: bool = False,
    ) -> None:
        self._note(f"Stopping: {reason}.")
        self._departure.is_final = by_itself
        self.mode = Mode.STOPPING
        self._departure.reason = reason
        self._give_back(list(self.holdings.queue))
        stop: Stop = {"cause": cause, "status": "terminated", "message": f"The runner stopped: {reason}."}
        self._out += ending.end_jobs(self.holdings.launched.values(), stop, grace, now)

    def _on_guardian_lost(self, now: float) -> None:
        self._note("The guardian is dead: everything of this node is killed.", is_error=True)
        self.exit_code = EXIT_FAILED
        self.mode = Mode.STOPPING
        self._departure.is_final = False
        self._departure.reason = "the guardian was killed"
        self._give_back(list(self.holdings.queue))
        self._kill_marked_at = now

    def _on_processes_killed(self, event: ProcessesKilled, now: float) -> None:
        stop = infrastructure_stop("The job runner's guardian was killed.")
        for attempt in list(self.holdings.launched.values()):
            if attempt.id in event.remaining:
                pid = event.remaining[attempt.id]
                self._note(
                    f"Process {pid} of attempt {attempt.id} does not die; not reported.", is_error=True
                )
                continue
            seconds = 0.0 if attempt.started_at is None else max(0.0, now - attempt.started_at)
            self.holdings.end(attempt, ending.unseen_end(attempt, stop, seconds=seconds, started=True), now)
        self._kill_marked_at = now + GUARDIAN_RETRY_SECONDS if event.remaining else _NEVER
        self._conversation.report_by(now)

    def _consider_leaving(self, now: float) -> None:
        if not self.holdings.is_idle or self.mode is Mode.PREPARING or self._kill_marked_at < _NEVER:
            # Also when we were about to leave: the last answer may have brought work.
            self._departure.stay()
            return
        if not self._departure.has_begun and self.mode is not Mode.STOPPING:
            if self._script.take():
                self._out.append(RunCompletionScript())
            if self._script.runs:
                self._departure.idle_since = None
                return
        if self._departure.begins(now, self.mode, self.policy, is_over=self.is_over):
            self._conversation.report_by(now)
            self._note(f"Leaving: {self._departure.reason}.")

    def _on_leave_answered(self, now: float) -> None:
        if self.holdings.finished and not self._departure.has_waited_enough(now):
            self._conversation.pause_until(now + QUIET_PAUSE_SECONDS)
            self._conversation.report_by(now)
        else:
            self._leave(self.exit_code, self._departure.reason)

    def _leave(self, code: int, reason: str) -> None:
        self.mode = Mode.LEFT
        self._out.append(Exit(code, reason))

    def _has_left(self) -> bool:
        return self.mode is Mode.LEFT

    # ---- the request -------------------------------------------------------------------------

    def _sync(self, now: float) -> None:
        if not self._conversation.is_due(now):
            return
        leave = self._departure.has_begun
        free = None
        is_near = self._suspension.is_near
        if self.mode is Mode.WORKING and not leave and not self._distrust and not is_near:
            left = None if self.end_at is None else max(0.0, self.end_at - now)
            free = lookahead.ask(self.holdings, self._look_ahead, num_ready=self.num_ready, seconds_left=left)
        # After waking up late the answer is wanted at once.
        wait = 0.0 if self._distrust or is_near else self.lease.wait_seconds
        is_final = leave and self._departure.is_final
        self._out.append(
            self._conversation.compose(
                self.holdings, now, free=free, wait=wait, leave=leave, is_final=is_final, suspending=is_near
            )
        )

    def _note(self, message: str, *, is_error: bool = False) -> None:
        self._out.append(Note(message, is_error))
