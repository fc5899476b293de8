"""Which part of this host each local allocation may use, so that no CPU is given away twice.

The share of a row is written before its guardian starts and counts as long as that guardian lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lading.toolkit.domain.values import parse_memory
from lading.toolkit.errors import BadInput, CapacityError, PermanentError
from lading.toolkit.private_files import write_private

_SUFFIX: Final = ".share"


@dataclass(frozen=True, slots=True)
class Share:
    """None stands for all that the runner finds."""

    cpus: int | None
    memory_bytes: int | None

    @classmethod
    def stated(cls, config: Mapping[str, Any]) -> Share:
        """Read what the config asks for; raise PermanentError for what cannot be read."""
        cpus = config.get("num_cpus")
        if cpus is not None and (not isinstance(cpus, int) or isinstance(cpus, bool) or cpus < 1):
            raise PermanentError(f"num_cpus is {cpus!r}; accepted is a whole number from 1.")
        memory = config.get("memory")
        try:
            size = None if memory in (None, "") else parse_memory(str(memory))
        except BadInput as error:
            raise PermanentError(f"memory: {error}") from error
        return cls(cpus, size)


class HostShares:
    """The shares of all local allocations that were launched from one state directory."""

    def __init__(self, directory: Path, lives: Callable[[Path, str], bool]) -> None:
        self._directory = directory
        self._lives = lives

    def grant(self, markers: Sequence[str], config: Mapping[str, Any]) -> list[Share]:
        """Divide what is free among the rows and write it down. Raises CapacityError when it is too little."""
        stated = Share.stated(config)
        total = len(os.sched_getaffinity(0))
        free = total - self._used(exclude=frozenset(markers))
        shares = [
            self._share(stated, cpus, total) for cpus in _divide(stated.cpus, len(markers), free, total)
        ]
        for marker, share in zip(markers, shares, strict=True):
            write_private(self._directory / f"{marker}{_SUFFIX}", msgspec.json.encode(share.cpus or total))
        return shares

    def _used(self, exclude: frozenset[str]) -> int:
        used = 0
        for path in self._directory.glob(f"*{_SUFFIX}"):
            marker = path.name.removesuffix(_SUFFIX)
            if marker in exclude:
                continue
            if self._lives(self._directory, marker):
                used += msgspec.json.decode(path.read_bytes(), type=int)
            else:
                path.unlink(missing_ok=True)
        return used

    @staticmethod
    def _share(stated: Share, cpus: int, total: int) -> Share:
        if stated.cpus is None and cpus == total:
            return stated
        memory = stated.memory_bytes
        if memory is None and cpus < total:
            # Without a word on memory it goes with the CPUs: two halves of a host, not two whole ones.
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * cpus // total
        return Share(cpus, memory)


def _divide(stated: int | None, count: int, free: int, total: int) -> list[int]:
    """Return the CPUs of each row."""
    least = count * (stated or 1)
    if least > total and (count > 1 or stated is None):
        raise PermanentError(
            f"{count} local allocations of {stated or 1} CPUs need {least} CPUs; this host has {total}."
        )
    # A single allocation may state more CPUs than there are: that is its author's word on this host.
    if least > free and free < total:
        raise CapacityError(
            f"{least} CPUs are needed and {max(free, 0)} of {total} are free:"
            " other local allocations hold the rest."
        )
    if stated is not None:
        return [stated] * count
    part, rest = divmod(free, count)
    return [part + (1 if index < rest else 0) for index in range(count)]
