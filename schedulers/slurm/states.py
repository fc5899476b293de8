"""What a state of Slurm means for the jobs that ran in the allocation. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lading.schedulers.slurm.listing import Job
from lading.toolkit.backends import Observation, ObservedState
from lading.toolkit.domain.states import Cause

_WAITING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_SUSPENDED: Final = frozenset({"SUSPENDED", "STOPPED"})
_ENDED: Final[Mapping[str, Cause | None]] = {
    # The runner left by itself: what it had to say it said.
    "COMPLETED": None,
    "FAILED": Cause.INFRASTRUCTURE,
    "BOOT_FAIL": Cause.INFRASTRUCTURE,
    "OUT_OF_MEMORY": Cause.INFRASTRUCTURE,
    "TIMEOUT": Cause.ALLOCATION_ENDED,
    "DEADLINE": Cause.ALLOCATION_ENDED,
    "CANCELLED": Cause.ALLOCATION_ENDED,
    "REVOKED": Cause.ALLOCATION_ENDED,
    "PREEMPTED": Cause.PREEMPTED,
    "NODE_FAIL": Cause.NODE_LOST,
}
_NO_PROOF: Final = frozenset({"NODE_FAIL"})
"""Slurm gave the node up; the processes were seen to live on there."""

_NEVER: Final = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|BadConstraints|DependencyNeverSatisfied|QOSMin\w+|(?:Assoc|QOS)Max\w*Per(?:Job|Node)\w*"
)
"""Reasons for which a pending job waits until somebody changes it or the limit. Limits of a group, an account
or a user (AssocGrp…, QOSGrp…, …PerUser) are none: there is room when others end, and a partition that is
down comes up."""


def is_waiting(job: Job) -> bool:
    """Tell whether it is in the queue, for the first time or again."""
    return job.state in _WAITING


def is_over(job: Job) -> bool:
    """Tell whether its newest copy has ended."""
    return job.state in _ENDED


def observation_of(external_id: str, job: Job, *, was_active: bool = False) -> Observation:
    """Return what to tell of an allocation whose job was found."""
    # Why earlier copies were ended; never a proof that they have ended everywhere.
    earlier = tuple(_ENDED.get(state) for state in job.earlier_states)
    return replace(_newest(external_id, job, was_active=was_active), earlier_causes=earlier)


def _newest(external_id: str, job: Job, *, was_active: bool) -> Observation:
    state = job.state
    if state in _WAITING:
        reason = _why_pending(job, was_active=was_active)
        cannot_start = _NEVER.fullmatch(job.reason) is not None
        return Observation(external_id, ObservedState.PENDING, reason, cannot_start=cannot_start)
    if state in _SUSPENDED:
        return Observation(external_id, ObservedState.SUSPENDED, f"Slurm suspended it ({state})")
    if state == "COMPLETING":
        # Its processes are being ended; on a node that does not answer they may live for long.
        return Observation(external_id, ObservedState.ACTIVE, "Slurm waits for the end of its processes")
    if state in _ENDED:
        return Observation(
            external_id,
            ObservedState.ENDED,
            _why_ended(job),
            proof_of_death=state not in _NO_PROOF,
            cause=_ENDED[state],
        )
    # RUNNING and its flags (SIGNALING, STAGE_OUT, RESIZING), and states that a later Slurm may add: it is there.
    return Observation(external_id, ObservedState.ACTIVE, end_seconds=job.left_seconds)


def vanished(external_id: str, *, has_accounting: bool) -> Observation:
    """Return what to tell of an allocation that Slurm does not know any more: over, but nothing proven."""
    where = "squeue and sacct know" if has_accounting else "squeue knows"
    return Observation(
        external_id,
        ObservedState.ENDED,
        f"vanished: neither {where} of it any more"
        if has_accounting
        else f"vanished: {where} nothing of it, and this site keeps no accounting",
        cause=Cause.INFRASTRUCTURE,
    )


def _why_pending(job: Job, *, was_active: bool) -> str:
    reason = job.reason or job.state
    text = f"waits in Slurm's queue ({reason})"
    if was_active:
        ended = f" after {job.previous_state}" if job.previous_state else ""
        text = f"Slurm put it back into the queue{ended} ({reason})"
    if _NEVER.fullmatch(reason):
        return f"{text}: it will not start until the limit or the config is changed"
    return f"{text}, estimated start {job.start}" if job.start else text


def _why_ended(job: Job) -> str:
    text = f"Slurm ended it: {job.state}"
    if job.reason and job.reason != job.state:
        text += f" ({job.reason})"
    if job.exit_code and job.exit_code != "0:0":
        text += f", exit code {job.exit_code}"
    if job.nodes and job.state in {"NODE_FAIL", "FAILED", "BOOT_FAIL"}:
        text += f" on {job.nodes}"
    return text
