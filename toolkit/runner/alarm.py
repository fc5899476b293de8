"""A timer on CLOCK_BOOTTIME as a file descriptor, and the subreaper switch: Linux calls by ctypes.

A select timeout stands still while the machine is suspended; a lease does not.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_CLOCK_BOOTTIME = 7
_TFD_NONBLOCK_CLOEXEC = 0o2004000
_TFD_TIMER_ABSTIME = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class BoottimeAlarm:
    """Becomes readable once a moment on CLOCK_BOOTTIME has passed."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.timerfd_create(_CLOCK_BOOTTIME, _TFD_NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._moment = float("inf")

    def fileno(self) -> int:
        return self._descriptor

    def arm(self, moment: float) -> None:
        """Set it to a moment in seconds; infinity disarms it."""
        if moment == self._moment:
            return
        self._moment = moment
        # An absolute time of zero would disarm, so a moment in the past becomes the first one.
        nanoseconds = 0 if moment == float("inf") else max(1, int(moment * 1e9))
        value = _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        setting = _Timer(_Timespec(0, 0), value)
        if _libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def clear(self) -> None:
        """Take the readiness away; it is disarmed then."""
        self._moment = float("inf")
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)


def become_subreaper() -> None:
    """Make the kernel hand us every orphan among our descendants, so that none gets away."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
