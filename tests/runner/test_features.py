"""Scripts, binding to CPUs and measurements, with real processes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.runner.conftest import Lab

SHOW = "python3 -c 'import os; print(sorted(os.sched_getaffinity(0)), os.environ[\"LADING_CPUS\"])'"


async def test_jobs_are_bound_to_groups_of_their_own(lab: Lab) -> None:
    usable = sorted(os.sched_getaffinity(0))
    server = await lab.server()
    jobs = [server.job(SHOW) for _ in range(4)]
    await server.add(*jobs)
    node = await lab.node(server, "--cpu-affinity-cpus-per-job", "1", cpus=len(usable))
    assert await node.wait() == 0
    for job in jobs:
        shown = Path(str(server.result(job).stdout_path)).read_text().split()
        assert len(shown) == 2, "each job has one CPU"
        assert shown[1] == "1"
        assert int(shown[0].strip("[]")) in usable
    assert server.registrations[0].resources.num_cpus == len(usable)


async def test_a_group_larger_than_the_machine_is_refused(lab: Lab) -> None:
    server = await lab.server()
    node = await lab.node(server, "--cpu-affinity-cpus-per-job", "5000")
    assert await node.wait() == 2
    assert "accepted is 1 to" in node.log.read_text()


async def test_the_node_that_claims_it_runs_the_completion_script_before_it_leaves(lab: Lab) -> None:
    server = await lab.server(completion_script="bash -c 'echo $LADING_WORKFLOW > completed'")
    await server.add(server.job("true"))
    node = await lab.node(server)
    assert await node.wait() == 0
    assert (lab.folder / "completed").read_text() == "7\n"
    (report,) = server.script_reports
    assert report.return_code == 0
    assert server.script_claims == 1
    assert server.requests[-1][1].leave


async def test_a_completion_script_that_fails_is_reported(lab: Lab) -> None:
    server = await lab.server(completion_script="/no/such/program")
    await server.add(server.job("true"))
    node = await lab.node(server)
    assert await node.wait() == 0
    (report,) = server.script_reports
    assert (report.return_code, "not found" in report.message) == (127, True)


async def test_measurements_of_node_and_jobs_arrive_with_the_last_words(lab: Lab) -> None:
    config = {"compute_node_resource_stats": {"cpu": True, "memory": True, "disk": True, "network": True,
                                              "process": True, "interval": 1}}  # fmt: skip
    server = await lab.server(config=config)
    job = server.job("python3 -c 'import time; end = time.time() + 2.5\nwhile time.time() < end: pass'")
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    told = [statistics for _, request in server.requests for statistics in request.node_statistics]
    rows = [row for statistics in told for row in statistics.stats]
    by_type = {row["resource_type"]: row for row in rows}
    assert set(by_type) == {"CPU", "Memory", "Disk", "Network", "Process"}
    assert by_type["Process"]["job_key"] == job.job_key
    assert by_type["Process"]["maximum"]["cpu_percent"] > 20
    for row in rows:
        for name, average in row["average"].items():
            assert row["minimum"][name] <= average <= row["maximum"][name]
        assert row["num_samples"] >= 1
    assert not (node.output / "stats").exists()


async def test_periodic_samples_are_kept_and_drawn(lab: Lab) -> None:
    statistics = {"cpu": True, "process": True, "interval": 1, "monitor_type": "periodic", "make_plots": True}
    server = await lab.server(config={"compute_node_resource_stats": statistics})
    job = server.job("python3 -c 'import time; end = time.time() + 2.5\nwhile time.time() < end: pass'")
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    with closing(sqlite3.connect(node.output / "stats" / "compute_node_n1.sqlite")) as connection:
        (number,) = connection.execute("SELECT count(*) FROM cpu").fetchone()
        keys = connection.execute("SELECT DISTINCT job_key FROM process").fetchall()
    assert number >= 2
    assert keys == [(job.job_key,)]
    page = (node.output / "stats" / "compute_node_n1.html").read_text()
    assert page.count("<svg") >= 2
    assert "<script" not in page
