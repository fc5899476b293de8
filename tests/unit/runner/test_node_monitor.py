from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lading.toolkit.runner.node_monitor import NodeMonitor, Summary, Switches
from lading.toolkit.runner.plots import chart, page

ALL = Switches(cpu=True, memory=True, disk=True, network=True)


def write(root: Path, *, busy: int, idle: int, sectors: int, received: int) -> None:
    (root / "net").mkdir(exist_ok=True)
    (root / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    (root / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n")
    disk = f"8 0 sda 10 0 {sectors} 0 0 0 0 0 0 0 0"
    part = f"8 1 sda1 10 0 {sectors} 0 0 0 0 0 0 0 0"
    loop = "7 0 loop0 9 9 9 9 9 9 9 9 9 9 9"
    (root / "diskstats").write_text(f"{disk}\n{part}\n{loop}\n")
    lines = [
        "Inter-| Receive",
        " face |bytes",
        "lo: 5 0 0 0 0 0 0 0 5 0",
        f"eth0: {received} 0 0 0 0 0 0 0 40 0",
    ]
    (root / "net" / "dev").write_text("\n".join(lines))


def test_rates_are_differences_and_partitions_count_once(tmp_path: Path) -> None:
    write(tmp_path, busy=100, idle=100, sectors=0, received=0)
    monitor = NodeMonitor(ALL, 0.0, tmp_path)
    write(tmp_path, busy=130, idle=170, sectors=4, received=3000)
    sample = monitor.take(2.0)
    assert sample["CPU"]["cpu_percent"] == pytest.approx(30.0)
    assert sample["Memory"]["used_percent"] == pytest.approx(75.0)
    assert sample["Disk"]["read_bytes_per_second"] == pytest.approx(1024.0)
    assert sample["Network"] == {"received_bytes_per_second": 1500.0, "sent_bytes_per_second": 0.0}
    rows = {row["resource_type"]: row for row in monitor.rows()}
    assert rows["CPU"]["minimum"] == rows["CPU"]["maximum"] == rows["CPU"]["average"]


def test_counts_that_go_back_are_no_negative_rates(tmp_path: Path) -> None:
    write(tmp_path, busy=1, idle=1, sectors=100, received=100)
    monitor = NodeMonitor(ALL, 0.0, tmp_path)
    write(tmp_path, busy=2, idle=2, sectors=1, received=1)
    sample = monitor.take(1.0)
    assert min(sample["Disk"].values()) == min(sample["Network"].values()) == 0.0


def test_what_a_container_hides_is_left_out(tmp_path: Path) -> None:
    monitor = NodeMonitor(ALL, 0.0, tmp_path)
    assert "CPU" not in monitor.take(1.0)


def test_switches_come_from_the_config() -> None:
    assert not Switches.of({}).process
    assert Switches.of({"compute_node_resource_stats": {"interval": 0.1}}).interval_seconds == 1.0
    off = Switches.of({"compute_node_resource_stats": {"cpu": False, "memory": False}})
    assert not off.measures_node


def test_a_mean_lies_between_its_ends() -> None:
    summary = Summary()
    for _ in range(3):
        summary.add({"x": 0.1 + 0.2})
    row = summary.row("CPU")
    assert row["minimum"]["x"] <= row["average"]["x"] <= row["maximum"]["x"]


def test_names_in_pictures_are_text_only() -> None:
    name = "<script>alert(1)</script>"
    text = page(name, [chart(name, {name: [(0.0, 1.0), (5.0, 3.0)]}, "B")])
    assert "<script>" not in text
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    assert ET.fromstring(svg).tag.endswith("svg")


def test_one_sample_and_none_can_be_drawn() -> None:
    assert "<polyline" in chart("x", {"a": [(1.0, 0.0)]}, "%")
    assert chart("x", {"a": []}, "%") == ""
    assert "Nothing" in page("x", [""])
