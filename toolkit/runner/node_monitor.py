"""What the whole node uses: a few short files of /proc per sample, kept as minimum, mean and maximum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_PERCENT: Final = 100.0
_SECTOR_BYTES: Final = 512
"""Of /proc/diskstats, whatever the disk's own sectors are."""
_KIBIBYTE: Final = 1024
_NO_DISKS: Final = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
"""What lies on other disks, which are counted already, or on none."""

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Switches:
    """What the workflow's config wants measured (`compute_node_resource_stats`)."""

    cpu: bool = True
    memory: bool = True
    disk: bool = False
    network: bool = False
    process: bool = False
    include_child_processes: bool = True
    is_periodic: bool = False
    make_plots: bool = True
    interval_seconds: float = 10.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Switches:
        """Read them from a workflow's config."""
        given = config.get("compute_node_resource_stats")
        given = given if isinstance(given, dict) else {}
        interval = given.get("interval")
        return cls(
            cpu=bool(given.get("cpu", True)),
            memory=bool(given.get("memory", True)),
            disk=bool(given.get("disk", False)),
            network=bool(given.get("network", False)),
            process=bool(given.get("process", False)),
            include_child_processes=bool(given.get("include_child_processes", True)),
            is_periodic=given.get("monitor_type") == "periodic",
            make_plots=bool(given.get("make_plots", True)),
            interval_seconds=max(1.0, float(interval))
            if isinstance(interval, int | float) and interval
            else 10.0,
        )

    @property
    def measures_node(self) -> bool:
        return self.cpu or self.memory or self.disk or self.network


@dataclass(slots=True)
class Summary:
    """Minimum, mean and maximum of each value that was seen."""

    num_samples: int = 0
    sums: Values = field(default_factory=dict)
    minimum: Values = field(default_factory=dict)
    maximum: Values = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Take one sample in."""
        self.num_samples += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.minimum[name] = min(self.minimum.get(name, value), value)
            self.maximum[name] = max(self.maximum.get(name, value), value)

    def row(self, resource_type: str, job_key: str | None = None) -> dict[str, Any]:
        """Return an entry of `stats` in a compute_node_stats document."""
        row: dict[str, Any] = {
            "resource_type": resource_type,
            "average": {
                # Rounding must not carry a mean of equal values past them.
                name: min(max(round(total / self.num_samples, 3), self.minimum[name]), self.maximum[name])
                for name, total in self.sums.items()
            },
            "minimum": dict(self.minimum),
            "maximum": dict(self.maximum),
            "num_samples": self.num_samples,
        }
        return row if job_key is None else {**row, "job_key": job_key}


class NodeMonitor:
    """Samples of one node. Rates need two readings, so the first reading only begins."""

    def __init__(self, switches: Switches, now: float, root: Path = Path("/proc")) -> None:
        self._switches = switches
        self._root = root
        self._read_at = now
        self._earlier = self._counters()
        self.summaries: dict[str, Summary] = {}

    def take(self, now: float) -> dict[str, Values]:
        """Take a sample; return resource type -> values."""
        seconds = now - self._read_at
        counters, earlier = self._counters(), self._earlier
        self._read_at, self._earlier = now, counters
        sample: dict[str, Values] = {}
        if self._switches.cpu and seconds > 0:
            sample["CPU"] = _shares(earlier["CPU"], counters["CPU"])
        if self._switches.memory:
            sample["Memory"] = _memory(self._read("meminfo"))
        for kind in ("Disk", "Network"):
            if kind in counters and seconds > 0:
                # A disk that was taken out takes its counts along; that is no negative rate.
                sample[kind] = {
                    name: round(max(0.0, value - earlier[kind].get(name, value)) / seconds, 3)
                    for name, value in counters[kind].items()
                }
        sample = {kind: values for kind, values in sample.items() if values}
        for kind, values in sample.items():
            self.summaries.setdefault(kind, Summary()).add(values)
        return sample

    def rows(self) -> list[dict[str, Any]]:
        """Return the entries of `stats` for everything seen so far."""
        return [summary.row(kind) for kind, summary in self.summaries.items()]

    def _counters(self) -> dict[str, Values]:
        counters: dict[str, Values] = {}
        if self._switches.cpu:
            counters["CPU"] = _cpu_ticks(self._read("stat"))
        if self._switches.disk:
            counters["Disk"] = _disk_counts(self._read("diskstats"))
        if self._switches.network:
            counters["Network"] = _network_counts(self._read("net/dev"))
        return counters

    def _read(self, name: str) -> str:
        try:
            return (self._root / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            # A container may hide some of them; what is left is measured.
            return ""


def _cpu_ticks(text: str) -> Values:
    words = text.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return {}
    user, nice, system, idle, io_wait, interrupt, soft_interrupt, stolen = map(float, words[1:9])
    return {
        "user": user + nice,
        "system": system + interrupt + soft_interrupt,
        "io_wait": io_wait,
        "idle": idle,
        "stolen": stolen,
    }


def _shares(earlier: Values, now: Values) -> Values:
    used = {name: max(0.0, value - earlier.get(name, value)) for name, value in now.items()}
    total = sum(used.values())
    if not total:
        return {}
    percents = {name: _PERCENT * value / total for name, value in used.items()}
    return {
        "cpu_percent": round(_PERCENT - percents["idle"] - percents["io_wait"], 3),
        "user_percent": round(percents["user"], 3),
        "system_percent": round(percents["system"], 3),
        "io_wait_percent": round(percents["io_wait"], 3),
    }


def _memory(text: str) -> Values:
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[0] if rest.split() else ""
        if number.isdigit():
            sizes[name] = float(number) * _KIBIBYTE
    total = sizes.get("MemTotal", 0.0)
    if not total:
        return {}
    available = sizes.get("MemAvailable", sizes.get("MemFree", 0.0))
    return {
        "used_bytes": total - available,
        "available_bytes": available,
        "used_percent": round(_PERCENT * (total - available) / total, 3),
        "swap_used_bytes": sizes.get("SwapTotal", 0.0) - sizes.get("SwapFree", 0.0),
    }


def _disk_counts(text: str) -> Values:
    counts = dict.fromkeys(
        ("reads_per_second", "writes_per_second", "read_bytes_per_second", "write_bytes_per_second"), 0.0
    )
    disks: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or words[2].startswith(_NO_DISKS):
            continue
        # A disk is listed before its partitions, whose names begin with its own.
        if any(words[2].startswith(disk) for disk in disks):
            continue
        disks.append(words[2])
        counts["reads_per_second"] += float(words[3])
        counts["read_bytes_per_second"] += float(words[5]) * _SECTOR_BYTES
        counts["writes_per_second"] += float(words[7])
        counts["write_bytes_per_second"] += float(words[9]) * _SECTOR_BYTES
    return counts


def _network_counts(text: str) -> Values:
    received = sent = 0.0
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        words = rest.split()
        if colon and len(words) >= 9 and name.strip() != "lo":
            received += float(words[0])
            sent += float(words[8])
    return {"received_bytes_per_second": received, "sent_bytes_per_second": sent}
