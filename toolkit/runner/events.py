"""What may happen to a runner (events) and what it wants done (instructions).

`state.RunnerState` turns the first into the second; `loop` performs them. Times are seconds on
CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lading.toolkit.runner.messages import Stop
from lading.toolkit.wire.extensions import ClaimedJob, Ended, SyncRequest, SyncResponse

# ---- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """The moment that `next_wakeup` named has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """The start-up script is over (or there is none)."""

    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAnswered(Event):
    seq: int
    response: SyncResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFailed(Event):
    seq: int
    reason: str
    fenced: bool = False
    """The server said that this node is none of its own any more."""
    jitter: float = 1.0
    """Random, 0 to 1: spreads the retries of many nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsStarted(Event):
    jobs: tuple[tuple[str, int, float], ...]
    """(attempt id, process id, when)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsEnded(Event):
    jobs: tuple[tuple[Ended, float], ...]
    """(report, when)."""
    lost_hosts: tuple[str, ...] = ()
    """Nodes of theirs that no job may have from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchesRefused(Event):
    """The guardian did not start them: the lease had ended."""

    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentSampled(Event):
    resident_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Event):
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspensionSignaled(Event):
    """TSTP: in a moment every process of this node may be stopped. CONT: they run again."""

    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardianLost(Event):
    """The guardian is dead: nobody reaps the jobs any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesKilled(Event):
    """After `KillMarked`: everything of this node is dead, apart from `remaining`."""

    remaining: Mapping[str, int]
    """Attempt id -> process id that does not die."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionScriptOver(Event):
    """After `RunCompletionScript`: it has ended, or another node has it."""


# ---- instructions ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instruction:
    pass


@dataclass(frozen=True, slots=True)
class Assignment:
    job: ClaimedJob
    gpus: tuple[str, ...]
    cpus: tuple[int, ...] = ()
    """The CPUs it is bound to; none: it may use any."""
    hosts: tuple[str, ...] = ()
    """The nodes that it has for itself; none for a job of one node."""


@dataclass(frozen=True, slots=True)
class LaunchJobs(Instruction):
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class SignalJobs(Instruction):
    attempts: tuple[str, ...]
    number: int
    stop: Stop


@dataclass(frozen=True, slots=True)
class SendSync(Instruction):
    """Spool `records` durably, then send. An earlier request that still waits is given up."""

    request: SyncRequest
    records: tuple[tuple[Ended, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RenewLease(Instruction):
    """Tell the guardian when to kill, counted from when the answered request was *sent*."""

    kill_at: float
    until: float
    seconds: float
    sequence: int


@dataclass(frozen=True, slots=True)
class HoldLease(Instruction):
    """Tell the guardian that the lease stands still: nothing is killed before the next `RenewLease`."""


@dataclass(frozen=True, slots=True)
class Forget(Instruction):
    """The server has these durably: drop them from spool and guardian."""

    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KillMarked(Instruction):
    """KILL everything that carries this node's mark, confirm, answer with `ProcessesKilled`."""


@dataclass(frozen=True, slots=True)
class RunCompletionScript(Instruction):
    """Claim the workflow's completion script, run it if it is ours, answer with `CompletionScriptOver`."""


@dataclass(frozen=True, slots=True)
class Note(Instruction):
    """A line for the log."""

    message: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Exit(Instruction):
    code: int
    reason: str
