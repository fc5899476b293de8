"""What the runner does when its guardian is dead: end everything that the guardian had started."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lading.toolkit.runner import processes

_PATIENCE_SECONDS = 10.0
_START_TOLERANCE_SECONDS = 1.0


def kill_all(guardian: str, known: Mapping[str, tuple[int, float]]) -> dict[str, int]:
    """KILL a dead guardian's jobs; return attempt -> process id of those that would not die.

    `known` is attempt -> (process id, start on CLOCK_BOOTTIME). Jobs are found by their mark, by their
    sessions, and by descent from either.
    """
    ticks = os.sysconf("SC_CLK_TCK")

    def find() -> set[int]:
        table = processes.read_all()
        roots = set(processes.marked(processes.GUARDIAN_MARK, guardian))
        for pid, started_at in known.values():
            line = table.get(pid)
            # A process id that has been given to somebody else's process has another start.
            if line is None or abs(line.start_ticks / ticks - started_at) < _START_TOLERANCE_SECONDS:
                roots.add(pid)
        found = processes.tree_of(roots, table) - {os.getpid()}
        return {pid for pid in found if table[pid].alive}

    remaining = processes.kill_until_gone(find, _PATIENCE_SECONDS)
    owners = {pid: attempt for attempt, (pid, _) in known.items()}
    stuck: dict[str, int] = {}
    for pid in remaining:
        line = processes.read_process(pid)
        mark = processes.environment_of(pid).get(processes.ATTEMPT_MARK)
        attempt = owners.get(pid) or (owners.get(line.session) if line else None) or mark
        stuck[attempt or f"process-{pid}"] = pid
    return stuck
