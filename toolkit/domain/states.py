"""States and causes: the only place where they are named, grouped and allowed to change.

Storage generates its guards (`status IN ...`) from these tables, documentation its diagrams.
Job statuses and their meaning are torc's (its 0.6 API); attempts, nodes and launches are ours.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobStatus(StrEnum):
    UNINITIALIZED = "uninitialized"
    """Created or reset; dependencies not evaluated."""
    BLOCKED = "blocked"
    READY = "ready"
    SCHEDULED = "scheduled"
    """Ready, and an allocation was asked for on its behalf; any fitting node may still claim it."""
    SUBMITTED_PENDING = "submitted_pending"
    """Claimed, not confirmed running."""
    SUBMITTED = "submitted"
    DONE = "done"
    """Finished, whatever the return code."""
    CANCELED = "canceled"
    TERMINATED = "terminated"
    """Stopped by its runner: time limit, end of the allocation."""
    DISABLED = "disabled"


CLAIMABLE: Final = frozenset({JobStatus.READY, JobStatus.SCHEDULED})
ACTIVE: Final = frozenset({JobStatus.SUBMITTED_PENDING, JobStatus.SUBMITTED})
JOB_COMPLETE: Final = frozenset({JobStatus.DONE, JobStatus.CANCELED, JobStatus.TERMINATED})
"""What unblocks dependents."""
WORKFLOW_COMPLETE: Final = JOB_COMPLETE | {JobStatus.DISABLED}
"""A workflow is complete when every job is in one of these; disabled jobs never run."""


class JobEvent(StrEnum):
    INITIALIZE_READY = "initialize_ready"
    INITIALIZE_BLOCKED = "initialize_blocked"
    SCHEDULE = "schedule"
    CLAIM = "claim"
    START = "start"
    COMPLETE = "complete"
    TERMINATE = "terminate"
    CANCEL = "cancel"
    BLOCK = "block"
    """It must wait after all: an edge from an unfinished job was added."""
    UNBLOCK = "unblock"
    GIVE_BACK = "give_back"
    """The attempt ended without a result, or never began: the job may run again."""
    RESET = "reset"
    DISABLE = "disable"


_ANY: Final = frozenset(JobStatus)

JOB_TRANSITIONS: Final = MappingProxyType(
    {
        JobEvent.INITIALIZE_READY: (_ANY - ACTIVE - {JobStatus.DISABLED}, JobStatus.READY),
        JobEvent.INITIALIZE_BLOCKED: (_ANY - ACTIVE - {JobStatus.DISABLED}, JobStatus.BLOCKED),
        JobEvent.SCHEDULE: (frozenset({JobStatus.READY}), JobStatus.SCHEDULED),
        JobEvent.CLAIM: (CLAIMABLE, JobStatus.SUBMITTED_PENDING),
        JobEvent.START: (frozenset({JobStatus.SUBMITTED_PENDING}), JobStatus.SUBMITTED),
        JobEvent.COMPLETE: (_ANY, JobStatus.DONE),
        JobEvent.TERMINATE: (_ANY, JobStatus.TERMINATED),
        JobEvent.CANCEL: (_ANY - JOB_COMPLETE, JobStatus.CANCELED),
        JobEvent.BLOCK: (CLAIMABLE, JobStatus.BLOCKED),
        JobEvent.UNBLOCK: (frozenset({JobStatus.BLOCKED}), JobStatus.READY),
        JobEvent.GIVE_BACK: (ACTIVE, JobStatus.READY),
        JobEvent.RESET: (_ANY, JobStatus.UNINITIALIZED),
        JobEvent.DISABLE: (_ANY, JobStatus.DISABLED),
    }
)
"""Event -> (statuses it is allowed in, status it leads to)."""


class Cause(StrEnum):
    """Why an attempt ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    JOB_TIMEOUT = "job_timeout"
    ALLOCATION_ENDED = "allocation_ended"
    PREEMPTED = "preempted"
    SPOT_INTERRUPTION = "spot_interruption"
    NODE_LOST = "node_lost"
    CANCELED = "canceled"
    INFRASTRUCTURE = "infrastructure"


USER_CAUSES: Final = frozenset({Cause.EXIT, Cause.SIGNAL, Cause.OUT_OF_MEMORY, Cause.JOB_TIMEOUT})
"""The job's own doing: only these use up the retries that its author granted."""


class AttemptState(StrEnum):
    CLAIMED = "claimed"
    RUNNING = "running"
    REVOKING = "revoking"
    """Taken away by somebody; its node was told to kill it and has not confirmed."""
    ENDED = "ended"


OPEN_ATTEMPT: Final = frozenset(set(AttemptState) - {AttemptState.ENDED})


class NodeState(StrEnum):
    ACTIVE = "active"
    SILENT = "silent"
    """No call for 60 s: shown, its backend asked, nothing reassigned."""
    LEFT = "left"
    """Said good-bye: proof that nothing of it runs."""
    LOST = "lost"
    """Its lease ended, or its death was proven."""


class AllocationState(StrEnum):
    """States of a `scheduled_compute_nodes` document."""

    UNINITIALIZED = "uninitialized"
    PENDING = "pending"
    ACTIVE = "active"
    COMPLETE = "complete"


OPEN_ALLOCATION: Final = frozenset(set(AllocationState) - {AllocationState.COMPLETE})


class LaunchState(StrEnum):
    STORED = "stored"
    """Written; no call to the backend was made."""
    SUBMITTING = "submitting"
    """A call may have been made: only `find(tag)` or the same call may follow."""
    SUBMITTED = "submitted"
    FAILED = "failed"
