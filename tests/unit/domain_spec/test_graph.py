"""Graphs: order, reach, circles; linear and without recursion."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.graph import (
    blocking_pairs,
    downstream,
    edges_from_pairs,
    find_cycle,
    find_cycles,
    topological_order,
)
from lading.toolkit.errors import BadInput

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40)


def test_pairs_come_from_what_is_produced_and_needed_once_each() -> None:
    produced = [("split", "west"), ("split", "east"), ("render", "png")]
    needed = [("render", "west"), ("render", "east"), ("merge", "png"), ("merge", "outside")]
    assert list(blocking_pairs(produced, needed)) == [("split", "render"), ("render", "merge")]


def test_a_job_does_not_block_itself() -> None:
    assert list(blocking_pairs([("job", "file")], [("job", "file")])) == []


def test_downstream_is_nearest_first_and_each_once() -> None:
    edges = {"a": ["b", "c"], "b": ["d"], "c": ["d", "e"], "e": ["f"]}
    assert downstream(["a"], edges) == ["b", "c", "d", "e", "f"]
    assert downstream(["f"], edges) == []


def test_downstream_of_a_node_on_a_circle_has_the_node() -> None:
    assert downstream(["a"], {"a": ["b"], "b": ["a"]}) == ["b", "a"]


def test_order_keeps_the_given_order_where_it_may() -> None:
    assert topological_order(["c", "b", "a"], {"a": ["c"]}) == ["b", "a", "c"]


def test_order_of_a_circle_names_it() -> None:
    with pytest.raises(BadInput, match="There is a dependency cycle: b → c → b"):
        topological_order(["a", "b", "c"], {"a": ["b"], "b": ["c"], "c": ["b"]})


def test_separate_circles_are_all_found_without_what_hangs_on_them() -> None:
    edges = {1: [2], 2: [1], 3: [4], 4: [5], 5: [3, 6], 6: [7], 0: [1]}
    found = [sorted(cycle) for cycle in find_cycles(edges)]
    assert sorted(found) == [[1, 2], [3, 4, 5]]


def test_a_node_with_an_edge_to_itself_is_a_circle() -> None:
    assert find_cycle({"a": ["a"]}) == ["a"]


def test_half_a_million_jobs_in_a_chain_are_no_recursion() -> None:
    count = 500_000
    edges = {index: [index + 1] for index in range(count - 1)}
    assert find_cycle(edges) is None
    assert len(downstream([0], edges)) == count - 1
    edges[count - 1] = [0]
    assert len(find_cycle(edges) or ()) == count


@given(PAIRS)
def test_either_there_is_an_order_or_a_circle(pairs: list[tuple[int, int]]) -> None:
    edges = edges_from_pairs(pairs)
    cycle = find_cycle(edges)
    if cycle is None:
        order = topological_order(range(13), edges)
        position = {node: index for index, node in enumerate(order)}
        assert sorted(order) == list(range(13))
        assert all(position[before] < position[after] for before, after in pairs)
    else:
        around = [*cycle, cycle[0]]
        assert len(set(cycle)) == len(cycle)
        assert all(after in edges[before] for before, after in pairwise(around))


@given(PAIRS, st.integers(0, 12))
def test_downstream_is_the_transitive_closure(pairs: list[tuple[int, int]], start: int) -> None:
    reached: set[int] = set()
    grows = True
    while grows:
        more = {after for before, after in pairs if before == start or before in reached} - reached
        reached |= more
        grows = bool(more)
    found = downstream([start], edges_from_pairs(pairs))
    assert set(found) == reached
    assert len(found) == len(reached)
