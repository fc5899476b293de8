"""What every backend promises the submitter: the same tests for all of them.

A backend's own test module makes a class of `Conformance` with a fixture `lab`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pytest

from lading.toolkit.backends import Backend, LaunchRequest, Observation, ObservedState
from lading.toolkit.errors import PermanentError
from tests.lib.waiting import until


class Lab(Protocol):
    """A place where a backend really launches something that waits until it is ended."""

    unknown_id: str
    """An id of the backend's own form that it never gave out."""

    def backend(self) -> Backend:
        """Make another one, as a submitter does that was started anew."""
        ...

    def request(self, tag: str, count: int = 1) -> LaunchRequest:
        """Describe a launch."""
        ...

    def count(self) -> int:
        """Count what waits or runs, by other means than the backend."""
        ...


def until_all(backend: Backend, ids: Sequence[str], state: ObservedState) -> Sequence[Observation]:
    """Observe until all are in that state."""

    def seen() -> Sequence[Observation] | None:
        observations = backend.observe(ids)
        return observations if all(one.state is state for one in observations) else None

    found = until(seen, 45.0, f"all are {state}", pause=0.2)
    assert found is not None
    return found


class Conformance:
    def test_it_can_be_used_here_and_says_what_it_found(self, lab: Lab):
        found = lab.backend().probe()
        assert found.available
        assert found.reason

    def test_nothing_is_found_before_a_launch(self, lab: Lab):
        assert list(lab.backend().find(lab.request("lading-not-yet", 2))) == []
        assert lab.count() == 0

    def test_a_tag_is_launched_once_whoever_asks_how_often(self, lab: Lab):
        request = lab.request("lading-once", 2)
        first = list(lab.backend().submit(request))
        assert [allocation.index for allocation in first] == [0, 1]
        assert len({allocation.external_id for allocation in first}) == 2
        assert list(lab.backend().submit(request)) == first
        assert list(lab.backend().find(request)) == first
        until(lambda: lab.count() == 2, 30.0, "two run")

    def test_rendering_launches_nothing_and_names_every_row(self, lab: Lab):
        request = lab.request("lading-rendered", 2)
        text = lab.backend().render(request)
        assert all(str(path) in text for path in request.node_files)
        assert list(lab.backend().find(request)) == []
        assert lab.count() == 0

    def test_observations_come_for_all_in_the_order_of_the_ids(self, lab: Lab):
        backend = lab.backend()
        ids = [allocation.external_id for allocation in backend.submit(lab.request("lading-order", 2))]
        until_all(backend, ids, ObservedState.ACTIVE)
        asked = [ids[1], lab.unknown_id, "not an id", ids[0]]
        seen = backend.observe(asked)
        assert [one.external_id for one in seen] == asked
        assert [seen[0].state, seen[3].state] == [ObservedState.ACTIVE, ObservedState.ACTIVE]
        assert not any(one.proof_of_death for one in seen)
        assert list(backend.observe([])) == []

    def test_what_is_canceled_ends_provenly_and_may_be_canceled_again(self, lab: Lab):
        backend = lab.backend()
        ids = [allocation.external_id for allocation in backend.submit(lab.request("lading-ended", 2))]
        until_all(backend, ids, ObservedState.ACTIVE)
        backend.cancel(ids[:1])
        [ended] = until_all(backend, ids[:1], ObservedState.ENDED)
        assert ended.proof_of_death
        assert ended.reason
        assert backend.observe(ids[1:])[0].state is ObservedState.ACTIVE
        backend.cancel([*ids, lab.unknown_id])
        until_all(backend, ids, ObservedState.ENDED)
        # A submitter that was started anew sees the same.
        assert all(one.proof_of_death for one in until_all(lab.backend(), ids, ObservedState.ENDED))
        assert lab.count() == 0

    def test_what_has_ended_is_still_found_and_never_launched_again(self, lab: Lab):
        backend, request = lab.backend(), lab.request("lading-never-twice")
        first = list(backend.submit(request))
        backend.cancel([first[0].external_id])
        until_all(backend, [first[0].external_id], ObservedState.ENDED)
        assert list(lab.backend().find(request)) == first
        assert list(lab.backend().submit(request)) == first
        assert lab.count() == 0

    @pytest.mark.parametrize("tag", ["", "a b", "a/../b", "a\nb", "é", "x" * 129])
    def test_a_tag_that_could_mean_something_else_is_refused(self, lab: Lab, tag: str):
        request = lab.request("lading-proper")
        odd = LaunchRequest(
            tag=tag,
            config=request.config,
            node_files=request.node_files,
            output_directory=request.output_directory,
            working_directory=request.working_directory,
            state_directory=request.state_directory,
        )
        with pytest.raises(PermanentError, match="tag"):
            lab.backend().submit(odd)
        assert lab.count() == 0
