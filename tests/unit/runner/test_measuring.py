"""What is told again keeps its number, and what is new gets one of its own."""

from __future__ import annotations

from pathlib import Path

from lading.toolkit.clock import SystemClock
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.measuring import Measuring
from lading.toolkit.runner.node_monitor import Summary, Switches


def used(rss: float) -> Summary:
    summary = Summary()
    summary.add({"rss": rss})
    return summary


def test_what_is_told_again_keeps_its_number(tmp_path: Path) -> None:
    switches = Switches(cpu=False, memory=True, process=True)
    measuring = Measuring(switches, tmp_path, "n1", SystemClock(), Journal(tmp_path / "journal", "n1"))
    try:
        assert measuring.take(leaving=False) == []
        measuring.note_end("1", used(10.0))
        first = measuring.take(leaving=False)
        assert [[row["job_key"] for row in told.stats] for told in first] == [["1"]]
        measuring.note_end("2", used(20.0))
        measuring.put_back(first)
        again = measuring.take(leaving=True)
        assert again[:1] == first
        assert [row["resource_type"] for row in again[1].stats] == ["Process", "Memory"]
        assert again[1].number != first[0].number
        measuring.put_back(again)
        assert measuring.take(leaving=True) == again
        assert measuring.take(leaving=True) == []
    finally:
        measuring.close()
