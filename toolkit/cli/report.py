"""What came out of a run: a row for each job, the failed ones with the end of their stderr."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lading.toolkit.cli.output import Column, JsonOutput, TableOutput, clean, note
from lading.toolkit.client.api import AsyncLading, Document
from lading.toolkit.domain.states import WORKFLOW_COMPLETE, JobStatus
from lading.toolkit.wire.extensions import AttemptDocument

TAIL_LINES: Final = 10
_TAIL_BYTES: Final = 64 * 1024
_MOST_ROWS: Final = 50
_MOST_FAILURES: Final = 10
_NO_FAILURE: Final = frozenset({JobStatus.DONE, JobStatus.DISABLED})


@dataclass(frozen=True, slots=True)
class JobOutcome:
    key: str
    name: str
    status: str
    return_code: int | None
    signal: int | None
    cause: str | None
    exec_seconds: float | None
    attempts: int
    stdout_path: str | None
    stderr_path: str | None
    message: str

    @property
    def has_failed(self) -> bool:
        """Whether the job ran and did not succeed."""
        if self.status == JobStatus.TERMINATED:
            return True
        return self.status == JobStatus.DONE and self.return_code not in {0, None}

    @property
    def is_fine(self) -> bool:
        """Whether the job is as its author wanted it."""
        return self.status in _NO_FAILURE and not self.has_failed

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.signal:
            return f"killed by signal {self.signal} ({signal_name(self.signal)})"
        if self.return_code is not None:
            return f"exit code {self.return_code}"
        return self.status


@dataclass(frozen=True, slots=True)
class RunReport:
    workflow: str
    name: str
    run_id: int
    jobs: Sequence[JobOutcome]
    output: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Status -> number of jobs."""
        return dict(Counter(job.status for job in self.jobs))

    @property
    def failed(self) -> list[JobOutcome]:
        """Jobs that ran and did not succeed."""
        return [job for job in self.jobs if job.has_failed]

    @property
    def is_success(self) -> bool:
        """Whether every job succeeded or is disabled."""
        return all(job.is_fine for job in self.jobs)


async def gather_report(client: AsyncLading, workflow: str, *, output: Path | None = None) -> RunReport:
    """Read the outcome of the newest run of a workflow."""
    document = await client.get_workflow(workflow)
    run_id = int((await client.workflow_status(workflow))["run_id"])
    numbers: Counter[str] = Counter()
    last: dict[str, AttemptDocument] = {}
    async for attempt in client.list_attempts(workflow, run_id=run_id):
        numbers[attempt.job_key] += 1
        if attempt.job_key not in last or last[attempt.job_key].number < attempt.number:
            last[attempt.job_key] = attempt
    results = {str(item["job_key"]): item async for item in client.list_results(workflow, run_id=run_id)}
    jobs = [
        _outcome(job, results.get(str(job["_key"])), last.get(str(job["_key"])), numbers)
        async for job in client.list_jobs(workflow)
    ]
    return RunReport(workflow, str(document.get("name") or ""), run_id, jobs, output)


def print_report(report: RunReport, style: str, again: str) -> None:
    """Print the outcome: one JSON document, or a table and the failures; `again` is how to look once more."""
    if style == "json":
        JsonOutput().document(report_document(report))
        return
    # What went wrong first, when not everything can be shown.
    shown = sorted(report.jobs, key=lambda job: job.is_fine)[:_MOST_ROWS] if _is_long(report) else report.jobs
    columns = [
        Column("job", "name"),
        Column("status", "status"),
        Column("ended by", "ending"),
        Column("seconds", "exec_seconds", right=True),
        Column("attempts", "attempts", right=True),
    ]
    TableOutput().rows("jobs", columns, [_row(job) for job in shown])
    if _is_long(report):
        note(f"… and {len(report.jobs) - _MOST_ROWS} more jobs.")
    _print_failures(report.failed)
    _print_end(report, again)


