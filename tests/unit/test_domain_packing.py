"""Greedy, in order, never more than is offered; that a claim does so is tested in tests/engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.packing import (
    Candidate,
    Offer,
    RequestClass,
    SortMethod,
    Whole,
    groups_in_order,
    parse_sort_method,
    pick,
    refusals,
)
from lading.toolkit.errors import BadInput


def request(number: int = 1, **asked: Any) -> RequestClass:
    values: dict[str, Any] = {
        "num_cpus": 1, "num_gpus": 0, "num_nodes": 1, "memory_bytes": 1, "runtime_seconds": 60.0,
        "scheduler_config_id": "", "priority": 0, "count": 1,
    }  # fmt: skip
    return RequestClass(number, **{**values, **asked})


requests = st.builds(
    request,
    st.just(0),
    num_cpus=st.integers(1, 4),
    num_gpus=st.integers(0, 2),
    memory_bytes=st.integers(0, 5),
    runtime_seconds=st.sampled_from((60.0, 120.0)),
    priority=st.integers(0, 1),
    count=st.integers(1, 5),
)
classes = st.lists(requests, max_size=5).map(
    lambda found: [replace(one, id=number) for number, one in enumerate(found)]
)
offers = st.builds(
    Offer, num_cpus=st.integers(1, 12), memory_bytes=st.integers(1, 12), num_gpus=st.integers(0, 3)
)


def total(taken: Sequence[RequestClass]) -> tuple[int, int, int]:
    return (
        sum(one.num_cpus for one in taken),
        sum(one.memory_bytes for one in taken),
        sum(one.num_gpus for one in taken),
    )


@given(st.lists(requests, max_size=12), offers, st.integers(0, 12))
def test_never_more_than_is_offered_and_nothing_is_passed_over_that_fits(
    found: list[RequestClass], offer: Offer, most: int
) -> None:
    candidates = [Candidate(number, one) for number, one in enumerate(found)]
    taken, left = pick(candidates, offer, most)
    cpus, memory, gpus = total([candidate.request for candidate in taken])
    assert len(taken) <= most
    assert left == Offer(offer.num_cpus - cpus, offer.memory_bytes - memory, offer.num_gpus - gpus)
    assert min(left.num_cpus, left.memory_bytes, left.num_gpus) >= 0
    if len(taken) < most and left.num_cpus > 0 and left.memory_bytes > 0:
        assert not any(left.fitting(one.request) for one in candidates if one not in taken)


@given(requests, offers)
def test_as_many_fit_as_can_be_taken_away(one: RequestClass, offer: Offer) -> None:
    number = offer.fitting(one)
    left = offer.without(one, number)
    assert min(left.num_cpus, left.memory_bytes, left.num_gpus) >= 0
    assert left.fitting(one) == 0


@given(classes, st.sampled_from(SortMethod))
def test_groups_are_all_classes_in_order_of_priority(found: list[RequestClass], method: SortMethod) -> None:
    groups = groups_in_order(found, method)
    assert sorted(one.id for group in groups for one in group) == [one.id for one in found]
    priorities = [one.priority for group in groups for one in group]
    assert priorities == sorted(priorities, reverse=True)


REFUSED = {
    "asks for 5 CPUs, 4 are free": {"num_cpus": 5},
    "asks for 9 bytes of memory, 8 are free": {"memory_bytes": 9},
    "asks for 1 GPUs, 0 are free": {"num_gpus": 1},
    "asks for 2 nodes, the allocation has 1": {"num_nodes": 2},
    "may run 61 s, 60 s are left": {"runtime_seconds": 61.0},
    "belongs to slurm_schedulers__1/2": {"scheduler_config_id": "slurm_schedulers__1/2"},
}


@pytest.mark.parametrize(("reason", "asked"), REFUSED.items())
def test_a_refusal_says_what_is_asked_and_what_is_there(reason: str, asked: dict[str, Any]) -> None:
    offer = Offer(4, 8, time_limit_seconds=60.0, scheduler_config_id="local_schedulers__1/3")
    assert refusals(request(**asked), offer) == [reason]
    assert refusals(request(num_cpus=4, memory_bytes=8, runtime_seconds=60.0), offer) == []


def test_one_job_is_bounded_by_the_node_where_more_is_offered() -> None:
    offer = Offer(64, 640, job_num_cpus=4, job_memory_bytes=40)
    assert refusals(request(num_cpus=4, memory_bytes=40), offer) == []
    assert len(refusals(request(num_cpus=5, memory_bytes=41), offer)) == 2


def test_an_unknown_sort_method_names_the_known_ones() -> None:
    assert parse_sort_method("none") is SortMethod.NONE
    with pytest.raises(BadInput, match="'fifo'.*gpus_runtime_memory, gpus_memory_runtime, none"):
        parse_sort_method("fifo")


def test_jobs_of_several_nodes_take_them_whole():
    offer = Offer(4, 8, 0, whole=Whole(num_cpus=4, memory_bytes=8, num_gpus=0, others=3))
    pair = request(num_nodes=2, num_cpus=4, memory_bytes=8, count=5)
    assert (refusals(pair, offer), offer.fitting(pair)) == ([], 2)
    left = offer.without(pair, 1)
    assert (left.num_cpus, left.whole_nodes, left.fitting(request(count=9))) == (4, 2, 4)
    full = left.without(pair, 1)
    assert (full.num_cpus, full.whole_nodes, full.is_used_up) == (0, 0, True)

    busy = offer.without(request(), 1)
    assert (busy.whole_nodes, busy.fitting(pair)) == (3, 1), "our own node is not whole any more"
    assert refusals(request(num_nodes=4), busy) == ["asks for 4 whole nodes, 3 of the allocation are free"]
    assert refusals(request(num_nodes=2, num_cpus=5), busy) == ["asks for 5 CPUs, 4 are free"]
    none_here = offer.without(request(num_cpus=4), 1)
    assert (none_here.is_used_up, none_here.fitting(pair)) == (False, 1)
