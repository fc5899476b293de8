"""The jobs' processes: started, signalled, reaped. The guardian's one and only owner of children.

An attempt counts as ended when its first process is reaped *and* nothing that it left behind is alive:
that line is the server's proof that the job may run elsewhere.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lading.toolkit.runner import processes
from lading.toolkit.runner.completion import note_on_stderr
from lading.toolkit.runner.messages import Launch, RawEnd, Stop
from lading.toolkit.runner.spawn import SpawnError, spawn


@dataclass(slots=True)
class _Child:
    launch: Launch
    pid: int
    started_at: float
    stop: Stop | None = None
    end: RawEnd | None = None
    killed_at: float | None = None


class Nursery:
    """All jobs of one guardian. Not thread-safe: the guardian has one thread."""

    def __init__(self, environment: Mapping[str, str], *, not_jobs: Callable[[], set[int]]) -> None:
        """`environment` is every job's base; `not_jobs` names our children that are no jobs."""
        self._environment = dict(environment)
        self._not_jobs = not_jobs
        self._null = os.open(os.devnull, os.O_RDWR)
        self._by_pid: dict[int, _Child] = {}
        self._by_attempt: dict[str, _Child] = {}
        self._lingering: dict[str, _Child] = {}
        self._owners: dict[int, str] = {}
        self.exits: dict[int, int] = {}
        """Children that are no jobs -> wait status, when they have ended."""

    def __len__(self) -> int:
        return len(self._by_attempt)

    def attempts(self) -> list[str]:
        """Name the attempts that are not over."""
        return list(self._by_attempt)

    def launch(self, launch: Launch) -> int | RawEnd:
        """Start a job: its process id, or its end if the command cannot be started."""
        now = _boottime()
        attempt = launch["id"]
        marks = {processes.ATTEMPT_MARK: attempt}
        # Ours come last: a job that sets them in its environment would hide from us.
        fenced: Launch = {**launch, "env": {**launch["env"], **self._marks(), **marks}}
        try:
            pid = spawn(fenced, self._environment, self._null)
        except SpawnError as error:
            note_on_stderr(launch, error.message)
            return {
                "id": attempt, "code": error.code, "exec": 0.0, "at": now, "cpu": 0.0, "rss": 0,
                "stop": None, "failure": error.message, "infrastructure": error.infrastructure,
            }  # fmt: skip
        child = _Child(launch, pid, now)
        self._by_pid[pid] = self._by_attempt[attempt] = child
        return pid

    def kill(self, attempts: Iterable[str], number: int, stop: Stop | None) -> None:
        """Signal jobs: their process group, with SIGKILL also every descendant."""
        roots = []
        for attempt in attempts:
            child = self._by_attempt.get(attempt)
            if child is None or child.end is not None:
                continue
            if child.stop is None:
                child.stop = stop
            # The leader is not reaped yet, so its id cannot have been given to another process.
            processes.send_group_signal(child.pid, number)
            if number == signal.SIGKILL:
                child.killed_at = child.killed_at or _boottime()
                roots.append(child.pid)
        if roots:
            processes.send_signal(processes.tree_of(roots, processes.read_all()), signal.SIGKILL)

    def kill_all(self, stop: Stop) -> None:
        """KILL every job and whatever any of them has left behind."""
        self.kill(list(self._by_attempt), signal.SIGKILL, stop)
        strangers = processes.children_of_self() - self._not_jobs()
        if strangers:
            table = processes.read_all()
            processes.send_signal(processes.tree_of(strangers, table), signal.SIGKILL)
        for name, value in self._marks().items():
            if name == processes.GUARDIAN_MARK:
                spared = self._not_jobs()
                # Reached through another daemon, so no descendant of ours, but marked as ours.
                processes.send_signal(
                    (pid for pid in processes.marked(name, value) if pid not in spared), signal.SIGKILL
                )

    def reap(self) -> list[RawEnd]:
        """Collect the children that have ended; return the attempts that are over."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._owners.pop(pid, None)
            child = self._by_pid.pop(pid, None)
            if child is None:
                if pid in self._not_jobs():
                    self.exits[pid] = status
                continue
            now = _boottime()
            child.end = {
                "id": child.launch["id"],
                "code": os.waitstatus_to_exitcode(status),
                "exec": now - child.started_at,
                "at": now,
                "cpu": usage.ru_utime + usage.ru_stime,
                "rss": usage.ru_maxrss * 1024,
                "stop": child.stop,
                "failure": "",
                "infrastructure": False,
            }
            self._lingering[child.launch["id"]] = child
        return self._settle() if self._lingering else []

    def stuck(self, after_seconds: float) -> dict[str, int]:
        """Return attempt -> process id of those that were sent KILL that long ago and are not gone."""
        limit = _boottime() - after_seconds
        return {
            attempt: child.pid
            for attempt, child in self._by_attempt.items()
            if child.killed_at is not None and child.killed_at < limit
        }

    def _marks(self) -> dict[str, str]:
        return {name: self._environment[name] for name in processes.MARKS if name in self._environment}

    def _settle(self) -> list[RawEnd]:
        """End the attempts of which nothing is left; KILL what the others left behind.

        Whatever a job leaves behind is our child by now: orphans are handed to the subreaper before
        their parent can be reaped. So usually one short read shows that there is nothing.
        """
        strangers = processes.children_of_self() - self._by_pid.keys() - self._not_jobs()
        blocked: set[str] = set()
        for pid in strangers:
            owner = self._owner(pid)
            if owner is None and not self._by_pid:
                # It shed session and environment; with no job running it can be nobody's but theirs.
                blocked |= self._lingering.keys()
            elif owner in self._lingering:
                blocked.add(owner)
            else:
                continue
            processes.send_signal([pid], signal.SIGKILL)
        over = [child for attempt, child in self._lingering.items() if attempt not in blocked]
        for attempt in blocked:
            child = self._lingering[attempt]
            child.killed_at = child.killed_at or _boottime()
        ends = []
        for child in over:
            attempt = child.launch["id"]
            del self._lingering[attempt], self._by_attempt[attempt]
            if child.end is not None:
                ends.append(child.end)
        return ends

    def _owner(self, pid: int) -> str | None:
        """Tell which attempt left this process behind: by its session, else by its mark."""
        known = self._owners.get(pid)
        if known is not None:
            return known
        line = processes.read_process(pid)
        if line is None:
            return None
        sessions = {child.pid: attempt for attempt, child in self._by_attempt.items()}
        owner = sessions.get(line.session) or processes.environment_of(pid).get(processes.ATTEMPT_MARK)
        if owner is not None:
            # Kept, because a zombie has no environment left to tell.
            self._owners[pid] = owner
        return owner


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