def report_document(report: RunReport) -> dict[str, Any]:
    """Return the outcome as a document for programs."""
    return {
        "workflow": report.workflow,
        "name": report.name,
        "run_id": report.run_id,
        "success": report.is_success,
        "counts": report.counts,
        "output": str(report.output) if report.output else None,
        "jobs": [_document(job) for job in report.jobs],
        "failed": [{**_document(job), "stderr_tail": tail(job.stderr_path) or []} for job in report.failed],
    }


def tail(path: str | None, lines: int = TAIL_LINES) -> list[str] | None:
    """Return the last lines of a file, or None when it cannot be read here."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    return text.splitlines()[-lines:]


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _outcome(
    job: Document,
    result: Mapping[str, Any] | None,
    attempt: AttemptDocument | None,
    numbers: Counter[str],
) -> JobOutcome:
    status = str(job.get("status"))
    return_code = result.get("return_code") if result else None
    seconds: float | None = None
    number: int | None = None
    if attempt is not None:
        seconds, number = attempt.exec_seconds, attempt.signal
    elif result is not None:
        seconds = float(result["exec_time_minutes"]) * 60
    if attempt is not None and return_code is None and attempt.ended_at is not None:
        return_code = attempt.return_code
    if number is None and return_code is not None and return_code < 0:
        number = -return_code
    return JobOutcome(
        key=str(job["_key"]),
        name=str(job.get("name") or job["_key"]),
        status=status,
        return_code=return_code,
        signal=number,
        cause=attempt.cause if attempt else None,
        exec_seconds=seconds,
        attempts=numbers[str(job["_key"])],
        stdout_path=attempt.stdout_path if attempt else None,
        stderr_path=attempt.stderr_path if attempt else None,
        message=attempt.message if attempt else "",
    )


def _document(job: JobOutcome) -> dict[str, Any]:
    return {name: getattr(job, name) for name in JobOutcome.__dataclass_fields__}


def _row(job: JobOutcome) -> dict[str, Any]:
    status = "failed" if job.has_failed and job.status == JobStatus.DONE else job.status
    ending = "" if job.attempts == 0 and job.return_code in {None, 0} else job.ending
    return {**_document(job), "status": status, "ending": ending}


def _is_long(report: RunReport) -> bool:
    return len(report.jobs) > _MOST_ROWS


def _print_failures(failed: Iterable[JobOutcome]) -> None:
    jobs = list(failed)
    for job in jobs[:_MOST_FAILURES]:
        cause = f" – {job.message}" if job.message else ""
        note(f"\nFailed: {job.name} (key {job.key}): {job.ending}{cause}")
        lines = tail(job.stderr_path)
        if lines is None:
            note(f"  Its stderr cannot be read here: {job.stderr_path or 'not recorded'}")
        elif lines:
            note(f"  The end of {job.stderr_path}:")
            for line in lines:
                note(f"    {clean(line)}")
        else:
            note(f"  Its stderr is empty: {job.stderr_path}")
    if len(jobs) > _MOST_FAILURES:
        note(f"\n… and {len(jobs) - _MOST_FAILURES} more failed jobs.")


def _print_end(report: RunReport, again: str) -> None:
    canceled = report.counts.get(JobStatus.CANCELED, 0)
    fine = sum(job.is_fine for job in report.jobs)
    parts = [f"{fine} of {len(report.jobs)} jobs succeeded"]
    if report.failed:
        names = ", ".join(job.name for job in report.failed[:_MOST_FAILURES])
        more = "" if len(report.failed) <= _MOST_FAILURES else ", …"
        parts.append(f"{len(report.failed)} failed ({names}{more})")
    if canceled:
        parts.append(f"{canceled} canceled")
    unfinished = sum(job.status not in WORKFLOW_COMPLETE for job in report.jobs)
    if unfinished:
        parts.append(f"{unfinished} not finished")
    note("\n" + "; ".join(parts) + ".")
    if report.output is not None:
        note(f"Output of the jobs: {report.output / 'job-stdio'}")
    note(f"Look again with: {again}")
