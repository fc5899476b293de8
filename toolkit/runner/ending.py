"""How jobs are ended: which signal, when, and with which cause on record."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from lading.toolkit.runner.events import SignalJobs
from lading.toolkit.runner.holdings import Attempt, Holdings
from lading.toolkit.runner.messages import Stop
from lading.toolkit.wire.extensions import Ended

GRACE_SECONDS: Final = 30.0
"""Between TERM and KILL at the end of a run-time limit or of the allocation."""


def end_jobs(attempts: Iterable[Attempt], stop: Stop, grace: float, now: float) -> list[SignalJobs]:
    """TERM those that support it, with KILL after the grace (seconds); KILL the others at once."""
    gentle: list[Attempt] = []
    abrupt: list[Attempt] = []
    for attempt in attempts:
        if grace > 0 and attempt.job is not None and attempt.job.supports_termination:
            if attempt.stop is None:
                gentle.append(attempt)
                attempt.kill_at = now + grace
            elif attempt.kill_at is not None:
                attempt.kill_at = min(attempt.kill_at, now + grace)
        else:
            attempt.kill_at = None
            abrupt.append(attempt)
    return send(gentle, signal.SIGTERM, stop) + send(abrupt, signal.SIGKILL, stop)


def send(attempts: list[Attempt], number: int, stop: Stop) -> list[SignalJobs]:
    """Signal jobs; the first reason to end a job stays on record."""
    for attempt in attempts:
        attempt.stop = attempt.stop or stop
    if not attempts:
        return []
    return [SignalJobs(tuple(attempt.id for attempt in attempts), int(number), stop)]


def enforce_times(holdings: Holdings, now: float) -> list[SignalJobs]:
    """KILL those whose grace is over; begin to end those whose run-time limit is over."""
    result: list[SignalJobs] = []
    for attempt in holdings.launched.values():
        if attempt.kill_at is not None and now >= attempt.kill_at and attempt.stop is not None:
            attempt.kill_at = None
            result += send([attempt], signal.SIGKILL, attempt.stop)
        limit_at = attempt.limit_at
        if attempt.stop is None and limit_at is not None and now >= limit_at and attempt.job:
            message = f"Ran longer than its limit of {attempt.job.runtime_limit_seconds:g} s."
            stop: Stop = {"cause": "job_timeout", "status": "terminated", "message": message}
            result += end_jobs([attempt], stop, GRACE_SECONDS, now)
    return result


def next_moment(holdings: Holdings) -> float:
    """Return when `enforce_times` has something to do; infinity when never."""
    moments = [float("inf")]
    for attempt in holdings.launched.values():
        if attempt.kill_at is not None:
            moments.append(attempt.kill_at)
        elif attempt.stop is None and attempt.limit_at is not None:
            moments.append(attempt.limit_at)
    return min(moments)


def enforce_memory(holdings: Holdings, resident_bytes: Mapping[str, int], policy: str) -> list[SignalJobs]:
    """KILL jobs over their memory limit, or only put it on record, as the policy says."""
    result: list[SignalJobs] = []
    for name, size in resident_bytes.items():
        attempt = holdings.launched.get(name)
        limit = attempt.job.memory_limit_bytes if attempt is not None and attempt.job else None
        if policy == "off" or attempt is None or limit is None or size <= limit or attempt.stop is not None:
            continue
        message = f"Used {size} bytes of memory, its limit is {limit}."
        if policy == "kill":
            stop: Stop = {"cause": "out_of_memory", "status": "done", "message": message}
            result += send([attempt], signal.SIGKILL, stop)
        else:
            attempt.note = message
    return result


def unseen_end(attempt: Attempt, stop: Stop, *, seconds: float, started: bool) -> Ended:
    """Return the report of an attempt that ended without anybody to reap it, or that never began."""
    fields: dict[str, Any] = {
        **stop,
        "attempt_id": attempt.id,
        "return_code": -int(signal.SIGKILL),
        "signal": int(signal.SIGKILL),
        "exec_seconds": seconds,
        "started": started,
    }
    return msgspec.convert(fields, Ended)
