"""What the end of a process means: the report of an attempt. Shared by runner and guardian.

The guardian's raw end of an attempt (`RawEnd`) becomes the fields of `wire.extensions.Ended` here and
nowhere else, so that a killed runner's jobs are reported by the guardian in the very same way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lading.toolkit.runner.messages import Launch, RawEnd, Stop

SPOKEN_SIGNALS = {
    signal.SIGSEGV: "invalid memory access",
    signal.SIGKILL: "killed",
    signal.SIGTERM: "asked to end",
    signal.SIGABRT: "aborted by itself",
    signal.SIGXCPU: "CPU time limit of the system",
    signal.SIGBUS: "bad memory access or a truncated mapped file",
}


def infrastructure_stop(message: str) -> Stop:
    """Return the stop of an attempt that ended through no fault of the job."""
    return {"cause": "infrastructure", "status": "terminated", "message": message}


def ended_fields(end: RawEnd, launch: Launch | None) -> dict[str, Any]:
    """Return the fields of an `Ended` document, apart from its age; looks for the output files."""
    code = end["code"]
    stop = end["stop"]
    fields: dict[str, Any] = {
        "attempt_id": end["id"],
        "cause": "signal" if code < 0 else "exit",
        "return_code": code,
        "exec_seconds": round(end["exec"], 6),
        "status": "done",
        "message": end["failure"],
    }
    if launch is not None:
        if launch["stdout"] is not None:
            fields["stdout_path"] = launch["stdout"]
        if launch["stderr"] is not None:
            fields["stderr_path"] = launch["stderr"]
    if code < 0:
        fields["signal"] = -code
    if stop is not None:
        fields.update(stop)
    elif end["infrastructure"]:
        fields["cause"] = "infrastructure"
    elif code < 0:
        fields["message"] = signal_message(-code)
    if end["cpu"] or end["rss"]:
        fields["usage"] = {"cpu_seconds": round(end["cpu"], 6), "max_rss_bytes": end["rss"]}
    if launch is not None and launch["outputs"] and code == 0 and stop is None:
        _look_for_outputs(fields, launch)
    return fields


def signal_message(number: int) -> str:
    """Say which signal ended a process, in words."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"Ended by signal {number}."
    spoken = SPOKEN_SIGNALS.get(signal.Signals(number))
    return f"Ended by {name}{f' ({spoken})' if spoken else ''}."


def _look_for_outputs(fields: dict[str, Any], launch: Launch) -> None:
    times: dict[str, float] = {}
    missing: list[str] = []
    for key, path in launch["outputs"]:
        try:
            times[key] = os.stat(os.path.join(launch["cwd"], path)).st_mtime  # noqa: PTH116, PTH118
        except OSError:
            missing.append(path)
    if times:
        fields["file_times"] = times
    if missing:
        fields["missing_files"] = missing
        fields["return_code"] = 1
        fields["message"] = _missing_message(missing)
        note_on_stderr(launch, fields["message"])


def _missing_message(missing: Sequence[str]) -> str:
    names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    noun = "output file" if len(missing) == 1 else "output files"
    return f"The command returned 0 but did not write the {noun} {names}."


def note_on_stderr(launch: Launch, message: str) -> None:
    """Append a line to the job's stderr file, where its owner looks first."""
    path = launch["stderr"] or launch["stdout"]
    if path is None:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    # The report carries the message too; a full disk must not lose it.
    with suppress(OSError):
        descriptor = os.open(path, flags, 0o644)
        try:
            os.write(descriptor, f"lading: {message}\n".encode())
        finally:
            os.close(descriptor)
