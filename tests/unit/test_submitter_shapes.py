"""What a config's allocations offer is asked once, told until it was heard, and asked again when in vain."""

from __future__ import annotations

from lading.toolkit.domain.demand import Shape
from lading.toolkit.submitter.messages import AskShape, Instruction, ShapeTold, SyncAnswered
from lading.toolkit.submitter.state import SubmitterState
from lading.toolkit.wire.submissions import ShapeReport, ShapeWanted, SubmitterSyncResponse


def wanted(rev: int = 1) -> ShapeWanted:
    return ShapeWanted(config_row="7", rev=rev, backend="slurm", config={})


def answer(state: SubmitterState, now: float, *wants: ShapeWanted, granted: bool = True) -> list[Instruction]:
    response = SubmitterSyncResponse(granted=granted, lease_seconds=30.0, shapes_wanted=list(wants))
    done = state.handle(SyncAnswered(now, now, state.request(), response))
    return [instruction for instruction in done if isinstance(instruction, AskShape)]


def new_state() -> SubmitterState:
    return SubmitterState("me", {"slurm": 30.0, "local": 1.0}, lambda: 0.5, shape_backends=["slurm"])


def test_asked_once_and_told_until_heard() -> None:
    state = new_state()
    assert state.request().shape_backends == ["slurm"]
    assert answer(state, 0.0, wanted()) == [AskShape(wanted())]
    assert answer(state, 1.0, wanted()) == []
    assert state.request().shapes_asked == ["7"]
    report = ShapeReport(config_row="7", rev=1, shape=Shape(num_cpus=4, memory_bytes=1))
    state.handle(ShapeTold(2.0, report))
    assert state.request(20.0).wait == 0.0
    assert state.request().shapes == [report]
    assert answer(state, 3.0) == []
    assert state.request().shapes == []
    assert state.request().shapes_asked == []


def test_asked_again_for_another_revision_and_after_a_failure() -> None:
    state = new_state()
    assert answer(state, 0.0, wanted(1)) == [AskShape(wanted(1))]
    assert answer(state, 1.0, wanted(2)) == [AskShape(wanted(2))]
    state.handle(ShapeTold(2.0, ShapeReport(config_row="7", rev=2, is_failure=True), "sinfo is away"))
    assert answer(state, 3.0, wanted(2)) == []
    assert answer(state, 62.0, wanted(2)) == [AskShape(wanted(2))]


def test_a_lost_lease_forgets() -> None:
    state = new_state()
    answer(state, 0.0, wanted())
    state.handle(ShapeTold(1.0, ShapeReport(config_row="7", rev=1)))
    answer(state, 2.0, granted=False)
    assert state.request().shapes == []
    assert answer(state, 3.0, wanted()) == [AskShape(wanted())]
