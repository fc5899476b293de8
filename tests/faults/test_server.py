"""Kill the server, and lose its answers. The promise: an outage shorter than the lease costs nothing."""

from __future__ import annotations

import re

from tests.faults.lab import Lab, proxied
from tests.lib.proxy import LossyProxy


def test_killed_and_restarted(lab: Lab) -> None:
    """Killed three times and started again on the same database and port: one start of every job."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    for ends in (30, 80, 130):
        lab.await_ends(ends)
        lab.kill_server()
        # Jobs end meanwhile, and nobody can be told.
        lab.await_ends(ends + 20)
        lab.start_server()
    lab.await_completion(workflow)
    lab.check(workflow, again=())


def test_lost_answers(lab: Lab) -> None:
    """Every fifth answer to a node, and every seventh to the submitter, is lost: no claim, no report is."""

    def loses(path: str, number: int) -> bool:
        return number % (5 if re.search(r"/compute_nodes/\d+/sync$", path) else 7) == 3

    with LossyProxy("127.0.0.1", lab.port, loses) as proxy:
        lab.start_submitter(proxied(lab, proxy.url))
        workflow = lab.submit(lab.specification())
        lab.await_completion(workflow)
        assert proxy.lost > 10
        lab.check(workflow, again=())
        with lab.client() as client:
            assert len(list(client.list_compute_nodes(workflow))) == 1
