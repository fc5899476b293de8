"""What a submitter finds of a dead allocation, in how many pieces it is sent, and when it is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lading.toolkit.private_files import boot_id
from lading.toolkit.runner.spool import Spool, encode_record
from lading.toolkit.submitter.salvage import Filled, Salvage, remove
from lading.toolkit.wire.extensions import Ended
from lading.toolkit.wire.files import SPOOL_FOLDER, NodeFile, spool_name
from lading.toolkit.wire.submissions import (
    AllocationReport,
    OpenAllocation,
    SubmitterSyncRequest,
    SubmitterSyncResponse,
)

TAG = "lading-t"
NOW = 1000.0


class Place:
    """An output folder, the spools in it, and the one who salvages them."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.salvage = Salvage(self.node_file_of, **more)

    def node_file_of(self, allocation: str) -> NodeFile | None:
        if allocation == "elsewhere":
            return None
        return NodeFile(
            url="", server_id="", token="", workflow="1", allocation=allocation, tag=TAG,
            output_directory="output", working_directory=str(self.folder),
        )  # fmt: skip

    def spool(self, allocation: str, *attempts: str, node: str = "n", boot: str | None = None) -> Path:
        path = self.folder / "output" / SPOOL_FOLDER
        path /= spool_name(TAG, allocation, node, boot_id() if boot is None else boot)
        spool = Spool(path)
        spool.append({attempt: line_of(attempt) for attempt in attempts})
        return path

    def fill(self, *allocations: str) -> Filled:
        reports = [dead(allocation) for allocation in allocations]
        return self.salvage.fill(SubmitterSyncRequest(holder="h", allocations=reports), NOW)

    def acknowledge(self, *listed: str, granted: bool = True) -> list[Path]:
        rows = [
            OpenAllocation(allocation=key, workflow="1", backend="local", tag=TAG, state="active")
            for key in listed
        ]
        return self.salvage.acknowledge(
            SubmitterSyncResponse(granted=granted, lease_seconds=30.0, allocations=rows)
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def dead(allocation: str) -> AllocationReport:
    return AllocationReport(allocation=allocation, state="ended", proof_of_death=True, cause="infrastructure")


def line_of(attempt: str, message: str = "") -> bytes:
    ended = Ended(attempt_id=attempt, cause="exit", return_code=0, exec_seconds=1.0, message=message)
    return encode_record(msgspec.to_builtins(ended), NOW - 40.0)


def told(filled: Filled) -> list[tuple[str, str, bool, list[str]]]:
    return [
        (report.allocation, report.state, report.proof_of_death, [end.attempt_id for end in report.ended])
        for report in filled.request.allocations
    ]


def test_ends_of_all_nodes_of_an_allocation_go_with_its_proof(place: Place) -> None:
    spools = [place.spool("7", "a", "b", node="1"), place.spool("7", "c", node="2")]
    other = place.spool("77", "x")
    filled = place.fill("7")
    assert told(filled) == [("7", "ended", True, ["a", "b", "c"])]
    assert [end.age_seconds for end in filled.request.allocations[0].ended] == [40.0] * 3
    assert filled.settled == [dead("7")]
    remove(place.acknowledge())
    assert [path.exists() for path in (*spools, other)] == [False, False, True]


@pytest.mark.parametrize("answer", [{"granted": False}, {"listed": ["7"]}], ids=str)
def test_what_the_server_did_not_take_stays_and_is_sent_again(place: Place, answer: dict[str, Any]) -> None:
    place.spool("7", "a")
    first = told(place.fill("7"))
    assert place.acknowledge(*answer.pop("listed", []), **answer) == []
    assert told(place.fill("7")) == first


def test_an_unanswered_request_is_made_again_as_it_was(place: Place) -> None:
    place.spool("7", "a")
    assert told(place.fill("7")) == told(place.fill("7"))


def test_a_large_spool_comes_in_pieces_and_the_proof_with_the_last(tmp_path: Path) -> None:
    place = Place(tmp_path, most_records=3)
    place.spool("7", *"abcd", node="1")
    place.spool("7", *"ef", node="2")
    filled = place.fill("7", "8")
    # The other one has no room in this request, and none of the two is settled by it.
    assert (told(filled), filled.settled) == ([("7", "active", False, ["a", "b", "c"])], [])
    assert filled.request.allocations[0].cause is None
    assert told(place.fill("7", "8")) == told(filled), "its answer was lost"
    assert place.acknowledge("7", "8") == []
    filled = place.fill("7", "8")
    assert told(filled) == [("7", "ended", True, ["d", "e", "f"])]
    assert len(place.acknowledge("8")) == 2
    assert told(place.fill("8")) == [("8", "ended", True, [])]


def test_one_request_is_bounded_in_bytes_too(place: Place) -> None:
    path = place.spool("7")
    with path.open("ab") as stream:
        for number in range(9):
            stream.write(line_of(f"a{number}", "x" * (1 << 20)) + b"\n")
    seen: list[str] = []
    for _ in range(3):
        filled = place.fill("7")
        [report] = filled.request.allocations
        assert len(msgspec.json.encode(filled.request)) < 8 << 20
        seen += [end.attempt_id for end in report.ended]
        place.acknowledge("7")
    assert seen == [f"a{number}" for number in range(9)]
    assert report.proof_of_death


def test_a_torn_or_foreign_line_is_passed_over(place: Place) -> None:
    path = place.spool("7", "a")
    with path.open("ab") as stream:
        stream.write(b'[1]\n{"ended_at":1,"ended":{"attempt_id":"z","cause":"?"}}\n\xff\n')
        stream.write(b"x" * (9 << 20) + b"\n")
        stream.write(line_of("b") + b"\n")
        stream.write(line_of("torn")[:-5])
    assert told(place.fill("7")) == [("7", "ended", True, ["a", "b"])]


def test_the_clock_of_another_boot_tells_no_age(place: Place) -> None:
    place.spool("7", "a", boot="another-boot")
    [report] = place.fill("7").request.allocations
    assert [end.age_seconds for end in report.ended] == [0.0]


def test_a_spool_that_others_can_read_is_left_alone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    path = place.spool("7", "a")
    path.chmod(0o644)
    assert told(place.fill("7")) == [("7", "ended", True, [])]
    assert "can be read by others" in caplog.text
    remove(place.acknowledge())
    assert path.exists()


def test_a_link_is_not_followed(place: Place) -> None:
    path = place.spool("7", "a")
    secret = path.rename(place.folder / "secret")
    path.symlink_to(secret)
    assert told(place.fill("7")) == [("7", "ended", True, [])]


def test_nothing_is_read_without_a_proof_or_without_a_place(place: Place) -> None:
    place.spool("7", "a")
    ended = AllocationReport(allocation="7", state="ended")
    filled = place.salvage.fill(SubmitterSyncRequest(holder="h", allocations=[ended]), NOW)
    assert filled.request.allocations == filled.settled == [ended]
    assert told(place.fill("elsewhere")) == [("elsewhere", "ended", True, [])]
