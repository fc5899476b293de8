"""A submitter that does what a test tells it, and what the database says of its allocations."""

from __future__ import annotations

from typing import Any

from lading.api.services import planning, submission_reports, submissions
from lading.toolkit.wire.submissions import AllocationReport, Launch, LaunchReport
from tests.engine.driver import Engine
from tests.engine.model import JobSpec
from tests.engine.worker import add_graph


def ready(engine: Engine, *specs: JobSpec) -> None:
    add_graph(engine, *(specs or [JobSpec("j")]))
    engine.start()


def launch(engine: Engine) -> tuple[Launch, list[str]]:
    """Let the submitter plan and submit; return the launch and the keys of its allocations."""
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    launches, _ = engine.write(submissions.open_work(["local"], engine.now))
    [planned] = [planned for planned in launches if planned.workflow == engine.workflow]
    ids = [f"pid {number}" for number in range(planned.count)]
    tell(engine, LaunchReport(tag=planned.tag, kind="begun"))
    tell(engine, LaunchReport(tag=planned.tag, kind="submitted", external_ids=ids))
    return planned, planned.allocations


def tell(engine: Engine, report: LaunchReport | AllocationReport) -> None:
    store: Any = submission_reports
    kind = store.report_launch if isinstance(report, LaunchReport) else store.report_allocation
    # An answer may be lost: the second time it changes nothing.
    engine.write(kind(report, engine.now))
    engine.write(kind(report, engine.now))


def allocations(engine: Engine) -> list[str]:
    rows = engine.query("SELECT status FROM scheduled_compute_node WHERE workflow_id = :workflow ORDER BY id")
    return [row["status"] for row in rows]
