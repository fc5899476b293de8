"""A node that does what a test tells it, one request at a time."""

from __future__ import annotations

from typing import Any

from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec, Report
from tests.engine.operations import UNLIMITED, SyncAnswer, SyncCall

LARGE = Ask(cpus=64, memory=2**36)
FAILED = Report(return_code=3)


class Worker:
    """A compute node of ours."""

    def __init__(self, engine: Engine, name: str = "n", shape: Ask = LARGE, **registration: Any) -> None:
        engine.register(name, shape, **registration)
        self.engine, self.name, self.shape = engine, name, shape
        self.handles: dict[str, str] = {}
        """Job -> what its latest attempt here is called."""
        self.held: set[str] = set()

    def sync(self, **call: Any) -> SyncAnswer:
        """Send a request that holds what this node believes to have."""
        over = {handle for handle, _ in call.get("ended", ())} | set(call.get("returned", ()))
        call.setdefault("held", tuple(sorted(self.held - over)))
        answer = self.engine.sync(self.name, SyncCall(**call))
        self.held -= answer.acknowledged
        for handle in (*answer.new, *answer.again):
            self.handles[handle.partition("/")[0]] = handle
            self.held.add(handle)
        return answer

    def claim(self, most: int = UNLIMITED) -> list[str]:
        """Claim what fits; return the names of the jobs in the order of the answer."""
        return [handle.partition("/")[0] for handle in self.sync(free=self.shape, max_jobs=most).new]

    def start(self, *jobs: str) -> SyncAnswer:
        return self.sync(started=tuple(self.handles[job] for job in jobs))

    def end(self, *jobs: str, report: Report | None = None) -> SyncAnswer:
        return self.sync(ended=tuple((self.handles[job], report or Report()) for job in jobs))

    def give_back(self, *jobs: str) -> SyncAnswer:
        return self.sync(returned=tuple(self.handles[job] for job in jobs))


def add_graph(engine: Engine, *specs: JobSpec) -> None:
    """Add jobs one after the other, so that each may name those before it."""
    for spec in specs:
        engine.add_jobs([spec])
