"""Days on a login node: allocations that are read and drained, and runs inside an allocation."""

from __future__ import annotations

import pytest

from tests.lib.waiting import until
from tests.slurm.test_workflows import Host, document

pytestmark = pytest.mark.slurm


@pytest.fixture
def host(on_a, tmp_path):
    made = Host(on_a, tmp_path)
    made.start()
    yield made
    made.stop()


def test_an_allocation_shows_its_own_output_and_is_drained(host):
    jobs = [{"name": f"job{number}", "command": "sleep 3"} for number in range(40)]
    key = host.submit(document(jobs, set_up=["echo 'set up here'"]))
    nodes = until(lambda: host.listed("nodes", "list", "-w", key), 60.0, "a runner", pause=0.3)
    (allocation,) = host.listed("allocations", "list", "-w", key)
    # The allocation's one place is kept by the config's max_allocations: no second one comes meanwhile.
    shown = host.lading("allocations", "logs", allocation["_key"], "-w", key)
    assert shown.returncode == 0, shown.stderr
    assert "set up here" in shown.stdout
    drained = host.lading("allocations", "drain", allocation["_key"], "-w", key)
    assert drained.returncode == 0, drained.stderr
    followed = host.lading("allocations", "logs", allocation["_key"], "-w", key, "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "drain" in followed.stdout
    attempts = host.listed("jobs", "attempts", "-w", key)
    mine = [item for item in attempts if item["compute_node"] == nodes[0]["_key"]]
    assert {item["cause"] for item in mine} == {"exit"}, "what ran was finished"
    assert len(mine) < len(jobs), "nothing new was taken"
