"""What /proc says about processes: who descends from whom, who carries whose mark, who is gone.

Every reader here expects that a process ends between two system calls.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from lading.toolkit.private_files import boot_id, process_start_ticks

GUARDIAN_MARK = "LADING_GUARDIAN"
RUNNER_MARK = "LADING_RUNNER"
ALLOCATION_MARK = "LADING_ALLOCATION"
ATTEMPT_MARK = "LADING_ATTEMPT_ID"
MARKS = (GUARDIAN_MARK, RUNNER_MARK, ALLOCATION_MARK, ATTEMPT_MARK)


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """The fields of /proc/PID/stat that are used here."""

    pid: int
    state: str
    parent: int
    session: int
    cpu_ticks: int
    resident_pages: int
    start_ticks: int
    """Since boot."""

    @property
    def alive(self) -> bool:
        """False for a zombie: it runs nothing any more, its parent only has not looked."""
        return self.state not in {"Z", "X", "x"}


def read_process(pid: int) -> ProcessLine | None:
    """Read one process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123 - read thousands of times
            content = stream.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name is in parentheses and may itself hold spaces and parentheses.
    fields = content[content.rindex(b")") + 2 :].split()
    return ProcessLine(
        pid=pid,
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        resident_pages=int(fields[21]),
        start_ticks=int(fields[19]),
    )


def process_ids() -> list[int]:
    """List the processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def read_all() -> dict[int, ProcessLine]:
    """Read every process in one pass."""
    return {line.pid: line for pid in process_ids() if (line := read_process(pid)) is not None}


def children_of_self() -> set[int]:
    """Return the process ids of this process's children, zombies included."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as stream:  # noqa: PTH123 - hot
            return {int(word) for word in stream.read().split()}
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return {line.pid for line in read_all().values() if line.parent == own}


def tree_of(roots: Collection[int], table: Mapping[int, ProcessLine]) -> set[int]:
    """Return the roots, their descendants, and whoever shares a session with a root."""
    offspring: dict[int, list[int]] = {}
    for line in table.values():
        offspring.setdefault(line.parent, []).append(line.pid)
    heads = set(roots)
    pending = [line.pid for line in table.values() if line.pid in heads or line.session in heads]
    found: set[int] = set()
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending.extend(offspring.get(pid, ()))
    return found


def environment_of(pid: int) -> dict[str, str]:
    """Return our marks in a process's environment as it was when the program started."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123 - whole-machine scans
            content = stream.read()
    except OSError:
        return {}
    if b"LADING_" not in content:
        return {}
    marks: dict[str, str] = {}
    for entry in content.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name.startswith(b"LADING_"):
            text = name.decode("utf-8", "replace")
            if text in MARKS:
                marks.setdefault(text, value.decode("utf-8", "replace"))
    return marks


def marked(name: str, value: str) -> Iterator[int]:
    """Yield the living processes of this user, except ourselves, that carry exactly this mark."""
    own = os.getpid()
    for pid in process_ids():
        if pid != own and environment_of(pid).get(name) == value:
            line = read_process(pid)
            if line is not None and line.alive:
                yield pid


def send_signal(pids: Iterable[int], number: int) -> None:
    """Signal processes; one that is gone, or that is another user's, is no error."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group_signal(group: int, number: int) -> None:
    """Signal a process group; an empty one is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_until_gone(find: Callable[[], Collection[int]], timeout_seconds: float) -> list[int]:
    """KILL what `find` returns until it returns nothing; return what would not die in that time."""
    limit = time.monotonic() + timeout_seconds
    pause = 0.001
    while True:
        # Found anew in each round: what forked while it was being killed has a new process id.
        remaining = find()
        if not remaining:
            return []
        send_signal(remaining, signal.SIGKILL)
        if time.monotonic() > limit:
            return sorted(remaining)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def identity(pid: int) -> str:
    """Name a process so that a reused process id is never taken for it: `pid:start:boot`."""
    return f"{pid}:{process_start_ticks(pid) or 0}:{boot_id()}"


def is_alive(name: str, this_boot: str) -> bool:
    """Tell whether the process that `identity` named still runs here."""
    pid, _, rest = name.partition(":")
    ticks, _, boot = rest.partition(":")
    if boot != this_boot or not pid.isdigit() or not ticks.isdigit():
        return False
    return process_start_ticks(int(pid)) == int(ticks)


def sweep_orphans(timeout_seconds: float = 10.0) -> tuple[int, list[int]]:
    """KILL jobs whose guardian and runner are both dead.

    Returns how many were found and which of them would not die. They are what is left when both
    processes of a node were killed at once: nobody else would ever end or report them.
    """
    this_boot = boot_id()
    verdicts: dict[str, bool] = {}

    def lives(name: str) -> bool:
        if name not in verdicts:
            verdicts[name] = is_alive(name, this_boot)
        return verdicts[name]

    spared = {os.getpid(), os.getppid()}
    found: set[int] = set()

    def orphans() -> list[int]:
        result = []
        for pid in process_ids():
            if pid in spared:
                continue
            marks = environment_of(pid)
            keepers = [marks[name] for name in (GUARDIAN_MARK, RUNNER_MARK) if name in marks]
            if ALLOCATION_MARK not in marks or len(keepers) != 2 or any(map(lives, keepers)):
                continue
            line = read_process(pid)
            if line is not None and line.alive:
                result.append(pid)
        found.update(result)
        return result

    remaining = kill_until_gone(orphans, timeout_seconds)
    return len(found), remaining
