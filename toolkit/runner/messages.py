"""What runner and guardian say to each other: JSON lines over a socket pair.

Runner to guardian: `session`, `lease`, `hold`, `launch`, `kill`, `forget`, `bye`.
Guardian to runner: `started`, `ended`, `refused`, `expired`, `stuck`, `signal`.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Stop(TypedDict):
    """Why we ended a process ourselves."""

    cause: str
    status: str
    message: str


class RawEnd(TypedDict):
    """What the guardian knows of an attempt that is over and has no process left."""

    id: str
    code: int
    """Exit code; -N when signal N ended it."""
    exec: float
    at: float
    """CLOCK_BOOTTIME."""
    cpu: float
    rss: int
    stop: Stop | None
    """Set when our signal came before the end."""
    failure: str
    """Why the command could not be started; empty when it was."""
    infrastructure: bool
    """The failure is the node's, not the command's."""


class Launch(TypedDict):
    """One process for the guardian to start. Paths are absolute."""

    id: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdout: str | None
    """None: nothing is kept."""
    stderr: str | None
    """None: where stdout goes."""
    outputs: list[tuple[str, str]]
    """(key, path) of the files that a successful job has written."""
    hosts: NotRequired[list[str]]
    """The nodes of a job of several; absent: it has one."""
    cpus: NotRequired[list[int]]
    """The CPUs the process and all its children are bound to; absent: those of the guardian."""


class Session(TypedDict):
    """What is needed to speak for a node; kept in memory only."""

    url: str
    fingerprint: str | None
    server_id: str
    server_file: str | None
    token: str
    workflow: str
    node: str
    spool: str
