"""Graphs of jobs: who waits for whom, in which order, and where a circle is.

All functions are linear in nodes and edges and use no recursion: a chain of 500 000 jobs is a graph
like any other. Keys are whatever the caller has: names, integers, rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from lading.toolkit.errors import BadInput

Key = TypeVar("Key", bound=Hashable)
Artifact = TypeVar("Artifact", bound=Hashable)


def blocking_pairs(
    produced: Iterable[tuple[Key, Artifact]], needed: Iterable[tuple[Key, Artifact]]
) -> Iterator[tuple[Key, Key]]:
    """Yield each pair (blocker, blocked) once, where the blocked job needs what the blocker produces.

    Artifacts are files or user data. A job that needs what it produces itself gives no pair: the
    border refuses it, and an edge from a job to itself would block it for ever.
    """
    producers: dict[Artifact, list[Key]] = {}
    for job, artifact in produced:
        producers.setdefault(artifact, []).append(job)
    blockers_of: dict[Key, set[Key]] = {}
    for job, artifact in needed:
        for producer in producers.get(artifact, ()):
            known = blockers_of.setdefault(job, set())
            if producer != job and producer not in known:
                known.add(producer)
                yield producer, job


def edges_from_pairs(pairs: Iterable[tuple[Key, Key]]) -> dict[Key, list[Key]]:
    """Return pairs (blocker, blocked) as a mapping from each blocker to what it blocks."""
    edges: dict[Key, list[Key]] = {}
    for blocker, blocked in pairs:
        edges.setdefault(blocker, []).append(blocked)
    return edges


def downstream(keys: Iterable[Key], edges: Mapping[Key, Iterable[Key]]) -> list[Key]:
    """Return every node reachable from the keys, each once, nearest first.

    A key itself is in the answer only if another key, or a circle, leads to it.
    """
    reached: dict[Key, None] = {}
    queue = deque(dict.fromkeys(keys))
    expanded = set(queue)
    while queue:
        for following in edges.get(queue.popleft(), ()):
            reached.setdefault(following, None)
            if following not in expanded:
                expanded.add(following)
                queue.append(following)
    return list(reached)


def topological_order(nodes: Iterable[Key], edges: Mapping[Key, Iterable[Key]]) -> list[Key]:
    """Return the nodes with every blocker before what it blocks, else in the order given.

    Raise BadInput that names a circle if there is no such order.
    """
    order, blocked = _peel(nodes, edges)
    if blocked:
        cycle = next(_cycles_among(blocked, edges))
        raise BadInput(f"There is a dependency cycle: {' → '.join(str(key) for key in (*cycle, cycle[0]))}.")
    return order


def find_cycle(edges: Mapping[Key, Iterable[Key]]) -> list[Key] | None:
    """Return the nodes of one circle in the order of its edges, or None if there is no circle."""
    return next(find_cycles(edges), None)


def find_cycles(edges: Mapping[Key, Iterable[Key]]) -> Iterator[list[Key]]:
    """Yield circles that share no node, at least one if there are any.

    Not all circles: a graph can have more of them than atoms are in the world.
    """
    _, blocked = _peel(edges, edges)
    if blocked:
        yield from _cycles_among(blocked, edges)


def _peel(nodes: Iterable[Key], edges: Mapping[Key, Iterable[Key]]) -> tuple[list[Key], set[Key]]:
    """Take off nodes without blockers until none is left; return them, and those that stay blocked."""
    blockers: dict[Key, int] = dict.fromkeys(nodes, 0)
    for followers in edges.values():
        for follower in followers:
            blockers[follower] = blockers.get(follower, 0) + 1
    for node in edges:
        blockers.setdefault(node, 0)
    order = [node for node, count in blockers.items() if count == 0]
    # The list grows while it is walked: what becomes free is walked later.
    for node in order:
        for follower in edges.get(node, ()):
            blockers[follower] -= 1
            if blockers[follower] == 0:
                order.append(follower)
    return order, {node for node, count in blockers.items() if count > 0}


def _cycles_among(blocked: set[Key], edges: Mapping[Key, Iterable[Key]]) -> Iterator[list[Key]]:
    """Walk against the edges: every node here has a blocker here, so each walk ends in a circle."""
    blocker_of: dict[Key, Key] = {}
    for node, followers in edges.items():
        if node in blocked:
            for follower in followers:
                if follower in blocked:
                    blocker_of.setdefault(follower, node)
    walk_of: dict[Key, int] = {}
    for number, start in enumerate(blocker_of):
        node = start
        walk: list[Key] = []
        while node not in walk_of:
            walk_of[node] = number
            walk.append(node)
            node = blocker_of[node]
        if walk_of[node] == number:
            yield walk[walk.index(node) :][::-1]
