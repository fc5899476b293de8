"""The tables of states hang together."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.states import (
    ACTIVE,
    CLAIMABLE,
    JOB_COMPLETE,
    JOB_TRANSITIONS,
    OPEN_ATTEMPT,
    WORKFLOW_COMPLETE,
    AttemptState,
    JobEvent,
    JobStatus,
)


def test_every_event_has_its_place_in_the_table() -> None:
    assert set(JOB_TRANSITIONS) == set(JobEvent)


def test_the_groups_part_the_statuses() -> None:
    waiting = {JobStatus.UNINITIALIZED, JobStatus.BLOCKED}
    groups = (waiting, CLAIMABLE, ACTIVE, WORKFLOW_COMPLETE)
    assert set().union(*groups) == set(JobStatus)
    assert sum(len(group) for group in groups) == len(JobStatus)
    assert {JobStatus.DISABLED} == WORKFLOW_COMPLETE - JOB_COMPLETE
    assert set(AttemptState) - OPEN_ATTEMPT == {AttemptState.ENDED}


def test_every_status_is_reached_from_the_first() -> None:
    reached = {JobStatus.UNINITIALIZED}
    while more := {
        target for sources, target in JOB_TRANSITIONS.values() if sources & reached and target not in reached
    }:
        reached |= more
    assert reached == set(JobStatus)


@pytest.mark.parametrize("event", [JobEvent.INITIALIZE_READY, JobEvent.INITIALIZE_BLOCKED, JobEvent.CLAIM])
def test_what_runs_is_neither_initialized_nor_claimed(event: JobEvent) -> None:
    assert not JOB_TRANSITIONS[event][0] & ACTIVE
