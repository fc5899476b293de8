"""The submitter's decisions against a model of the server and of a backend that forgives nothing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.toolkit.backends import Allocation, Observation, ObservedState
from lading.toolkit.domain.states import Cause
from lading.toolkit.submitter.messages import (
    BackendFailed,
    CallFailed,
    Cancel,
    Canceled,
    FailureKind,
    Find,
    Forget,
    Found,
    Instruction,
    Note,
    Observe,
    Observed,
    Prepare,
    Prepared,
    PrepareFailed,
    Submit,
    Submitted,
    SyncAnswered,
    Ticked,
)
from lading.toolkit.submitter.state import SubmitterState
from lading.toolkit.wire.submissions import (
    Launch,
    OpenAllocation,
    SubmitterSyncRequest,
    SubmitterSyncResponse,
)

LEASE = 30.0


def new_state(holder: str = "me", seed: int = 0) -> SubmitterState:
    return SubmitterState(holder, {"local": 1.0}, random.Random(seed).random)


def launch_of(
    tag: str = "t", state: Literal["stored", "submitting"] = "stored", count: int = 1, **more
) -> Launch:
    rows = [f"{tag}-row{index}" for index in range(count)]
    return Launch(
        tag=tag, backend="local", workflow="1", config_id="local_schedulers/2", config={}, count=count,
        state=state, allocations=rows, **more,
    )  # fmt: skip


def row_of(identity: str, state: str = "pending", **more) -> OpenAllocation:
    return OpenAllocation(allocation=identity, workflow="1", backend="local", tag="t", state=state, **more)


def answer(
    state: SubmitterState,
    now: float,
    launches: tuple[Launch, ...] = (),
    rows: tuple[OpenAllocation, ...] = (),
    *,
    granted: bool = True,
) -> list[Instruction]:
    response = SubmitterSyncResponse(
        granted=granted, lease_seconds=LEASE, launches=list(launches), allocations=list(rows)
    )
    done = state.handle(SyncAnswered(now, now, state.request(), response))
    return [instruction for instruction in done if not isinstance(instruction, Note | Forget)]


def reports(state: SubmitterState) -> list[tuple[str, str]]:
    return [(report.tag, report.kind) for report in state.request().launches]


def one(tag: str = "t") -> tuple[Allocation, ...]:
    return (Allocation(f"id-{tag}", 0),)


# ---- one launch ----


def test_backend_is_called_only_after_begun_was_answered() -> None:
    state = new_state()
    assert answer(state, 0, (launch_of(),)) == [Prepare(launch_of(), is_fresh=True)]
    assert not state.has_reports
    assert state.handle(Prepared(1, "t")) == []
    assert reports(state) == [("t", "begun")]
    # An answer that was lost changes nothing: the report stands.
    assert state.handle(Ticked(2)) == []
    assert reports(state) == [("t", "begun")]
    assert answer(state, 3, (launch_of(state="submitting"),)) == [Submit(launch_of(state="submitting"))]
    state.handle(Submitted(4, "t", one()))
    assert reports(state) == [("t", "submitted")]
    assert state.request().launches[0].external_ids == ["id-t"]
    assert answer(state, 5) == []
    assert not state.has_reports


def test_begun_without_effect_calls_nothing_until_the_server_stored_it() -> None:
    state = new_state()
    answer(state, 0, (launch_of(),))
    state.handle(Prepared(0, "t"))
    assert reports(state) == [("t", "begun")]
    # Acknowledged, and the launch is as it was: nobody else would know that the backend may be called.
    assert answer(state, 1, (launch_of(),)) == []
    assert not state.has_reports
    assert state.handle(Ticked(5)) == []
    assert state.handle(Ticked(6)) == [Prepare(launch_of(), is_fresh=True)]
    assert state.handle(Prepared(6, "t")) == []
    assert reports(state) == [("t", "begun")]
    launch = launch_of(state="submitting")
    assert answer(state, 7, (launch,)) == [Submit(launch)]


def test_launch_begun_by_somebody_else_is_looked_for_first() -> None:
    state, launch = new_state(), launch_of(state="submitting")
    assert answer(state, 0, (launch,)) == [Prepare(launch, is_fresh=False)]
    assert state.handle(Prepared(1, "t")) == [Find(launch)]
    assert state.handle(Found(2, "t", ())) == [Submit(launch)]
    other = new_state()
    answer(other, 0, (launch,))
    other.handle(Prepared(1, "t"))
    other.handle(Found(2, "t", one()))
    assert reports(other) == [("t", "submitted")]


def test_part_of_a_launch_is_completed_by_the_same_call() -> None:
    state, launch = new_state(), launch_of(state="submitting", count=2)
    answer(state, 0, (launch,))
    state.handle(Prepared(1, "t"))
    assert state.handle(Found(2, "t", (Allocation("b", 1),))) == [Submit(launch)]
    state.handle(Submitted(3, "t", (Allocation("b", 1), Allocation("a", 0))))
    assert state.request().launches[0].external_ids == ["a", "b"]


def called(state: SubmitterState) -> Launch:
    """Bring a launch to the point where its submit runs."""
    answer(state, 0, (launch_of(),))
    state.handle(Prepared(0, "t"))
    launch = launch_of(state="submitting")
    assert answer(state, 0, (launch,)) == [Submit(launch)]
    return launch


def test_after_an_ambiguous_failure_the_backend_is_asked() -> None:
    state = new_state()
    launch = called(state)
    state.handle(CallFailed(1, "t", FailureKind.TRANSIENT, "timed out"))
    (report,) = state.request().launches
    assert (report.kind, report.error) == ("retry", "timed out")
    assert 1.0 <= report.retry_seconds <= 60.0
    assert answer(state, 1, (launch,)) == []
    assert state.due(1.0) == pytest.approx(1 + report.retry_seconds)
    assert state.handle(Ticked(1 + report.retry_seconds)) == [Find(launch)]


def test_refusal_is_reported_with_its_reason() -> None:
    state = new_state()
    called(state)
    state.handle(CallFailed(1, "t", FailureKind.PERMANENT, "no such partition"))
    (report,) = state.request().launches
    assert (report.kind, report.error) == ("failed", "no such partition")


def test_want_of_room_is_waited_for_until_an_allocation_ends() -> None:
    state = new_state()
    launch = called(state)
    state.handle(CallFailed(1, "t", FailureKind.CAPACITY, "0 of 2 CPUs are free"))
    assert state.request().launches[0].retry_seconds >= 5
    rows = (row_of("r", external_id="x"),)
    assert answer(state, 1, (launch,), rows) == [Observe("local", ("x",))]
    ended = Observation("x", ObservedState.ENDED, proof_of_death=True, cause=Cause.INFRASTRUCTURE)
    assert state.handle(Observed(2, "local", (ended,))) == [Find(launch)]


def test_outcome_is_said_again_when_the_server_lists_the_launch_again() -> None:
    state = new_state()
    launch = called(state)
    state.handle(Submitted(1, "t", one()))
    answer(state, 2, (launch,))
    assert not state.has_reports
    answer(state, 3, (launch,))
    state.handle(Ticked(8))
    assert reports(state) == [("t", "submitted")]


def test_node_files_that_cannot_be_written_are_tried_again() -> None:
    state = new_state()
    answer(state, 0, (launch_of(),))
    state.handle(PrepareFailed(0, "t", "404"))
    assert not state.has_reports
    due = state.due(0.0)
    assert due is not None
    assert state.handle(Ticked(due)) == [Prepare(launch_of(), is_fresh=True)]


# ---- the lease ----


def test_without_the_lease_nothing_is_done() -> None:
    state = new_state()
    assert answer(state, 0, (launch_of(),), (row_of("r", external_id="x"),), granted=False) == []
    assert state.due(0.0) is None


def test_a_lease_that_has_ended_stops_all_calls() -> None:
    state = new_state()
    answer(state, 0, (launch_of(state="submitting"),), (row_of("r", external_id="x"),))
    assert state.handle(Prepared(LEASE, "t")) == []
    # It may have been another's for a while: look before calling.
    done = answer(state, LEASE + 1, (launch_of(state="submitting"),))
    assert done == [Find(launch_of(state="submitting"))]


def test_a_call_that_outlasts_the_lease_is_left_to_the_next_holder() -> None:
    state = new_state()
    called(state)
    answer(state, 1, granted=False)
    state.handle(Submitted(2, "t", one()))
    assert not state.has_reports


# ---- allocations ----


def test_what_has_changed_is_reported_once_and_an_end_until_it_is_taken() -> None:
    state = new_state()
    row = row_of("r", external_id="x")
    assert answer(state, 0, (), (row,)) == [Observe("local", ("x",))]
    state.handle(Observed(0, "local", (Observation("x", ObservedState.ACTIVE),)))
    assert [report.state for report in state.request().allocations] == ["active"]
    answer(state, 0, (), (row,))
    assert state.handle(Ticked(0.5)) == []
    assert state.handle(Ticked(1.0)) == [Observe("local", ("x",))]
    state.handle(Observed(1.0, "local", (Observation("x", ObservedState.ACTIVE),)))
    assert not state.has_reports
    for now in (2.0, 3.0):
        assert state.handle(Ticked(now)) == [Observe("local", ("x",))]
        ended = Observation("x", ObservedState.ENDED, proof_of_death=True, cause=Cause.INFRASTRUCTURE)
        state.handle(Observed(now, "local", (ended,)))
        (report,) = state.request().allocations
        assert (report.state, report.proof_of_death, report.cause) == ("ended", True, "infrastructure")
        answer(state, now, (), (row,))
    answer(state, 4.0)
    assert state.due(4.0) is None


def test_what_ended_an_earlier_copy_is_told_when_it_is_learnt() -> None:
    state = new_state()
    row = row_of("r", state="active", external_id="x")
    answer(state, 0, (), (row,))
    state.handle(Observed(0, "local", (Observation("x", ObservedState.ACTIVE),)))
    assert not state.has_reports
    state.handle(Ticked(1.0))
    seen = Observation("x", ObservedState.ACTIVE, earlier_causes=(None, Cause.PREEMPTED))
    state.handle(Observed(1.0, "local", (seen,)))
    (report,) = state.request().allocations
    assert report.earlier_causes == [None, "preempted"]


def test_a_backend_that_does_not_know_proves_nothing() -> None:
    state = new_state()
    row = row_of("r", state="active", external_id="x")
    answer(state, 0, (), (row,))
    state.handle(Observed(0, "local", (Observation("x", ObservedState.UNKNOWN, "cannot be killed"),)))
    (report,) = state.request().allocations
    assert (report.state, report.reason, report.proof_of_death) == ("active", "cannot be killed", False)
    assert not report.is_observed, "what the row holds is not what was seen"
    answer(state, 0, (), (row,))
    state.handle(Ticked(1))
    state.handle(Observed(1, "local", (Observation("x", ObservedState.UNKNOWN),)))
    assert not state.has_reports


def test_cancel_is_repeated_but_not_in_a_hurry() -> None:
    state = new_state()
    row = row_of("r", external_id="x", cancel=True)
    assert answer(state, 0, (), (row,)) == [Cancel("local", ("x",)), Observe("local", ("x",))]
    state.handle(Canceled(0, "local"))
    state.handle(Observed(0, "local", (Observation("x", ObservedState.ACTIVE),)))
    assert Cancel("local", ("x",)) not in state.handle(Ticked(4.9))
    assert Cancel("local", ("x",)) in state.handle(Ticked(5.0))


# ---- limits ----


def test_a_backend_that_only_fails_is_left_alone() -> None:
    state = new_state()
    row = row_of("r", external_id="x")
    answer(state, 0, (), (row,))
    for now in range(5):
        state.handle(BackendFailed(float(now), "local", "observe", "squeue hangs"))
        state.handle(Ticked(now + 1.0)) if now < 4 else None
    due = state.due(5.0)
    assert due is not None
    assert due >= 4 + 10
    assert answer(state, 5, (), (row,)) == []
    assert answer(state, due, (), (row,)) == [Observe("local", ("x",))]
    # One trial at a time, and its success opens the way again.
    assert state.due(due) is None
    state.handle(Observed(due, "local", (Observation("x", ObservedState.ACTIVE),)))
    assert state.due(due) == due + 1.0


def test_submissions_are_counted_by_the_minute() -> None:
    state = SubmitterState("me", {"local": 1.0}, lambda: 0.0, per_minute=2)
    launches = tuple(launch_of(f"t{number}", "submitting") for number in range(4))
    answer(state, 0, launches)
    submits = 0
    queue: list[Instruction] = []
    for number in range(4):
        queue += state.handle(Prepared(0, f"t{number}"))
    while queue:
        match queue.pop():
            case Find(launch):
                queue += state.handle(Found(0, launch.tag, ()))
            case Submit(launch):
                submits += 1
                queue += state.handle(Submitted(0, launch.tag, one(launch.tag)))
    assert submits == 2
    assert state.due(0.0) == pytest.approx(30.0, abs=0.1)


def test_unknown_backend_is_noted_once() -> None:
    state = new_state()
    launch = Launch(
        tag="t", backend="pbs", workflow="1", config_id="pbs_schedulers/1", config={}, count=1,
        state="stored", allocations=["r"],
    )  # fmt: skip
    request, response = (
        state.request(),
        SubmitterSyncResponse(granted=True, lease_seconds=LEASE, launches=[launch]),
    )
    done = state.handle(SyncAnswered(0, 0, request, response))
    assert [type(item) for item in done] == [Note, Forget]
    assert state.handle(SyncAnswered(1, 1, request, response)) == []


# ---- killed between any two steps ----


@dataclass
class Model:
    """A server, and a backend whose submit is not idempotent: each call that arrives launches."""

    chance: random.Random
    stored: dict[str, Literal["stored", "submitting", "submitted"]]
    launched: Counter[str] = field(default_factory=Counter)
    holder: str = ""
    lease_until: float = 0.0
    now: float = 0.0

    def sync(self, request: SubmitterSyncRequest) -> SubmitterSyncResponse:
        if self.holder not in {"", request.holder} and self.now < self.lease_until:
            return SubmitterSyncResponse(granted=False, lease_seconds=LEASE, holder=self.holder)
        self.holder, self.lease_until = request.holder, self.now + LEASE
        for report in request.launches:
            state = self.stored[report.tag]
            if report.kind == "begun" and state == "stored":
                self.stored[report.tag] = "submitting"
            elif report.kind == "submitted":
                assert self.launched[report.tag] == 1
                self.stored[report.tag] = "submitted"
        open_launches = [launch_of(tag, state) for tag, state in self.stored.items() if state != "submitted"]
        return SubmitterSyncResponse(granted=True, lease_seconds=LEASE, launches=open_launches)


class Process:
    """One submitter process of the model."""

    born = 0

    def __init__(self, model: Model, fault_rate: float) -> None:
        Process.born += 1
        self.model, self.fault_rate = model, fault_rate
        self.state = new_state(f"process {Process.born}", Process.born)
        self.is_alive = True
        self.preparing: list[Instruction] = []

    def fault(self) -> bool:
        return self.model.chance.random() < self.fault_rate

    def step(self) -> None:
        """Do one thing; faults strike before, within and after each call."""
        model = self.model
        if self.preparing and model.chance.random() < 0.5:
            instruction = self.preparing.pop()
            assert isinstance(instruction, Prepare)
            failed = self.fault()
            tag = instruction.launch.tag
            self.perform(
                self.state.handle(PrepareFailed(model.now, tag, "x") if failed else Prepared(model.now, tag))
            )
            return
        due = self.state.due(model.now)
        if due is not None and due <= model.now:
            self.perform(self.state.handle(Ticked(model.now)))
            return
        request, sent_at = self.state.request(), model.now
        if self.fault():
            return
        response = model.sync(request)
        if self.fault():
            return
        self.perform(self.state.handle(SyncAnswered(model.now, sent_at, request, response)))

    def perform(self, instructions: list[Instruction]) -> None:
        queue = list(instructions)
        while queue:
            instruction = queue.pop(0)
            if isinstance(instruction, Prepare):
                self.preparing.append(instruction)
            elif isinstance(instruction, Find | Submit):
                if self.fault():
                    self.is_alive = False
                    return
                queue += self.state.handle(self.call(instruction))
                if not self.is_alive:
                    return

    def call(self, instruction: Find | Submit) -> Found | Submitted | CallFailed:
        model, tag = self.model, instruction.launch.tag
        if self.fault():
            kind = model.chance.choice([FailureKind.TRANSIENT, FailureKind.CAPACITY])
            return CallFailed(model.now, tag, kind, "refused before it was carried out")
        if isinstance(instruction, Submit):
            model.launched[tag] += 1
            assert model.launched[tag] == 1, "launched twice"
        if self.fault():
            # Carried out; its answer is lost with the process or in a timeout.
            self.is_alive = model.chance.random() < 0.5
            return CallFailed(model.now, tag, FailureKind.TRANSIENT, "timed out")
        allocations = one(tag) if model.launched[tag] else ()
        if isinstance(instruction, Find):
            return Found(model.now, tag, allocations)
        return Submitted(model.now, tag, allocations)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.5), st.integers(1, 2))
def test_no_tag_is_ever_launched_twice_and_each_is_launched_once(seed: int, rate: float, count: int) -> None:
    chance = random.Random(seed)
    model = Model(chance, {f"t{number}": "stored" for number in range(3)})
    processes = [Process(model, rate) for _ in range(count)]
    for _ in range(150):
        model.now += chance.choice([0.0, 0.0, 0.1, 1.0, 7.0, LEASE, 2 * LEASE])
        index = chance.randrange(count)
        processes[index].step()
        if not processes[index].is_alive or chance.random() < rate / 5:
            processes[index] = Process(model, rate)
    # From here on nothing fails: one fresh process brings everything to its end.
    model.now += 2 * LEASE
    last = Process(model, 0.0)
    for _ in range(200):
        model.now += 1.0
        last.step()
    assert set(model.stored.values()) == {"submitted"}
    assert set(model.launched.values()) == {1}
