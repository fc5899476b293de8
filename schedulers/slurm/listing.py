"""What squeue, sacct and scontrol print, as values. Formats that 22.05 to 26.05 share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lading.schedulers.slurm.pyslurm_child import spread

SQUEUE_FORMAT: Final = "%i|%F|%K|%T|%r|%L|%S|%N|%j"
"""A job's name may hold the separator, so it comes last."""
SACCT_FORMAT: Final = "JobID,State,ExitCode,End,NodeList"

_CLOCK: Final = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_SHARED: Final = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_PAIR: Final = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or one task of an array, as squeue or sacct shows it."""

    identity: str
    """`19`, or `19_3` for a task."""
    state: str
    """One word in capitals, without flags and explanations."""
    reason: str = ""
    left_seconds: float | None = None
    """Until the time limit; None where there is none, or before the start."""
    start: str = ""
    """ISO local time of the start, for a pending job the estimated one; empty when unknown."""
    nodes: str = ""
    exit_code: str = ""
    """`code:signal`; 0:0 also for jobs that Slurm ended."""
    name: str = ""
    earlier_states: tuple[str, ...] = ()
    """How each copy before this one ended, the oldest first, of a job that Slurm started again; known to the
    accounting alone."""

    @property
    def previous_state(self) -> str:
        """How the copy just before this one ended; empty when there was none."""
        return self.earlier_states[-1] if self.earlier_states else ""


def read_squeue(text: str) -> list[Job]:
    """Read the lines of `squeue -h -r -o SQUEUE_FORMAT`."""
    jobs = []
    for line in text.splitlines():
        fields = line.split("|", 8)
        if len(fields) != 9:
            continue
        shown, array, task, state, reason, left, start, nodes, name = (field.strip() for field in fields)
        identity = f"{array}_{task}" if task.isdigit() else shown
        jobs.append(
            Job(
                identity=identity,
                state=plain_state(state),
                reason="" if reason in {"None", "N/A", "(null)"} else reason,
                left_seconds=read_seconds(left),
                start=start if start[:4].isdigit() else "",
                nodes=nodes,
                name=name,
            )
        )
    return jobs


def read_sacct(text: str) -> list[Job]:
    """Read the lines of `sacct -D -X -n -P --format=SACCT_FORMAT`; of a requeued job the last row counts."""
    jobs: dict[str, Job] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) < 5:
            continue
        identity, state, exit_code, _, nodes = fields[:5]
        earlier = jobs.get(identity)
        jobs[identity] = Job(
            identity,
            plain_state(state),
            exit_code=exit_code,
            nodes=nodes,
            earlier_states=() if earlier is None else (*earlier.earlier_states, earlier.state),
        )
    for shared in [job for job in jobs.values() if job.state == "CANCELLED"]:
        for task in _tasks_of(shared.identity):
            # A task that ran has a row of its own, which the list of the others may still hold.
            jobs.setdefault(task, replace(shared, identity=task))
    return list(jobs.values())


def _tasks_of(identity: str) -> list[str]:
    """Name the tasks of a record that tasks share which never ran: `19_[1-3,7%2]`."""
    match = _SHARED.fullmatch(identity)
    if match is None:
        return []
    return [f"{match.group(1)}_{task}" for task in spread(match.group(2))]


def task_in(jobs: Mapping[str, Job], identity: str) -> Job | None:
    """Find a job or task; tasks that were canceled while they waited are one record under the array's number."""
    found = jobs.get(identity)
    number, is_task, _ = identity.partition("_")
    if found is None and is_task and (shared := jobs.get(number)) is not None and shared.state == "CANCELLED":
        return replace(shared, identity=identity)
    return found


def plain_state(text: str) -> str:
    """Return the state alone: `CANCELLED by 0` and `COMPLETED+` are decorated."""
    words = text.split()
    return words[0].rstrip("+*").upper() if words else ""


def read_seconds(text: str) -> float | None:
    """Read `[DAYS-][HOURS:]MINUTES:SECONDS`; None for words such as UNLIMITED and INVALID."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        # After a day the parts count from the hours: 1-0 is a day.
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 1:
        hours, minutes, seconds = 0, parts[0], 0
    else:
        hours, minutes, seconds = [0, *parts][-3:]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def read_pairs(line: str) -> dict[str, str]:
    """Read `Name=value` words of one `scontrol show -o` line whose values have no blanks."""
    return dict(_PAIR.findall(line))


def read_config(text: str) -> dict[str, str]:
    """Read the `Name = value` lines of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_node_sizes(text: str) -> list[tuple[int, int]]:
    """Read (CPUs, mebibytes) of the lines of `sinfo -h -N -o '%c|%m'`; a `+` stands for "at least"."""
    sizes = []
    for line in text.splitlines():
        cpus, _, memory = (part.strip().rstrip("+") for part in line.partition("|"))
        if cpus.isdigit() and memory.isdigit():
            sizes.append((int(cpus), int(memory)))
    return sizes


def leading_number(text: str, default: int) -> int:
    """Return the number that a value such as `300 sec` begins with."""
    match = re.match(r"\d+", text)
    return int(match.group()) if match else default


@dataclass(frozen=True, slots=True)
class Partition:
    """What a partition allows; None where it sets no bound."""

    name: str
    is_default: bool
    is_up: bool
    state: str
    max_seconds: float | None
    max_nodes: int | None
    total_nodes: int | None
    max_cpus_per_node: int | None
    allow_accounts: tuple[str, ...] | None
    deny_accounts: tuple[str, ...]
    allow_qos: tuple[str, ...] | None
    total_cpus: int | None = None
    memory_mebibytes: int | None = None
    """Of all its nodes together."""


def read_partitions(text: str) -> list[Partition]:
    """Read the lines of `scontrol show partition -o`."""
    return [_partition(pairs) for pairs in _records(text)]


def _records(text: str) -> Iterator[Mapping[str, str]]:
    for line in text.splitlines():
        pairs = read_pairs(line)
        if "PartitionName" in pairs:
            yield pairs


def _partition(pairs: Mapping[str, str]) -> Partition:
    def number(name: str) -> int | None:
        value = pairs.get(name, "")
        return int(value) if value.isdigit() else None

    def names(name: str) -> tuple[str, ...] | None:
        value = pairs.get(name, "ALL")
        return None if value in {"ALL", "", "N/A", "(null)"} else tuple(value.split(","))

    memory = re.search(r"(?:^|,)mem=([\d.]+)([KMGT]?)", pairs.get("TRES", ""))
    units = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
    return Partition(
        name=pairs["PartitionName"],
        is_default=pairs.get("Default") == "YES",
        is_up=pairs.get("State", "UP") == "UP",
        state=pairs.get("State", "UP"),
        max_seconds=read_seconds(pairs.get("MaxTime", "UNLIMITED")),
        max_nodes=number("MaxNodes"),
        total_nodes=number("TotalNodes"),
        max_cpus_per_node=number("MaxCPUsPerNode"),
        allow_accounts=names("AllowAccounts"),
        deny_accounts=names("DenyAccounts") or (),
        allow_qos=names("AllowQos"),
        total_cpus=number("TotalCPUs"),
        memory_mebibytes=None if memory is None else int(float(memory.group(1)) * units[memory.group(2)]),
    )
