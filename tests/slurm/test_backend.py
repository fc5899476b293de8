"""The backend against a real Slurm, with and without accounting."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest

from lading.schedulers.slurm.records import CallFile
from lading.toolkit.backends import Backend, ObservedState
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import TransientError
from tests.lib.waiting import until
from tests.slurm.lab import make_backend, make_request, until_state, waiting_templates

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def _stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LADING_SBATCH_TEMPLATES", str(waiting_templates(tmp_path / "templates")))


def names_in_queue(cluster):
    return [line.split()[-1] for line in cluster.queue()]


def test_an_allocation_from_its_submission_to_its_end(on_any, tmp_path):
    backend = make_backend()
    assert isinstance(backend, Backend)
    assert backend.probe().available
    request = make_request(tmp_path, "lading-whole-life")
    [allocation] = backend.submit(request)
    assert allocation.index == 0
    assert allocation.external_id.startswith("slurm:lab:")
    active = until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    assert active.end_seconds is not None
    assert 0 < active.end_seconds <= 300
    assert not active.proof_of_death
    assert list(backend.submit(request)) == list(backend.find(request)) == [allocation]
    backend.cancel([allocation.external_id])
    ended = until_state(backend, allocation.external_id, ObservedState.ENDED)
    assert (ended.cause, ended.proof_of_death) == (Cause.ALLOCATION_ENDED, True)
    assert "CANCELLED" in ended.reason
    backend.cancel([allocation.external_id])


def test_equal_allocations_are_one_array(on_any, tmp_path):
    backend = make_backend()
    allocations = backend.submit(make_request(tmp_path, "lading-array", 3))
    assert [allocation.index for allocation in allocations] == [0, 1, 2]
    job = allocations[0].external_id.removesuffix("_1")
    assert [allocation.external_id for allocation in allocations] == [f"{job}_{task}" for task in (1, 2, 3)]
    for allocation in allocations:
        until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    for index in range(3):
        dump = tmp_path / f"lading-array.{index}.json.environment"
        mark = f"LADING_ALLOCATION=lading-array.{index}\n"
        until(partial(_holds, dump, mark), 10.0, mark)
    backend.cancel([allocations[1].external_id])
    until_state(backend, allocations[1].external_id, ObservedState.ENDED)
    states = [seen.state for seen in backend.observe([allocation.external_id for allocation in allocations])]
    assert states == [ObservedState.ACTIVE, ObservedState.ENDED, ObservedState.ACTIVE]


def _holds(path, text):
    return path.exists() and text in path.read_text()


def test_jobs_of_their_own_where_arrays_are_not_wanted(on_a, tmp_path):
    backend = make_backend()
    request = make_request(tmp_path, "lading-apart", 2, array=False)
    allocations = backend.submit(request)
    assert [allocation.index for allocation in allocations] == [0, 1]
    assert sorted(names_in_queue(on_a)) == ["lading-apart-0", "lading-apart-1"]
    # One answer was lost: the other job stays, and no third one comes.
    CallFile(request.state_directory, "lading-apart-1").begin()
    assert list(make_backend().submit(request)) == list(allocations)
    assert len(on_a.queue()) == 2


def test_a_lost_answer_is_found_by_name(on_any, tmp_path):
    request = make_request(tmp_path, "lading-lost-answer")
    submitted = make_backend().submit(request)
    # Killed between the answer of sbatch and its record.
    CallFile(request.state_directory, request.tag).begin()
    assert _asked_until_certain(make_backend(), request) == list(submitted)
    assert len(on_any.queue()) == 1


def test_a_call_that_made_nothing_is_made_again_only_when_slurm_knows_nothing(on_any, tmp_path):
    request = make_request(tmp_path, "lading-never-called")
    CallFile(request.state_directory, request.tag).begin()
    backend = make_backend()
    assert _asked_until_certain(backend, request) == []
    assert len(backend.submit(request)) == 1


def _asked_until_certain(backend, request):
    def asked():
        try:
            return [list(backend.find(request))]
        except TransientError:
            return None

    return until(asked, 20.0, "an answer of find")[0]


def test_nobody_judges_while_an_sbatch_lives(on_a, tmp_path):
    request = make_request(tmp_path, "lading-slow-sbatch")
    file = CallFile(request.state_directory, request.tag)
    with file.locked() as lock:
        file.begin()
        # The submitter is killed, the sbatch that it started is not.
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    try:
        with pytest.raises(TransientError, match="not answered"):
            make_backend().submit(request)
    finally:
        child.kill()
        child.wait()
    assert on_a.queue() == []


def test_a_requeued_job_is_the_same_allocation_and_no_proof(on_a, tmp_path):
    backend = make_backend()
    [allocation] = backend.submit(make_request(tmp_path, "lading-requeued"))
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    job = allocation.external_id.rpartition(":")[2]
    on_a.run("scontrol", "requeue", job)
    again = until_state(backend, allocation.external_id, ObservedState.PENDING)
    assert "back into the queue" in again.reason
    assert not again.proof_of_death

    # Slurm holds it back until the first copy's credential has expired (cred_expire in cluster.sh).
    until_state(backend, allocation.external_id, ObservedState.ACTIVE, seconds=120.0)


def test_a_suspended_job_is_suspended(on_a, tmp_path):
    backend = make_backend()
    [allocation] = backend.submit(make_request(tmp_path, "lading-suspended"))
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    job = allocation.external_id.rpartition(":")[2]
    on_a.run("scontrol", "suspend", job)
    until_state(backend, allocation.external_id, ObservedState.SUSPENDED)
    on_a.run("scontrol", "resume", job)
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)


@pytest.mark.sbatch
def test_a_failed_node_proves_nothing(on_a, tmp_path):
    backend = make_backend()
    [allocation] = backend.submit(
        make_request(tmp_path, "lading-node-fail", partition="single", extra="--no-requeue")
    )
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    on_a.run("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    try:
        ended = until_state(backend, allocation.external_id, ObservedState.ENDED)
        assert (ended.cause, ended.proof_of_death) == (Cause.NODE_LOST, False)
    finally:
        # Its slurmd may have reported meanwhile, and be up already (ReturnToService): then this is refused.
        on_a.run("scontrol", "update", "nodename=n1", "state=resume", check=False)
    until(lambda: "down" not in on_a.run("sinfo", "-hN", "-o", "%T"), 60.0, "n1 is back")


def test_a_job_that_slurm_does_not_know_is_judged_late_and_never_proven_dead(on_any):
    now = [0.0]
    backend = make_backend(monotonic=lambda: now[0])
    backend._queue._monotonic = lambda: now[0]
    [first] = backend.observe(["slurm:lab:999999"])
    assert first.state is ObservedState.UNKNOWN
    now[0] = 299.0
    assert backend.observe(["slurm:lab:999999"])[0].state is ObservedState.UNKNOWN
    now[0] = 301.0
    [last] = backend.observe(["slurm:lab:999999"])
    assert (last.state, last.proof_of_death) == (ObservedState.ENDED, False)
    assert "vanished" in last.reason


def test_no_secret_reaches_the_job(on_a, tmp_path, monkeypatch):
    monkeypatch.setenv("LADING_TOKEN", "hush-hush")
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "closed")
    backend = make_backend()
    [allocation] = backend.submit(make_request(tmp_path, "lading-secrets"))
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    dump = tmp_path / "lading-secrets.0.json.environment"
    until(lambda: dump.exists() and "SLURM_JOB_ID" in dump.read_text(), 10.0, "the job's environment")
    job = allocation.external_id.rpartition(":")[2]
    assert "hush-hush" not in dump.read_text() + on_a.run("scontrol", "show", "job", job)
    assert "SLURM_JOB_PARTITION=main" in dump.read_text()


def test_the_loopback_of_the_host_is_not_that_of_a_node(on_a):
    program = "import socket,sys; s=socket.socket(); s.bind((sys.argv[1],0)); s.listen(); print(s.getsockname()[1],flush=True); sys.stdin.read()"
    reach = "import socket,sys; socket.create_connection((sys.argv[1],int(sys.argv[2])),2)"
    for host, is_reached in (("127.0.0.1", False), (on_a.address, True)):
        with subprocess.Popen(
            [sys.executable, "-c", program, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            assert (on_a.on_node("n1", sys.executable, "-c", reach, host, port).returncode == 0) is is_reached
            server.kill()


def test_a_preempted_job_says_so_when_it_waits_again(on_a, tmp_path):
    backend = make_backend()
    whole = {"nodes": 2, "cpus": None, "mem": "1G", "partition": "main"}
    [allocation] = backend.submit(make_request(tmp_path, "lading-preempted", config=whole))
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    on_a.run("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60")

    def told():
        [seen] = backend.observe([allocation.external_id])
        return seen if seen.state is ObservedState.PENDING and seen.earlier_causes else None

    seen = until(told, 40.0, "why it waits again", pause=0.5)
    assert seen is not None
    assert (seen.earlier_causes, seen.proof_of_death) == ((Cause.PREEMPTED,), False)
    assert "after PREEMPTED" in seen.reason
