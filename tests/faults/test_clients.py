"""Other clients change what runs. The promise: never two at once, and no disturbance without need."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.lab import NUM_CPUS, NUM_JOBS, Lab
from tests.lib.waiting import until


def _running(lab: Lab, workflow: str) -> list[dict[str, Any]]:
    with lab.client() as client:
        return list(client.list_jobs(workflow, status="submitted"))


def test_fields_of_running_jobs_are_changed(lab: Lab) -> None:
    """A new priority and a new name are no reason to stop a job, to start it again or to lose its result."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    changed = 0
    for ends in (20, 80, 140):
        lab.await_ends(ends)
        for job in _running(lab, workflow):
            path = f"/workflows/{workflow}/jobs/{job['_key']}"
            status, fresh = lab.call("PUT", path, {**job, "priority": 5, "name": "another"})
            if status == 200:
                changed += 1
                # Its history is looked up by its name.
                while status == 200 and fresh["name"] != job["name"]:
                    status, fresh = lab.call("PUT", path, {**fresh, "name": job["name"]})
                    if status == 409:
                        status, fresh = lab.call("GET", path)
            else:
                # It has ended since it was listed.
                assert status == 409, fresh
    assert changed > NUM_CPUS
    lab.await_completion(workflow)
    lab.check(workflow, again=())


@pytest.mark.parametrize("way", ["PUT", "manage_status_change", "cancel and retry"])
def test_running_jobs_are_taken_away(lab: Lab, way: str) -> None:
    """A job that is reset while it runs starts again only when nothing of its first attempt runs."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    taken: list[str] = []
    for ends in (20, 110):
        lab.await_ends(ends)
        for job in _running(lab, workflow):
            path = f"/workflows/{workflow}/jobs/{job['_key']}"
            if way == "PUT":
                status, answer = lab.call("PUT", path, {**job, "status": "ready"})
            elif way == "manage_status_change":
                status, answer = lab.call("PUT", f"{path}/{way}/ready/{job['_rev']}/1")
            else:
                status, answer = lab.call("POST", f"{path}/cancel")
                if status == 200:
                    status, answer = lab.call("POST", f"{path}/retry")
            # Refused when it has ended since it was listed.
            assert status in {200, 400, 409}, answer
            if status == 200:
                taken.append(job["name"])
    assert len(taken) > NUM_CPUS / 2
    lab.await_completion(workflow)
    lab.check(workflow, again=taken)
    assert sum(len(starts) for starts in lab.history().values()) <= NUM_JOBS + len(taken)


def test_all_jobs_are_reset_while_they_run(lab: Lab) -> None:
    """reset_job_status and initialize_jobs in the middle of a run: each job has ended before it starts again.

    There are free CPUs for all of them to start at once, and they take a second to end when they are told to.
    """
    lab.start_submitter()
    schedulers = [{"name": "local", "num_cpus": 2 * NUM_CPUS, "memory": "64g", "max_allocations": 1}]
    specification = lab.specification([4.0] * NUM_CPUS, schedulers=schedulers)
    for job in specification["jobs"]:
        job["command"] += " 1"
        job["supports_termination"] = True
    workflow = lab.submit(specification)
    until(lambda: len(_running(lab, workflow)) == NUM_CPUS, 30, "all jobs run")
    for action in ("reset_job_status", "initialize_jobs"):
        status, answer = lab.call("POST", f"/workflows/{workflow}/{action}")
        assert status == 200, answer
    lab.await_completion(workflow)
    lab.check(workflow, count=NUM_CPUS)
    assert {len(starts) for starts in lab.history().values()} == {2}
