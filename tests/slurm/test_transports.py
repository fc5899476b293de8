"""The ways of asking Slurm answer alike, on a real cluster."""

from __future__ import annotations

import pytest

from lading.schedulers.slurm.programs import Programs
from lading.schedulers.slurm.transport import Transport
from tests.lib.waiting import until
from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def transport() -> Transport:
    return Programs()


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


def test_the_accounting_tells_how_each_copy_ended(on_a: Cluster, transport: Transport):
    job = _submitted(on_a, "-N1")
    for _ in range(2):
        # Slurm holds it back until the copy before's credential has expired (cred_expire in cluster.sh).
        until(lambda: _state_is(transport, job, "RUNNING"), 120.0, "it runs", pause=0.2)
        on_a.run("scontrol", "requeue", job)

    def known() -> bool:
        [record] = transport.records([job])
        return record.earlier_states == ("REQUEUED", "REQUEUED")

    until(known, 60.0, "both copies are recorded", pause=0.5)


def test_partitions_and_nodes_are_those_of_the_cluster(on_a: Cluster, transport: Transport):
    partitions = {partition.name: partition for partition in transport.partitions()}
    main = partitions["main"]
    assert (main.is_default, main.is_up, main.max_seconds, main.total_nodes) == (True, True, 86_400, 2)
    assert not partitions["closed"].is_up
    assert {size.num_cpus for size in transport.node_sizes("")} == {16}
    assert len(transport.node_sizes("single")) == 1
