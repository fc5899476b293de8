"""What the submitter does with what nobody needs any more, and with what there is no room for."""

from __future__ import annotations

import pytest

from lading.toolkit.backends import Observation, ObservedState
from lading.toolkit.submitter.messages import (
    CallFailed,
    Cancel,
    Canceled,
    FailureKind,
    Find,
    Found,
    Observed,
    Prepared,
)
from lading.toolkit.submitter.state import SubmitterState
from tests.unit.test_submitter_state import answer, launch_of, new_state, one, reports, row_of


def test_what_only_waits_is_taken_out_of_the_queue_after_what_is_to_end() -> None:
    state = new_state()
    waiting = row_of("w", external_id="w", take_back=True)
    doomed = row_of("d", state="active", external_id="d", cancel=True, take_back=True)
    first = answer(state, 0, (), (waiting, doomed))
    assert [one for one in first if isinstance(one, Cancel)] == [Cancel("local", ("d",))]
    assert state.handle(Canceled(0, "local")) == [Cancel("local", ("w",), only_waiting=True)]
    state.handle(Canceled(0, "local"))
    # Started meanwhile, and the server knows: it is left alone.
    rows = (row_of("w", state="active", external_id="w"),)
    assert not [one for one in answer(state, 60, (), rows) if isinstance(one, Cancel)]


def test_that_an_allocation_cannot_start_is_reported() -> None:
    state = new_state()
    answer(state, 0, (), (row_of("r", external_id="x"),))
    seen = Observation("x", ObservedState.PENDING, "PartitionTimeLimit", cannot_start=True)
    state.handle(Observed(0, "local", (seen,)))
    [report] = state.request().allocations
    assert (report.state, report.reason, report.cannot_start) == ("pending", "PartitionTimeLimit", True)


def test_a_launch_that_waits_for_room_is_withdrawn_when_nobody_needs_it() -> None:
    state, launch = new_state(), launch_of(state="submitting")
    answer(state, 0, (launch,))
    state.handle(Prepared(0, "t"))
    state.handle(Found(0, "t", ()))
    state.handle(CallFailed(1, "t", FailureKind.CAPACITY, "no more jobs of this user"))
    answer(state, 1, (launch,))
    # Asked, not submitted: an earlier call may have made something.
    unwanted = launch_of(state="submitting", withdraw=True)
    assert answer(state, 2, (unwanted,)) == [Find(unwanted)]
    state.handle(Found(3, "t", ()))
    assert reports(state) == [("t", "withdrawn")]
    assert answer(state, 4) == []
    assert not state.has_reports


def test_what_an_unneeded_launch_has_made_is_reported() -> None:
    state, unwanted = new_state(), launch_of(state="submitting", withdraw=True)
    answer(state, 0, (unwanted,))
    assert state.handle(Prepared(0, "t")) == [Find(unwanted)]
    state.handle(Found(1, "t", one()))
    assert reports(state) == [("t", "submitted")]


def refuse(state: SubmitterState, now: float, tag: str, *, fewer_may_fit: bool = True) -> None:
    full = CallFailed(now, tag, FailureKind.CAPACITY, "no more jobs of this user", fewer_may_fit)
    state.handle(full)


def test_a_launch_that_is_too_large_is_given_back_to_be_divided() -> None:
    state, launch = new_state(), launch_of(state="submitting", count=4)
    answer(state, 0, (launch,))
    state.handle(Prepared(0, "t"))
    state.handle(Found(0, "t", ()))
    refuse(state, 1, "t")
    assert reports(state) == [("t", "retry")]
    # Asked first: of several jobs of one launch some may have been made.
    assert answer(state, 30, (launch,)) == [Find(launch)]
    state.handle(Found(31, "t", ()))
    assert [(one.kind, one.error) for one in state.request().launches] == [
        ("divided", "no more jobs of this user")
    ]
    assert answer(state, 32) == []


@pytest.mark.parametrize("why", ["one alone", "a part was made", "fewer would not fit", "a later one waits"])
def test_others_that_have_no_room_stay_whole(why: str) -> None:
    state = new_state()
    launch = launch_of(state="submitting", count=1 if why == "one alone" else 2)
    later = (launch_of("later", state="submitting", count=2),) if why == "a later one waits" else ()
    answer(state, 0, (launch, *later))
    state.handle(Prepared(0, "t"))
    state.handle(Found(0, "t", ()))
    refuse(state, 1, "t", fewer_may_fit=why != "fewer would not fit")
    answer(state, 30, (launch, *later))
    state.handle(Found(31, "t", one() if why == "a part was made" else ()))
    assert "divided" not in [kind for _, kind in reports(state)]
