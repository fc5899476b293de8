"""Counts and durations of requests, in the text format that Prometheus reads.

Labels come from the route table only: a caller who asks for a million unknown paths must not make
a million time series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds."""


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0


class Metrics:
    """Counters of one process; all are touched from the event loop only."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._durations: dict[tuple[str, str], _Histogram] = defaultdict(_Histogram)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one answered request under the path of its route."""
        self._requests[method, path, status] += 1
        histogram = self._durations[method, path]
        histogram.counts[bisect_left(BUCKETS, seconds)] += 1
        histogram.total += seconds

    def render(self, degraded: int) -> str:
        """Return everything as Prometheus text, format 0.0.4."""
        lines = [
            "# HELP lading_requests_total Requests answered.",
            "# TYPE lading_requests_total counter",
        ]
        for (method, path, status), number in sorted(self._requests.items()):
            labels = f'method="{method}",path="{path}",status="{status}"'
            lines.append(f"lading_requests_total{{{labels}}} {number}")
        lines += [
            "# HELP lading_request_seconds Time from the head of a request to the end of its answer.",
            "# TYPE lading_request_seconds histogram",
        ]
        for (method, path), histogram in sorted(self._durations.items()):
            labels = f'method="{method}",path="{path}"'
            below = 0
            for bound, number in zip((*map(str, BUCKETS), "+Inf"), histogram.counts, strict=True):
                below += number
                lines.append(f'lading_request_seconds_bucket{{{labels},le="{bound}"}} {below}')
            lines.append(f"lading_request_seconds_sum{{{labels}}} {histogram.total:.6f}")
            lines.append(f"lading_request_seconds_count{{{labels}}} {below}")
        lines += [
            "# HELP lading_requests_in_flight Requests being handled.",
            "# TYPE lading_requests_in_flight gauge",
            f"lading_requests_in_flight {self.in_flight}",
            "# HELP lading_degraded_parts Parts of the server that do not work as they should.",
            "# TYPE lading_degraded_parts gauge",
            f"lading_degraded_parts {degraded}",
        ]
        return "\n".join(lines) + "\n"
