"""Who waits for what: nodes for jobs or orders, people for progress, the submitter for demand.

No database here and no timers: a waiter registers *before* it looks, so that what happens between
its look and its wait still wakes it. A commit wakes only as many nodes as jobs became ready.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from lading.api.storage.statements import Effects
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS

TokensChanged = Callable[[], None]
_Answer = TypeVar("_Answer")

EVERYTHING = -1
"""Stands for every workflow: after a lost connection to the database's notifications."""


@dataclass(eq=False, slots=True)
class NodeWaiter:
    """One open `sync` that waits."""

    workflow_id: int
    compute_node_id: int
    claims: bool
    """It would take jobs; otherwise only orders wake it."""
    event: asyncio.Event = field(default_factory=asyncio.Event)


class Wakeups:
    def __init__(self, longest_wait_seconds: float = MAXIMUM_WAIT_SECONDS) -> None:
        self.longest_wait_seconds = longest_wait_seconds
        """However long a caller would wait: a proxy between may end connections that are silent for longer."""
        self._nodes: dict[int, OrderedDict[NodeWaiter, None]] = defaultdict(OrderedDict)
        self._by_node: dict[int, NodeWaiter] = {}
        self._progress: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._submitters: set[asyncio.Event] = set()
        self._token_listeners: list[TokensChanged] = []
        self.newest: dict[int, int] = {}
        """Compute node -> the highest `seq` that has arrived from it."""
        self.closed = False
        """The server stops: everybody answers with what there is."""

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        self.wake_all()

    def publish(self, effects: Effects) -> None:
        """Hear what a committed use case changed."""
        if EVERYTHING in effects.events:
            self.wake_all()
            return
        for workflow_id, number in effects.ready.items():
            self._wake_claimants(workflow_id, number)
        for workflow_id in effects.finished:
            for waiter in list(self._nodes.get(workflow_id, ())):
                waiter.event.set()
        for compute_node_id in effects.nodes:
            if (addressed := self._by_node.get(compute_node_id)) is not None:
                addressed.event.set()
        for workflow_id in effects.events | effects.finished:
            for event in self._progress.get(workflow_id, ()):
                event.set()
        if effects.demand:
            for event in self._submitters:
                event.set()
        if effects.tokens:
            for listener in self._token_listeners:
                listener()

    def wake_all(self) -> None:
        """Let everybody look again."""
        for waiters in self._nodes.values():
            for waiter in waiters:
                waiter.event.set()
        for events in self._progress.values():
            for event in events:
                event.set()
        for event in self._submitters:
            event.set()
        for listener in self._token_listeners:
            listener()

    def _wake_claimants(self, workflow_id: int, number: int) -> None:
        waiters = self._nodes.get(workflow_id)
        if not waiters:
            return
        # Each woken node takes what fits it and, if jobs remain, its own commit wakes the next one:
        # so waking one per ready job is enough, and longest waiting comes first.
        left = number
        for waiter in list(waiters):
            if left <= 0:
                break
            if waiter.claims and not waiter.event.is_set():
                waiter.event.set()
                left -= 1

    def wake_next_claimant(self, workflow_id: int, but: int) -> None:
        """Pass a wake-up on: its receiver could not use it, or left jobs behind."""
        for waiter in self._nodes.get(workflow_id, ()):
            if waiter.claims and waiter.compute_node_id != but and not waiter.event.is_set():
                waiter.event.set()
                return

    @contextmanager
    def node(self, workflow_id: int, compute_node_id: int, *, claims: bool) -> Iterator[asyncio.Event]:
        """Register a `sync` that may wait; an older one of the same node is woken and ends."""
        if (older := self._by_node.get(compute_node_id)) is not None:
            older.event.set()
        waiter = NodeWaiter(workflow_id, compute_node_id, claims)
        self._by_node[compute_node_id] = waiter
        self._nodes[workflow_id][waiter] = None
        try:
            yield waiter.event
        finally:
            self._nodes[workflow_id].pop(waiter, None)
            if not self._nodes[workflow_id]:
                del self._nodes[workflow_id]
            if self._by_node.get(compute_node_id) is waiter:
                del self._by_node[compute_node_id]

    @contextmanager
    def progress(self, workflow_id: int) -> Iterator[asyncio.Event]:
        """Register for every event of a workflow (progress calls, event streams)."""
        event = asyncio.Event()
        self._progress[workflow_id].add(event)
        try:
            yield event
        finally:
            self._progress[workflow_id].discard(event)
            if not self._progress[workflow_id]:
                del self._progress[workflow_id]

    @contextmanager
    def submitter(self) -> Iterator[asyncio.Event]:
        """Register for demand."""
        event = asyncio.Event()
        self._submitters.add(event)
        try:
            yield event
        finally:
            self._submitters.discard(event)

    def on_tokens_changed(self, listener: TokensChanged) -> None:
        """Name a function that forgets cached principals."""
        self._token_listeners.append(listener)


async def look_until_news(
    wakeups: Wakeups,
    woken: asyncio.Event,
    seconds: float,
    look: Callable[[], Awaitable[_Answer]],
    has_news: Callable[[_Answer], bool],
) -> _Answer:
    """Look, and look again whenever woken, until there is news or the time, or the longest wait, is over.

    The caller has registered `woken` before, so nothing that happens between a look and the wait
    after it is missed. No transaction is open while it waits.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + min(seconds, wakeups.longest_wait_seconds)
    while True:
        woken.clear()
        answer = await look()
        left = end - loop.time()
        if wakeups.closed or left <= 0 or has_news(answer):
            return answer
        try:
            async with asyncio.timeout(left):
                await woken.wait()
        except TimeoutError:
            return answer
