"""The completion script goes to one node, once per run, whatever answers are lost; and old clients' way."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from typing import Any

import pytest

from lading.api.server_process import ServerOptions
from tests.lib.service import Service, running_service

SPECIFICATION = {
    "name": "one",
    "jobs": [{"name": "only", "command": "true"}],
    "config": {
        "workflow_completion_script": "bash tidy.sh",
        "compute_node_resource_stats": {"process": True},
    },
}


NUMBERS = itertools.count(1)


async def begin(server: Service) -> str:
    workflow = await server.ok("POST", "/workflow_specifications", json=SPECIFICATION)
    await server.ok("POST", f"/workflows/{workflow['_key']}/start", json={})
    return str(workflow["_key"])


class Node:
    """A runner's side of the conversation."""

    def __init__(self, server: Service, workflow: str) -> None:
        self.server, self.workflow = server, workflow
        self.token, self.key = secrets.token_urlsafe(32), ""

    async def register(self) -> Node:
        body = {
            "registration_id": secrets.token_hex(8), "session_token": self.token, "hostname": "n1", "pid": 1,
            "boot_id": "b", "resources": {"num_cpus": 4, "memory_bytes": 2**30},
        }  # fmt: skip
        answer = await self.server.ok("POST", f"/workflows/{self.workflow}/compute_nodes/register", json=body)
        self.key = answer["compute_node"]
        return self

    async def post(self, verb: str, body: Any, **given: Any) -> Any:
        path = f"/workflows/{self.workflow}/compute_nodes/{self.key}/{verb}"
        return await self.server.ok("POST", path, json=body, token=self.token, **given)

    async def sync(self, **fields: Any) -> Any:
        # Databases cloned from one template have one server id, and their nodes the same keys: what the
        # process remembers of a node's newest request must not be younger than this test's.
        return await self.post("sync", {"seq": next(NUMBERS), **fields})

    async def run_the_job(self) -> Any:
        answer = await self.sync(free={"num_cpus": 4, "memory_bytes": 2**30})
        [claim] = answer["claims"]
        ended = {"attempt_id": claim["attempt_id"], "cause": "exit", "return_code": 0, "exec_seconds": 1.0}
        return await self.sync(ended=[ended])


async def test_one_node_gets_it_and_reports(server: Service) -> None:
    key = await begin(server)
    first, second = await Node(server, key).register(), await Node(server, key).register()
    assert (await first.post("claim_completion_script", {}))["script"] is None, "jobs are left"
    assert (await first.run_the_job())["has_completion_script"]
    headers = {"Idempotency-Key": "k1"}
    assert (await first.post("claim_completion_script", {}, headers=headers))["script"] == "bash tidy.sh"
    assert not (await second.sync()).get("has_completion_script", False)
    assert (await second.post("claim_completion_script", {}, headers=headers))["script"] is None
    # Its answer was lost: the same claim is the same claim.
    assert (await first.post("claim_completion_script", {}, headers=headers))["script"] == "bash tidy.sh"
    await first.post("report_completion_script", {"run_id": 1, "return_code": 3, "message": "no disk"})
    events = await server.ok("GET", f"/workflows/{key}/events", params={"category": "workflow"})
    last = events["items"][-1]
    assert (last["type"], last["return_code"], last["node_name"]) == ("completion_script", 3, "n1")


