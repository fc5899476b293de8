"""The one program that imports pyslurm: it answers a line of JSON for each that it is given, until its input ends.

A process of its own, because pyslurm is GPL-2.0, ends the whole process where it finds no configuration, and
holds the interpreter's lock during every call. It needs nothing but the standard library and pyslurm, so that
it can run under whatever Python a site has built pyslurm for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

_WHOLE_LISTS: Final = "SLURM_BITSTR_LEN"
"""Without it, set to 0, lists of tasks are cut short after 64 letters."""
_ROUNDS: Final = 3
_MOST_COPIES: Final = 50
_HISTORY_SECONDS: Final = 400 * 86_400
"""By default the accounting's window begins today: what ended before would seem never to have been."""
_OVER: Final = frozenset(
    {
        "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
        "OUT_OF_MEMORY", "REVOKED",
    }
)  # fmt: skip
"""Not COMPLETING: a job that was requeued meanwhile starts again."""


class Slurm:
    """pyslurm's answers as plain values. Each public method can be asked for by its name."""

    def __init__(self, pyslurm: Any) -> None:
        self._pyslurm = pyslurm

    def version(self) -> str:
        """Return pyslurm's own version."""
        return str(self._pyslurm.__version__)

    def site(self) -> dict[str, Any]:
        """Return what the controller's configuration says."""
        config = self._pyslurm.slurmctld.Config.load()
        return {
            "cluster": config.cluster_name,
            "minimum_age_seconds": config.min_job_age,
            "largest_array": config.max_array_size,
            "version": config.version,
            "accounting": config.accounting_storage_type,
        }

    def partitions(self) -> list[dict[str, Any]]:
        """Return what each partition allows."""
        return [
            {
                "name": partition.name,
                "is_default": bool(partition.is_default),
                "state": partition.state,
                "max_minutes": _number(partition.max_time),
                "max_nodes": _number(partition.max_nodes),
                "total_nodes": _number(partition.total_nodes),
                "total_cpus": _number(partition.total_cpus),
                "max_cpus_per_node": _number(partition.max_cpus_per_node),
                "allow_accounts": _names(partition.allowed_accounts),
                "deny_accounts": _names(partition.denied_accounts),
                "allow_qos": _names(partition.allowed_qos),
            }
            for partition in self._pyslurm.Partitions.load().values()
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """Return the size of each node."""
        return [
            {"cpus": node.total_cpus, "mebibytes": node.real_memory, "partitions": _list(node.partitions)}
            for node in self._pyslurm.Nodes.load().values()
        ]

    def jobs(self, uid: int) -> list[dict[str, Any]]:
        """Return a user's jobs; the tasks of an array that wait are one record."""
        return [_queued(job) for job in self._pyslurm.Jobs.load().values() if job.user_id == uid]

    def records(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return what the accounting knows of jobs and arrays, with how their earlier copies ended."""
        found = []
        for job in self._recorded(ids=list(numbers)):
            if job.array_tasks_waiting and job.state == "PENDING":
                # The record of tasks that wait lags behind: some run already, or were canceled.
                continue
            record = _recorded(job)
            if job.requeue_count:
                record["earlier_states"] = self._earlier_states(job)
            found.append(record)
        return found

    def records_named(self, name: str, uid: int) -> list[dict[str, Any]]:
        """Return what the accounting knows of a user's jobs of that name."""
        return [_recorded(job) for job in self._recorded(names=[name], users=[uid])]

    def submit(self, fields: Mapping[str, Any]) -> int:
        """Submit a job; return its number."""
        # Jobs get every SLURM_* of this process.
        os.environ.pop(_WHOLE_LISTS, None)
        return int(self._pyslurm.JobSubmitDescription(**fields).submit())

    def cancel(self, jobs: Sequence[str]) -> list[str]:
        """End jobs; return the tasks that cannot be ended alone, for they share a record with others."""
        return self._end(jobs, lambda state: state not in _OVER)

    def take_back(self, jobs: Sequence[str]) -> list[str]:
        """End those that wait. Between the look and the call one may start: it is ended then all the same."""
        return self._end(jobs, lambda state: state == "PENDING")

    def _end(self, jobs: Sequence[str], is_meant: Callable[[str], bool]) -> list[str]:
        wanted = set(jobs)
        shared: list[str] = []
        for _ in range(_ROUNDS):
            # Again: while a record of several was ended, one of them may have got a record of its own.
            whole, shared = self._matching(wanted, is_meant)
            for number in whole:
                self._pyslurm.Job(number).cancel()
            if not whole:
                break
        return shared

    def _matching(
        self, wanted: Collection[str], is_meant: Callable[[str], bool]
    ) -> tuple[list[int], list[str]]:
        """Return the records to end as a whole, and the wanted tasks of records that hold others, too."""
        whole, shared = [], []
        for job in self._pyslurm.Jobs.load().values():
            if not is_meant(job.state):
                continue
            names = _names_of(job)
            asked = [name for name in names if name in wanted]
            if asked and len(asked) == len(names):
                whole.append(int(job.id))
            else:
                shared += asked
        return whole, shared

    def _recorded(self, **selection: Any) -> list[Any]:
        selection.setdefault("start_time", int(time.time()) - _HISTORY_SECONDS)
        chosen = self._pyslurm.db.JobFilter(**selection)
        return list(self._pyslurm.db.Jobs.load(chosen).values())

    def _earlier_states(self, job: Any) -> list[str]:
        """Ask for the copy before, until there is none: an answer holds the latest copy of its window alone."""
        states: list[str] = []
        before = job.submit_time
        while before and len(states) < _MOST_COPIES:
            copies = [
                copy
                for copy in self._recorded(ids=[job.id], end_time=int(before))
                if copy.id == job.id and copy.submit_time < before
            ]
            if not copies:
                break
            states.insert(0, copies[0].state)
            before = copies[0].submit_time
        return states


def _queued(job: Any) -> dict[str, Any]:
    limit, end = _number(job.time_limit), _number(job.end_time)
    has_end = limit is not None and end is not None and job.state != "PENDING"
    return {
        **_identity(job),
        "state": job.state,
        "reason": job.state_reason,
        "left_seconds": max(0, end - int(time.time())) if has_end and end is not None else None,
        "start": _local(job.start_time),
        "nodes": job.allocated_nodes,
        "exit_code": _exit_code(job),
        "name": job.name,
    }


def _recorded(job: Any) -> dict[str, Any]:
    return {
        **_identity(job),
        "state": job.state,
        "nodes": job.nodelist,
        "exit_code": _exit_code(job),
        "name": job.name,
        "earlier_states": [],
    }


def _identity(job: Any) -> dict[str, Any]:
    tasks: list[int] = []
    if job.array_task_id is not None:
        tasks = [job.array_task_id]
    elif job.array_tasks_waiting:
        tasks = list(spread(job.array_tasks_waiting))
    elif job.array_id and job.array_id != job.id:
        # So pyslurm shows task 0. A record that has the array's number is that of tasks which were canceled.
        tasks = [0]
    return {"number": job.id, "array": job.array_id, "tasks": tasks}


def _names_of(job: Any) -> list[str]:
    identity = _identity(job)
    if not identity["tasks"]:
        return [str(identity["number"])]
    return [f"{identity['array']}_{task}" for task in identity["tasks"]]


def spread(text: str | None) -> Iterator[int]:
    """Give each number of a list such as `1-3,7,10-20:5`, or of a set of bits, as the accounting keeps it."""
    if text and text.startswith("0x"):
        bits = int(text, 16)
        yield from (number for number in range(bits.bit_length()) if bits >> number & 1)
        return
    for part in (text or "").split(","):
        span, _, step = part.strip().partition(":")
        first, _, last = span.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def _exit_code(job: Any) -> str:
    return f"{job.exit_code or 0}:{job.exit_code_signal or 0}"


def _local(seconds: Any) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) if isinstance(seconds, int) else ""


def _number(value: Any) -> int | None:
    """Return a number; None for words such as UNLIMITED."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split(",")
    return [str(item) for item in value or ()]


def _names(value: Any) -> list[str] | None:
    names = _list(value)
    return None if not names or names == ["ALL"] else names


def main() -> None:
    """Serve."""
    # libslurm prints as it likes: what it prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ["PYSLURM_DISABLE_AUTO_INIT"] = "1"
    os.environ[_WHOLE_LISTS] = "0"
    import pyslurm

    pyslurm.slurm_init()
    _serve(Slurm(pyslurm), pyslurm.PyslurmError, sys.stdin, answers)


def _serve(slurm: Slurm, refusal: type[Exception], asked: TextIO, answers: TextIO) -> None:
    for line in asked:
        question = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"result": getattr(slurm, question["call"])(**question["arguments"])}
        except refusal as error:
            answer = {"number": getattr(error, "errno", None), "error": str(error)}
        except (AttributeError, TypeError, ValueError) as error:
            # So it refuses fields, and values that it does not take.
            answer = {"number": None, "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps({"id": question["id"], **answer}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
