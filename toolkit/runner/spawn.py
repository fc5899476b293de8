"""Start one job's process: in a session of its own, with posix_spawn, from a single-threaded process."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from lading.toolkit.runner.messages import Launch

NOT_FOUND = 127
NOT_EXECUTABLE = 126

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
# Python ignores these in itself; an ignored signal would stay ignored in the job: `yes | head` hangs.
_RESTORED_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SpawnError(Exception):
    """The command could not be started."""

    def __init__(self, code: int, message: str, *, infrastructure: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.infrastructure = infrastructure


def spawn(launch: Launch, base: Mapping[str, str], null: int) -> int:
    """Start the process and return its id. Changes this process's working directory."""
    environment = {**base, **launch["env"]}
    _enter(launch["cwd"])
    program = find_program(launch["argv"][0], environment.get("PATH", _DEFAULT_PATH))
    output = error = null
    mask = launch.get("cpus")
    before = os.sched_getaffinity(0) if mask else None
    try:
        if mask:
            # A child is born with its parent's mask; there is no attribute of posix_spawn for it.
            _bind(mask)
        if launch["stdout"] is not None:
            output = error = open_stream(launch["stdout"])
        if launch["stderr"] is not None:
            error = open_stream(launch["stderr"])
        return os.posix_spawn(
            program,
            launch["argv"],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, error, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_RESTORED_SIGNALS,
        )
    except OSError as problem:
        raise _explain(problem, program) from None
    except ValueError as problem:
        raise SpawnError(NOT_EXECUTABLE, f"The command cannot be started: {problem}.") from None
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
        for descriptor in {output, error} - {null}:
            os.close(descriptor)


def _bind(cpus: Sequence[int]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as problem:
        names = ", ".join(map(str, cpus))
        message = f"The job cannot be bound to the CPUs {names}: {problem.strerror}."
        raise SpawnError(NOT_EXECUTABLE, message, infrastructure=True) from None


def find_program(name: str, search_path: str) -> str:
    """Return the file that a command's first word names, as the job's own PATH says."""
    if not name:
        raise SpawnError(NOT_FOUND, "The command is empty.")
    if "/" in name:
        return name
    found = False
    for folder in search_path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            status = os.stat(candidate)  # noqa: PTH116 - hot
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            if os.access(candidate, os.X_OK):
                return candidate
            found = True
    if found:
        raise SpawnError(NOT_EXECUTABLE, f"The command {name!r} is not executable.")
    raise SpawnError(NOT_FOUND, f"The command {name!r} was not found in PATH ({search_path}).")


def open_stream(path: str) -> int:
    """Open a job's output file, empty; a link in its place is refused, not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_APPEND
    try:
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o644)
    except OSError as problem:
        reason = "it is a symbolic link" if problem.errno == errno.ELOOP else problem.strerror
        raise SpawnError(
            NOT_EXECUTABLE, f"The output file {path} cannot be opened: {reason}.", infrastructure=True
        ) from None


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except FileNotFoundError:
        raise SpawnError(NOT_FOUND, f"The working directory {folder} does not exist.") from None
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise SpawnError(
            NOT_EXECUTABLE, f"The working directory {folder} cannot be entered: {reason}."
        ) from None


def _explain(problem: OSError, program: str) -> SpawnError:
    match problem.errno:
        case errno.ENOENT if Path(program).exists():
            return SpawnError(
                NOT_FOUND, f"The interpreter that the first line of {program} names was not found."
            )
        case errno.ENOENT | errno.ENOTDIR:
            return SpawnError(NOT_FOUND, f"The command {program!r} was not found.")
        case errno.EACCES:
            return SpawnError(NOT_EXECUTABLE, f"The command {program!r} is not executable.")
        case errno.ENOEXEC:
            return SpawnError(
                NOT_EXECUTABLE,
                f"The file {program} is not a program: its first line should name an interpreter, "
                "such as #!/bin/bash.",
            )
        case errno.E2BIG:
            return SpawnError(
                NOT_EXECUTABLE, "The command and its environment are longer than the system allows."
            )
        case errno.EAGAIN | errno.ENOMEM | errno.EMFILE | errno.ENFILE:
            message = f"The node could not start a process: {problem.strerror}."
            return SpawnError(NOT_EXECUTABLE, message, infrastructure=True)
        case _:
            return SpawnError(
                NOT_EXECUTABLE, f"The command {program!r} cannot be started: {problem.strerror}."
            )