async def test_the_claim_lasts_as_long_as_its_node(server: Service) -> None:
    key = await begin(server)
    first, second = await Node(server, key).register(), await Node(server, key).register()
    await first.run_the_job()
    assert (await first.post("claim_completion_script", {}))["script"] == "bash tidy.sh"
    assert (await second.post("claim_completion_script", {}))["script"] is None
    await server.ok("POST", f"/workflows/{key}/compute_nodes/{first.key}/declare_lost")
    assert (await second.sync())["has_completion_script"]
    assert (await second.post("claim_completion_script", {}))["script"] == "bash tidy.sh"
    third = await Node(server, key).register()
    # What the dead one says now does not end the claim of the living.
    await first.post("report_completion_script", {"run_id": 1, "return_code": 1})
    assert (await third.post("claim_completion_script", {}))["script"] is None
    await second.sync(leave=True)
    assert (await third.post("claim_completion_script", {}))["script"] == "bash tidy.sh", (
        "left without a report"
    )
    await third.post("report_completion_script", {"run_id": 1, "return_code": 0})
    await server.ok("POST", f"/workflows/{key}/compute_nodes/{third.key}/declare_lost")
    last = await Node(server, key).register()
    assert (await last.post("claim_completion_script", {}))["script"] is None, "it was reported"


async def test_a_script_that_a_lost_node_finished_is_not_run_again(server: Service) -> None:
    key = await begin(server)
    first, second = await Node(server, key).register(), await Node(server, key).register()
    await first.run_the_job()
    assert (await first.post("claim_completion_script", {}))["script"]
    await server.ok("POST", f"/workflows/{key}/compute_nodes/{first.key}/declare_lost")
    await first.post("report_completion_script", {"run_id": 1, "return_code": 0})
    assert (await second.post("claim_completion_script", {}))["script"] is None


async def test_a_person_with_a_token_takes_nothing_away(server: Service) -> None:
    key = await begin(server)
    node = await Node(server, key).register()
    await node.run_the_job()
    answer = await server.ok("GET", f"/workflows/{key}/is_complete")
    assert answer == {"is_canceled": False, "is_complete": True, "needs_to_run_completion_script": False}
    assert (await node.post("claim_completion_script", {}))["script"]
    refused = await server.call(
        "POST", f"/workflows/{key}/compute_nodes/{node.key}/claim_completion_script", json={}
    )
    assert refused.status == 403


async def test_an_old_worker_without_authentication_is_told_once(tmp_path: Path) -> None:
    options = ServerOptions(str(tmp_path / "lading.db"), auth="none", server_file=tmp_path / "server.json")
    async with running_service(options) as server:
        key = await begin(server)
        await (await Node(server, key).register()).run_the_job()
        path = f"/workflows/{key}/is_complete"
        answers = [await server.ok("GET", path, token=None) for _ in range(2)]
        assert [answer["needs_to_run_completion_script"] for answer in answers] == [True, False]


async def test_a_canceled_workflow_runs_none(server: Service) -> None:
    key = await begin(server)
    node = await Node(server, key).register()
    await server.ok("PUT", f"/workflows/{key}/cancel")
    assert (await node.post("claim_completion_script", {}))["script"] is None


async def test_a_repeated_start_is_one_start(server: Service) -> None:
    workflow = await server.ok("POST", "/workflow_specifications", json=SPECIFICATION)
    path, headers = f"/workflows/{workflow['_key']}/start", {"Idempotency-Key": "again"}
    answers = [await server.ok("POST", path, json={}, headers=headers) for _ in range(2)]
    assert [answer["run_id"] for answer in answers] == [1, 1]
    path = f"/workflows/{workflow['_key']}/restart"
    answers = [await server.ok("POST", path, json={}, headers={"Idempotency-Key": "r"}) for _ in range(2)]
    assert [answer["run_id"] for answer in answers] == [2, 2]


@pytest.mark.parametrize("auto_tune", [True, False])
async def test_auto_tune_begins_with_the_start(server: Service, auto_tune: bool) -> None:
    jobs = [{"name": f"j{number}", "command": "true"} for number in range(4)]
    workflow = await server.ok("POST", "/workflow_specifications", json={**SPECIFICATION, "jobs": jobs})
    await server.ok("POST", f"/workflows/{workflow['_key']}/start", json={"auto_tune": auto_tune})
    found = await server.ok("GET", f"/workflows/{workflow['_key']}/jobs")
    statuses = [job["status"] for job in found["items"]]
    assert statuses == (["ready"] + 3 * ["disabled"] if auto_tune else 4 * ["ready"])
