"""What dead runners had written down and could not send: it goes to the server with the proof of their death.

The spools of an allocation are known by their names, in the output folder that its node file tells: one
that this host shares with the node. Where it does not, nothing is found, and the jobs run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import boot_id, open_private
from lading.toolkit.wire.extensions import Ended
from lading.toolkit.wire.files import SPOOL_FOLDER, NodeFile, SpoolRecord, boot_of_spool, spool_pattern
from lading.toolkit.wire.submissions import AllocationReport, SubmitterSyncRequest, SubmitterSyncResponse

logger = logging.getLogger("lading.submitter")

_MOST_RECORDS: Final = 5_000
_MOST_BYTES: Final = 4 << 20
"""Of all spools in one request; with the longest line it is half of what the server accepts."""
_LONGEST_LINE_BYTES: Final = 4 << 20
_COLLECTING: Final = "it is dead; the results that it left are being collected"


class Filled(NamedTuple):
    """A request with what was salvaged."""

    request: SubmitterSyncRequest
    """To be sent."""
    settled: list[AllocationReport]
    """The reports that it carries in full, as they were given: the others are to be sent again."""


@dataclass(slots=True)
class _Reading:
    """What one request takes from the spools of one allocation."""

    ended: list[Ended] = field(default_factory=list)
    positions: dict[Path, int] = field(default_factory=dict)
    """Bytes that have been read of each file, by this request and those before it."""
    is_whole: bool = True


class Salvage:
    """Reads the spools of dead allocations piece by piece; removes them when the server has all of it."""

    def __init__(
        self, node_file_of: Callable[[str], NodeFile | None], *, most_records: int = _MOST_RECORDS
    ) -> None:
        self._node_file_of = node_file_of
        self._most_records = most_records
        self._positions: dict[str, dict[Path, int]] = {}
        """Allocation -> what the server has acknowledged of its files."""
        self._readings: dict[str, _Reading] = {}

    def fill(self, request: SubmitterSyncRequest, boottime: float) -> Filled:
        """Add to each proof of death the ends that the dead wrote down; blocks on the file system.

        What is too much for one request goes in several, and the proof with the last: with it the server
        gives to others every job whose end it does not know.
        """
        self._readings.clear()
        reports: list[AllocationReport] = []
        settled: list[AllocationReport] = []
        budget = _Budget(self._most_records)
        for report in request.allocations:
            if report.state != "ended" or not report.proof_of_death:
                reports.append(report)
                settled.append(report)
            elif not budget.is_spent:
                reading = self._read(report.allocation, boottime, budget)
                self._readings[report.allocation] = reading
                if reading.is_whole:
                    reports.append(replace(report, ended=reading.ended))
                    settled.append(report)
                else:
                    reports.append(_not_yet(report, reading.ended))
        return Filled(replace(request, allocations=reports), settled)

    def acknowledge(self, response: SubmitterSyncResponse) -> list[Path]:
        """Take in the answer to the last request; return the files that nobody needs any more."""
        readings, self._readings = self._readings, {}
        if not response.granted:
            return []
        listed = {row.allocation for row in response.allocations}
        done: list[Path] = []
        for allocation, reading in readings.items():
            if not reading.is_whole:
                self._positions[allocation] = reading.positions
            elif allocation not in listed:
                # Still listed would mean that the row was not closed: it is reported again, with its ends.
                done += reading.positions
        for allocation in [allocation for allocation in self._positions if allocation not in listed]:
            del self._positions[allocation]
        return done

    def _read(self, allocation: str, boottime: float, budget: _Budget) -> _Reading:
        known = self._positions.get(allocation, {})
        reading = _Reading(positions=dict(known))
        for path in _spools_of(self._node_file_of(allocation)):
            # The ends of a node that ran in another boot, or on another host, are of a clock unknown here.
            now = boottime if boot_of_spool(path.name) == boot_id() else None
            try:
                with open_private(path) as stream:
                    stream.seek(known.get(path, 0))
                    is_read = _read_records(stream, now, budget, reading.ended)
                    reading.positions[path] = stream.tell()
            except FileNotFoundError:
                continue
            except (OSError, BadInput) as error:
                # Waiting for it would keep all jobs of the allocation from everybody.
                logger.warning("ends that a dead runner wrote down are not read: %s", error)
                continue
            reading.is_whole = reading.is_whole and is_read
        return reading


def remove(paths: Sequence[Path]) -> None:
    """Remove files; one that stays is of no further use, and harms nothing."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


class _Budget:
    """What still fits into a request."""

    def __init__(self, most_records: int) -> None:
        self._records = most_records
        self._bytes = _MOST_BYTES

    @property
    def is_spent(self) -> bool:
        return self._records <= 0 or self._bytes <= 0

    def take(self, size: int) -> None:
        self._records -= 1
        self._bytes -= size


def _spools_of(node_file: NodeFile | None) -> list[Path]:
    if node_file is None or node_file.allocation is None:
        return []
    output = Path(node_file.working_directory).absolute() / node_file.output_directory
    return sorted(output.joinpath(SPOOL_FOLDER).glob(spool_pattern(node_file.tag, node_file.allocation)))


def _read_records(stream: BufferedReader, now: float | None, budget: _Budget, ended: list[Ended]) -> bool:
    """Read on, as far as the budget goes; True at the end of the file. `now`: on the clock of the records."""
    while not budget.is_spent:
        line = stream.readline(_LONGEST_LINE_BYTES)
        if not line:
            return True
        if len(line) == _LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            # No runner wrote this: pass over the rest of it, in pieces.
            while line and not line.endswith(b"\n"):
                line = stream.readline(_LONGEST_LINE_BYTES)
            continue
        try:
            record = msgspec.json.decode(line, type=SpoolRecord)
        except msgspec.MsgspecError:
            # Torn: it was being written when its node died, and nobody was told that it is on the disk.
            continue
        record.ended.age_seconds = 0.0 if now is None else max(0.0, now - record.ended_at)
        ended.append(record.ended)
        budget.take(len(line))
    return not stream.peek(1)


def _not_yet(report: AllocationReport, ended: list[Ended]) -> AllocationReport:
    """Return a report that carries ends and closes nothing."""
    return replace(report, state="active", reason=_COLLECTING, proof_of_death=False, cause=None, ended=ended)
