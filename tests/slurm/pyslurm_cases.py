"""What only a real pyslurm shows. Collected inside of pyslurm_root.sh alone, by test_pyslurm.py."""

from __future__ import annotations

import os
import signal
import stat
import sys

import pytest

from lading.schedulers.slurm.pyslurm_transport import Pyslurm
from lading.toolkit.backends import ObservedState
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import PermanentError, TransientError
from tests.lib.waiting import until
from tests.slurm.host import Host, document
from tests.slurm.lab import (
    PYSLURM_PYTHON,
    make_backend,
    make_request,
    make_transport,
    until_state,
    waiting_templates,
)

pytestmark = pytest.mark.slurm


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LADING_SBATCH_TEMPLATES", str(waiting_templates(tmp_path / "templates")))


def test_the_cluster_and_pyslurm_are_named(on_a):
    found = make_backend().probe()
    assert found.available
    assert "asked by pyslurm 25.11" in found.reason
    assert "pyslurm" not in sys.modules


def test_a_job_inherits_what_sbatch_would_hand_on(on_a, tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("SITE_OWN", "kept")
    mask = os.umask(0o077)
    try:
        make_backend().submit(make_request(tmp_path, "lading-inherits", submit="pyslurm"))
    finally:
        os.umask(mask)
    dump = tmp_path / "lading-inherits.0.json.environment"
    until(lambda: dump.exists() and "SLURM_JOB_ID" in dump.read_text(), 60.0, "the job's environment")
    lines = dump.read_text().splitlines()
    assert {"SITE_OWN=kept", "SLURM_JOB_NAME=lading-inherits"} <= set(lines)
    assert not [line for line in lines if line.startswith(("SLURM_BITSTR", "PYSLURM_"))]
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600


def test_a_config_that_wants_pyslurm_is_refused_where_commands_are_set(on_a, tmp_path, stand_in):
    backend = make_backend(transport="commands")
    with pytest.raises(PermanentError, match=r"submit: 'pyslurm' .* slurm_transport"):
        backend.submit(make_request(tmp_path, "lading-elsewhere", submit="pyslurm"))
    assert on_a.queue() == []


def test_a_controller_that_does_not_answer_is_weather(on_a):
    transport = make_transport()
    assert _answers(transport)
    controller = int((on_a.folder / "run" / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGSTOP)
    try:
        with pytest.raises(TransientError, match="timed out|Unable to contact|in time"):
            transport.jobs()
    finally:
        os.kill(controller, signal.SIGCONT)
    until(lambda: _answers(transport), 120.0, "it answers again", pause=0.5)


def _answers(transport) -> bool:
    try:
        transport.jobs()
    except TransientError:
        return False
    return True


def test_a_killed_child_is_replaced(on_a, tmp_path, stand_in):
    backend = make_backend()
    [allocation] = backend.submit(make_request(tmp_path, "lading-killed-child"))
    until_state(backend, allocation.external_id, ObservedState.ACTIVE)
    transport = backend._transport
    assert isinstance(transport, Pyslurm)
    assert transport._process._process is not None
    transport._process._process.kill()
    with pytest.raises(TransientError, match="ended with code -9"):
        backend.observe([allocation.external_id])
    backend.cancel([allocation.external_id])
    ended = until_state(backend, allocation.external_id, ObservedState.ENDED)
    assert ended.cause is Cause.ALLOCATION_ENDED


def test_a_workflow_through_pyslurm_alone(on_a, tmp_path):
    host = Host(on_a, tmp_path)
    host.environment |= {
        "LADING_SLURM_TRANSPORT": "pyslurm",
        "LADING_PYSLURM_PYTHON": str(PYSLURM_PYTHON),
    }
    host.start()
    try:
        jobs = [{"name": f"job{number}", "command": "sleep 1"} for number in range(20)]
        key = host.submit(document(jobs, cpus=4, submit="pyslurm", max_allocations=2))
        until(lambda: _is_done(host, key, 20), 240.0, "all jobs are done", pause=1.0)
        called = host.called()
        assert not called.keys() & {"sbatch", "test-only", "squeue", "sacct"}, called
    finally:
        host.stop()


def _is_done(host: Host, key: str, count: int) -> bool:
    done = [job for job in host.listed("jobs", "list", "-w", key) if job["status"] == "done"]
    return len(done) == count
