"""What Slurm's error texts mean: weather, no room for this user now, or a request that never fits."""

from __future__ import annotations

import re
from typing import Final

from lading.toolkit.errors import BackendError, CapacityError, PermanentError, TransientError

_WEATHER: Final = (
    "unable to contact", "socket timed out", "transport endpoint", "zero bytes were transmitted",
    "standby mode", "unexpected message received", "connection refused", "connection reset",
    "connect failure", "connection timed out", "communication", "resource temporarily unavailable",
    "protocol authentication error", "munge", "temporarily unable to accept job", "try again",
    "error writing script", "slurm_persist_conn", "database connection", "unable to connect to database",
    "getting response from slurmdbd", "too many rpcs", "rate limit",
)  # fmt: skip
_WEATHER_NUMBERS: Final = (range(1000, 2000), range(5000, 5100), range(7000, 7010))
"""No talk with the controller, its protocol, the accounting's connection. Which of them came after the
request had arrived, nobody knows."""
_NO_CLUSTER: Final = (
    "could not establish a configuration source", "unable to process configuration", "fetch_config: dns srv",
    "unable to process slurm.conf", "slurm.conf file does not exist", "no such file or directory, exiting",
)  # fmt: skip
# Of a user, account or QOS: how many jobs, not what one job asks for. Room comes when others end.
_LIMIT_OF_JOBS: Final = re.compile(r"(assoc|qos)[a-z]*(submit|grp)[a-z]*limit", re.IGNORECASE)
_LIMIT_OF_ONE: Final = re.compile(r"((?:assoc|qos)[a-z]*(?:per|max)[a-z]*limit)", re.IGNORECASE)
_ROOM: Final = (
    "job submit limit", "maxjobcount", "maximum number of jobs", "requested nodes are busy",
    "job violates accounting/qos policy",
)  # fmt: skip
# First match wins: "Invalid account or account/partition combination" is about the account.
_FIELDS: Final = (
    (("invalid account",), "account"),
    (("invalid qos", "invalid quality of service"), "qos"),
    (("wall", "time limit", "--time "), "walltime"),
    (("generic resource", "gres"), "gres"),
    (("memory", "--mem "), "mem"),
    (("node configuration",), "nodes, cpus, mem, gres, constraint or tmp"),
    (("reservation",), "reservation"),
    (("feature specification", "constraint"), "constraint"),
    (("invalid node name", "node list"), "exclude"),
    (("node count", "too many nodes"), "nodes"),
    (("task count", "--ntasks"), "ntasks_per_node"),
    (("processors", "cpu count", "cpus-per-task"), "cpus"),
    (("partition",), "partition"),
    (("--tmp",), "tmp"),
    (("array",), "array"),
    (("unrecognized option", "invalid option", "ambiguous"), "extra"),
)  # fmt: skip


def error_of(program: str, output: str) -> BackendError:
    """Return the error that a program's last words stand for, with these words quoted."""
    quoted = _quotable(output)
    text = quoted.lower()
    if any(word in text for word in _NO_CLUSTER):
        return PermanentError(
            f"{program} finds no cluster here, neither by SLURM_CONF nor in /etc/slurm/slurm.conf: {quoted!r}."
        )
    if any(word in text for word in _WEATHER):
        return TransientError(f"{program}: {quoted!r}.")
    if _LIMIT_OF_JOBS.search(text):
        return CapacityError(_full(quoted), fewer_may_fit=True)
    limit = _LIMIT_OF_ONE.search(text)
    if limit is None and any(word in text for word in _ROOM):
        return CapacityError(_full(quoted), fewer_may_fit=True)
    field = _field_of(text if limit is None else limit.group(1))
    if field is None:
        return PermanentError(f"Slurm refuses the request: {quoted!r}.")
    return PermanentError(f"{field}: Slurm refuses the request: {quoted!r}.")


def error_of_number(number: int | None, text: str) -> BackendError:
    """Return the error that a number of Slurm's own, from its library, and its text stand for."""
    if number is not None and any(number in numbers for numbers in _WEATHER_NUMBERS):
        return TransientError(f"pyslurm: {text!r} ({number}).")
    return error_of("pyslurm", text)


def _full(quoted: str) -> str:
    return f"max_allocations: Slurm takes no more jobs of this user now: {quoted!r}; it is asked again later."


def is_ambiguous(error: BackendError) -> bool:
    """Say whether a submission that ended so may have been carried out all the same."""
    return isinstance(error, TransientError)


def _field_of(text: str) -> str | None:
    for words, field in _FIELDS:
        if any(word in text for word in words):
            return field
    return None


def _quotable(output: str) -> str:
    """Return the lines that say something, without the program's name in front."""
    lines = []
    for line in output.splitlines():
        plain = re.sub(
            r"^(sbatch|squeue|sacct|scancel|scontrol|sinfo|slurm_\w+)?:?\s*(error:)?\s*", "", line.strip()
        )
        if plain and not plain.startswith('Try "'):
            lines.append(plain)
    return "; ".join(lines[-4:])[:500] or "no reason given"
