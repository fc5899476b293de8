"""The ways of asking Slurm answer alike, on a real cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lading.schedulers.slurm.listing import Job
from lading.schedulers.slurm.transport import Transport
from lading.toolkit.errors import PermanentError
from tests.lib.waiting import until
from tests.slurm.conftest import Cluster
from tests.slurm.lab import make_transport

pytestmark = pytest.mark.slurm


@pytest.fixture
def transport() -> Transport:
    return make_transport()


def _submitted(cluster: Cluster, *options: str) -> str:
    command = ["sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", "sleep 300"]
    return cluster.run(*command).strip().partition(";")[0]


def _state_is(transport: Transport, identity: str, state: str) -> bool:
    return any(job.identity == identity and job.state == state for job in transport.jobs())


def test_only_what_waits_is_taken_back(on_any: Cluster, transport: Transport):
    runs, waits = _submitted(on_any), _submitted(on_any, "--hold")
    array = _submitted(on_any, "--array=1-3%1")
    until(lambda: _state_is(transport, runs, "RUNNING"), 60.0, "one runs")
    until(lambda: _state_is(transport, f"{array}_1", "RUNNING"), 60.0, "a task runs")
    transport.take_back([runs, waits, f"{array}_1", f"{array}_2", "999999"])
    until(lambda: _state_is(transport, waits, "CANCELLED"), 60.0, "what waited is canceled")
    until(lambda: _state_is(transport, f"{array}_2", "CANCELLED"), 60.0, "the task that waited is canceled")
    for identity in (runs, f"{array}_1"):
        assert _state_is(transport, identity, "RUNNING")
    assert _state_is(transport, f"{array}_3", "PENDING")
    transport.take_back([waits])


def test_a_task_that_waits_is_canceled_alone_and_its_end_is_seen(on_any: Cluster, transport: Transport):
    array = _submitted(on_any, "--array=1-4", "--hold")
    transport.cancel([f"{array}_3", f"{array}_9", "999999"])
    until(lambda: _state_is(transport, f"{array}_3", "CANCELLED"), 60.0, "it is canceled")
    assert all(_state_is(transport, f"{array}_{task}", "PENDING") for task in (1, 2, 4))
    transport.cancel([f"{array}_{task}" for task in (1, 2, 3, 4)])
    # Of the last one some releases forget which it was.
    until(lambda: not _waiting(transport), 60.0, "none waits")
    assert {f"{array}_1", f"{array}_2", f"{array}_3"} <= {
        job.identity for job in transport.jobs() if job.state == "CANCELLED"
    }


def _waiting(transport: Transport) -> list[Job]:
    return [job for job in transport.jobs() if job.state == "PENDING"]


def test_where_changes_are_refused_only_what_is_certain_is_ended(
    on_a: Cluster, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    array = _submitted(on_a, "--array=1-4", "--hold")
    # As a job_submit plugin of a site does.
    shim = tmp_path / "scontrol"
    shim.write_text("#!/bin/sh\necho 'slurm_update error: Access/permission denied' >&2\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PermanentError, match="denied"):
        transport.take_back([f"{array}_2"])
    assert all(_state_is(transport, f"{array}_{task}", "PENDING") for task in (1, 2, 3, 4))
    transport.cancel([f"{array}_2"])
    until(lambda: not _state_is(transport, f"{array}_2", "PENDING"), 60.0, "it is canceled")
    assert all(_state_is(transport, f"{array}_{task}", "PENDING") for task in (1, 3, 4))


def test_the_queue_tells_of_each_task(on_a: Cluster, transport: Transport):
    held, odd = (
        _submitted(on_a, "--hold", "-J", "a|b"),
        _submitted(on_a, "--hold", "--array=1-60:7,80,95,99-101"),
    )
    runs = _submitted(on_a, "--time=10", "-N1")
    until(lambda: _state_is(transport, runs, "RUNNING"), 60.0, "it runs")
    jobs = {job.identity: job for job in transport.jobs() if job.state in {"PENDING", "RUNNING"}}
    tasks = {*range(1, 61, 7), 80, 95, 99, 100, 101}
    assert jobs.keys() == {held, runs, *(f"{odd}_{task}" for task in tasks)}
    assert (jobs[held].name, jobs[held].reason) == ("a|b", "JobHeldUser")
    left = jobs[runs].left_seconds
    assert left is not None
    assert 500 < left <= 600
    assert jobs[runs].nodes in {"n1", "n2"}
    assert jobs[runs].start[4] == "-"


def test_the_accounting_tells_how_each_copy_ended(on_a: Cluster, transport: Transport):
    job = _submitted(on_a, "-N1", "-J", "thrice")
    for _ in range(2):
        # Slurm holds it back until the copy before's credential has expired (cred_expire in cluster.sh).
        until(lambda: _state_is(transport, job, "RUNNING"), 120.0, "it runs", pause=0.2)
        on_a.run("scontrol", "requeue", job)

    def known() -> bool:
        return [record.earlier_states for record in transport.records([job])] == [("REQUEUED", "REQUEUED")]

    until(known, 60.0, "both copies are recorded", pause=0.5)
    assert [record.identity for record in transport.records_named("thrice")] == [job]
    assert list(transport.records_named("never")) == []


def test_the_accounting_tells_of_tasks_that_were_canceled_together(on_a: Cluster, transport: Transport):
    array = _submitted(on_a, "--hold", "--array=2-70:2")
    seen = ("sacct", "-X", "-n", "-P", "-j", array, "--format=JobID")
    until(lambda: "[" in on_a.run(*seen), 60.0, "the accounting knows that they wait", pause=0.5)
    assert not any(job.identity == f"{array}_2" for job in transport.records([array]))
    on_a.run("scancel", array)

    def recorded() -> list[Job]:
        return [job for job in transport.records([array]) if job.state == "CANCELLED"]

    until(recorded, 60.0, "they are recorded", pause=0.5)
    assert {job.identity for job in recorded()} >= {f"{array}_{task}" for task in range(2, 71, 2)}


def test_partitions_and_nodes_are_those_of_the_cluster(on_a: Cluster, transport: Transport):
    partitions = {partition.name: partition for partition in transport.partitions()}
    main = partitions["main"]
    assert (main.is_default, main.is_up, main.max_seconds, main.total_nodes) == (True, True, 86_400, 2)
    assert (main.allow_accounts, main.deny_accounts, main.allow_qos) == (None, (), None)
    assert partitions["single"].max_nodes == 1
    assert not partitions["closed"].is_up
    assert {(size.num_cpus, size.memory_bytes) for size in transport.node_sizes("")} == {(16, 64_000 * 2**20)}
    assert len(transport.node_sizes("single")) == 1
    site = transport.site()
    assert (site.cluster, site.has_accounting) == ("lab", True)
    assert (site.minimum_age_seconds, site.largest_array) == (300, 1001)
