"""`make bench`: figures beside a baseline taken in the same run, because machines are noisy.

No figure fails: the budgets of docs/architecture.md are printed beside them for a person to judge.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import baseline, end_to_end, service


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000, help="independent jobs with real processes")
    parser.add_argument("--chain", type=int, default=100, help="jobs in the chain")
    parser.add_argument("--service-jobs", type=int, default=10_000, help="jobs without processes")
    parser.add_argument("--large", type=int, default=100_000, help="jobs of the large workflow")
    parser.add_argument(
        "--only", choices=sorted(PARTS), action="append", help="run these parts only; may repeat"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lading-bench-") as folder:
        for name in arguments.only or PARTS:
            PARTS[name](Path(folder) / name, arguments)


def line(what: str, figure: str, ratio: str, budget: str) -> None:
    sys.stdout.write(f"{what:<44} {figure:>18}  {ratio:<38} {budget}\n")
    sys.stdout.flush()


def independent_jobs(folder: Path, arguments: argparse.Namespace) -> None:
    before = baseline.spawn_rate(2_000)
    run = end_to_end.run(folder, "independent", end_to_end.independent(arguments.jobs))
    bare = (before + baseline.spawn_rate(2_000)) / 2
    rate = run.jobs / run.seconds
    line(
        f"{run.jobs} jobs `true`, one runner", f"{rate:,.0f} jobs/s",
        f"{rate / bare:.2f} of {bare:,.0f} bare spawns/s", "budget 0.75",
    )  # fmt: skip


def chained_jobs(folder: Path, arguments: argparse.Namespace) -> None:
    bare = baseline.spawn_rate(500, parallel=1)
    run = end_to_end.run(folder, "chain", end_to_end.chain(arguments.chain))
    floor = run.jobs / bare
    line(
        f"chain of {run.jobs} jobs `true`", f"{run.seconds:.2f} s",
        f"{run.seconds / floor:.1f} × {floor:.2f} s of bare spawns", "budget 0.6 s for 100",
    )  # fmt: skip
    line("  end of a job to start of the next, median", f"{run.hop_median_ms:.0f} ms", "", "")
    line("  … 99th percentile", f"{run.hop_p99_ms:.0f} ms", "", "budget 10 ms")


def without_processes(folder: Path, arguments: argparse.Namespace) -> None:
    folder.mkdir(parents=True)
    number = arguments.service_jobs
    bare = baseline.bare_sql_rate(folder, number)
    rate = asyncio.run(service.sync_rate(folder / "sync", number))
    line(
        f"{number} jobs by sync, no processes", f"{rate:,.0f} jobs/s",
        f"{rate / bare:.2f} of {bare:,.0f} jobs/s in bare SQL", "budget 5,000 jobs/s",
    )  # fmt: skip
    rate = asyncio.run(service.endpoint_rate(folder / "torc", number // 5))
    line(
        f"{number // 5} jobs by torc's endpoints, 4 clients", f"{rate:,.0f} jobs/s",
        f"{rate / bare:.2f} of bare SQL", "budget 500 jobs/s",
    )  # fmt: skip


def large(folder: Path, arguments: argparse.Namespace) -> None:
    number = arguments.large
    figures = asyncio.run(service.large_workflow(folder, number))
    line(
        f"create and start {number} jobs", f"{figures['create_seconds']:.1f} s",
        f"{number / figures['create_seconds']:,.0f} jobs/s", "budget 20 s for 100,000",
    )  # fmt: skip
    line("  server's peak memory", f"{figures['peak_megabytes']:.0f} MB", "", "budget 400 MB")
    line("  page of 100 jobs, 95th percentile", f"{figures['page_p95_ms']:.1f} ms", "", "budget 50 ms")
    sorted_page = f"{figures['sorted_page_p95_ms']:.1f} ms"
    line("  the same, sorted by two members", sorted_page, "", "budget 50 ms for 10,000")
    line("  progress, 95th percentile", f"{figures['status_p95_ms']:.1f} ms", "", "budget 10 ms")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "independent": independent_jobs,
    "chain": chained_jobs,
    "service": without_processes,
    "large": large,
}

if __name__ == "__main__":
    main()
