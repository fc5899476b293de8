"""Allocations whose batch system may start them again: rows that stay open, causes put right, pauses lifted."""

from __future__ import annotations

from typing import Any

SPECIFICATION: dict[str, Any] = {
    "name": "requeued",
    "jobs": [{"name": "one", "command": "true", "resource_requirements": "small"}],
    "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "1m", "runtime": "P0DT1M"}],
    "schedulers": {"slurm_schedulers": [{"name": "nodes", "account": "a", "nodes": 1, "max_allocations": 1}]},
}


class Slurm:
    """A submitter and its nodes, as the server sees them."""

    def __init__(self, server) -> None:
        self.server = server
        self.workflow = self.config = self.row = ""

    async def begin(self) -> dict[str, Any]:
        """Start the workflow; return the launch that its ready job asks for."""
        made = await self.server.ok("POST", "/workflow_specifications", json=SPECIFICATION)
        self.workflow = made["_key"]
        await self.server.ok("POST", f"/workflows/{self.workflow}/start", json={})
        (config,) = (await self.server.ok("GET", f"/workflows/{self.workflow}/slurm_schedulers"))["items"]
        self.config = config["_id"]
        (launch,) = (await self.sync())["launches"]
        (self.row,) = launch["allocations"]
        return launch

    async def sync(self, **said: Any) -> dict[str, Any]:
        body = {"holder": "test", "backends": ["slurm"], **said}
        answer: dict[str, Any] = await self.server.ok("POST", "/submitter/sync", json=body)
        return {"launches": [], "allocations": [], **answer}

    async def observed(self, state: str, **said: Any) -> None:
        await self.sync(allocations=[{"allocation": self.row, "state": state, **said}])

    async def register(self, restart_count: int):
        return await self.server.call(
            "POST", f"/workflows/{self.workflow}/compute_nodes/register",
            json={
                "registration_id": f"copy-{restart_count}", "session_token": f"{restart_count}" * 32,
                "hostname": "n1", "pid": 1, "boot_id": "b", "allocation": self.row,
                "resources": {"num_cpus": 4, "memory_bytes": 2**30}, "restart_count": restart_count,
            },
        )  # fmt: skip

    async def claim_and_leave(self, node: str, restart_count: int) -> None:
        """Take the job, be ended by a signal, report that and leave, as a runner does at TERM."""
        path = f"/workflows/{self.workflow}/compute_nodes/{node}/sync"
        token = f"{restart_count}" * 32
        free = {"num_cpus": 4, "memory_bytes": 2**30}
        (claim,) = (await self.server.ok("POST", path, json={"seq": 1, "free": free}, token=token))["claims"]
        ended = {
            "attempt_id": claim["attempt_id"], "cause": "allocation_ended", "return_code": -15,
            "exec_seconds": 1.0, "signal": 15, "status": "terminated",
        }  # fmt: skip
        await self.server.ok("POST", path, json={"seq": 2, "ended": [ended], "leave": True}, token=token)

    async def allocation(self) -> dict[str, Any]:
        path = f"/workflows/{self.workflow}/scheduled_compute_nodes/{self.row}"
        answer: dict[str, Any] = await self.server.ok("GET", path)
        return answer

    async def causes(self) -> list[str]:
        found = await self.server.ok("GET", f"/workflows/{self.workflow}/attempts")
        return [attempt["cause"] for attempt in found["items"]]


async def submitted(slurm: Slurm) -> None:
    launch = await slurm.begin()
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "begun"}])
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "submitted", "external_ids": ["slurm:lab:7"]}])


async def test_an_allocation_that_works_has_no_reason_to_wait(server):
    slurm = Slurm(server)
    await submitted(slurm)
    await slurm.observed("pending", reason="waits in Slurm's queue (Priority)")
    waiting = await slurm.allocation()
    assert (waiting["status"], waiting["reason"]) == ("pending", "waits in Slurm's queue (Priority)")
    assert (await slurm.register(0)).status == 200
    working = await slurm.allocation()
    assert (working["status"], working.get("reason") or "") == ("active", "")


async def test_a_preempted_allocation_stays_open_and_its_attempts_get_the_true_cause(server):
    slurm = Slurm(server)
    await submitted(slurm)
    await slurm.observed("active", end_seconds=600.0)
    first = await slurm.register(0)
    assert first.status == 200
    await slurm.claim_and_leave(first.json["compute_node"], 0)
    assert (await slurm.allocation())["status"] == "active"
    assert await slurm.causes() == ["allocation_ended"]
    await slurm.observed("pending", reason="back in the queue", earlier_causes=["preempted"])
    allocation = await slurm.allocation()
    assert (allocation["status"], allocation.get("end_ms")) == ("pending", None)
    assert await slurm.causes() == ["preempted"]
    # The second copy may register; a late word about the first one changes nothing of its attempts.
    second = await slurm.register(1)
    assert second.status == 200
    await slurm.claim_and_leave(second.json["compute_node"], 1)
    assert await slurm.causes() == ["preempted", "allocation_ended"]
    await slurm.observed(
        "ended", reason="Slurm ended it: TIMEOUT", proof_of_death=True, cause="allocation_ended"
    )
    assert (await slurm.allocation())["status"] == "complete"
    assert await slurm.causes() == ["preempted", "allocation_ended"]
    assert (await slurm.register(2)).status == 409


async def test_a_short_allocation_keeps_a_quarter_back_at_most(server):
    slurm = Slurm(server)
    await submitted(slurm)
    await slurm.observed("active", end_seconds=100.0)
    node = await slurm.register(0)
    assert 70.0 < node.json["end_seconds"] <= 75.0, "two minutes are asked for by default"
    path = f"/workflows/{slurm.workflow}/compute_nodes/{node.json['compute_node']}/sync"
    answer = await server.ok("POST", path, json={"seq": 1}, token="0" * 32)
    assert 70.0 < answer["end_seconds"] <= 75.0


async def test_how_an_earlier_copy_ended_is_learnt_when_the_next_one_runs_or_has_ended_too(server):
    slurm = Slurm(server)
    await submitted(slurm)
    for copy in (0, 1):
        await slurm.observed("active", end_seconds=600.0)
        node = await slurm.register(copy)
        await slurm.claim_and_leave(node.json["compute_node"], copy)
    assert await slurm.causes() == ["allocation_ended", "allocation_ended"]
    await slurm.observed("active", earlier_causes=[None, "preempted"], end_seconds=600.0)
    assert await slurm.causes() == ["allocation_ended", "preempted"]
    await slurm.observed("active", earlier_causes=["node_lost", "preempted"], end_seconds=600.0)
    assert await slurm.causes() == ["node_lost", "preempted"]


async def test_a_copy_that_is_not_newer_is_turned_away(server):
    slurm = Slurm(server)
    await submitted(slurm)
    assert (await slurm.register(1)).status == 200
    assert (await slurm.register(0)).status == 409


async def test_a_refused_config_is_tried_again_when_changed_or_asked_for(server):
    slurm = Slurm(server)
    launch = await slurm.begin()
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "begun"}])
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "failed", "error": "account: 'a' is unknown"}])
    path = f"/workflows/{slurm.workflow}/slurm_schedulers/{slurm.config.rpartition('/')[2]}"
    stored = await server.ok("GET", path)
    assert stored["paused_reason"] == "account: 'a' is unknown"
    assert (await slurm.sync())["launches"] == []
    await server.ok("PUT", path, json={**stored, "account": "b"})
    (again,) = (await slurm.sync())["launches"]
    assert again["config"]["account"] == "b"
    await slurm.sync(launches=[{"tag": again["tag"], "kind": "begun"}])
    await slurm.sync(launches=[{"tag": again["tag"], "kind": "failed", "error": "no"}])
    asked = {"scheduler_config_id": slurm.config, "count": 2}
    answer = await server.ok("POST", f"/workflows/{slurm.workflow}/allocations", json=asked)
    (by_hand,) = (item for item in (await slurm.sync())["launches"] if item["tag"] == answer["tag"])
    assert by_hand["allocations"] == answer["allocations"]
    assert len(answer["allocations"]) == 2


async def test_why_nothing_runs_is_told_for_a_job_and_for_each_config(server):
    """By the configs' own names, and never by an id."""
    big = {"name": "big", "account": "a", "nodes": 1, "max_allocations": 1, "on_cannot_start": "keep"}
    small = {"name": "small", "account": "a", "nodes": 1, "max_allocations": 1}
    document = {**SPECIFICATION, "schedulers": {"slurm_schedulers": [big, small]}}
    document["resource_requirements"] = [{"name": "small", "num_cpus": 8, "memory": "1m", "runtime": "PT2H"}]
    made = await server.ok("POST", "/workflow_specifications", json=document)
    workflow = made["_key"]
    await server.ok("POST", f"/workflows/{workflow}/start", json={})
    slurm = Slurm(server)
    shaped = {"shape_backends": ["slurm"]}
    offers = {
        "big": {"num_cpus": 16, "memory_bytes": 2**30, "time_limit_seconds": 86_400.0},
        "small": {"num_cpus": 4, "memory_bytes": 2**30, "time_limit_seconds": 3_600.0},
    }
    told = [
        {"config_row": want["config_row"], "rev": want["rev"], "shape": offers[want["config"]["name"]]}
        for want in (await slurm.sync(**shaped))["shapes_wanted"]
    ]
    (launch,) = (await slurm.sync(**shaped, shapes=told))["launches"]
    assert launch["config"]["name"] == "big"
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "begun"}])
    error = {"tag": launch["tag"], "kind": "retry", "error": "no more jobs of this user", "retry_seconds": 60}
    await slurm.sync(launches=[error])
    (job,) = (await server.ok("GET", f"/workflows/{workflow}/jobs"))["items"]

    async def reasons() -> list[str]:
        answer = await server.ok("GET", f"/workflows/{workflow}/jobs/{job['_key']}/explain")
        found: list[str] = answer["reasons"]
        return found

    told_big, told_small = await reasons()
    assert told_big.startswith(
        "big could run it: 1 allocation waiting to start: submission is tried again at 20"
    )
    assert "no more jobs of this user" in told_big
    assert told_small == (
        "small cannot run it: num_cpus 8 asked, 4 offered; runtime 02:00:00 asked, 00:58:00"
        " (the wall time less 120 s for its end) offered"
    )
    await slurm.sync(launches=[{"tag": launch["tag"], "kind": "submitted", "external_ids": ["slurm:lab:7"]}])
    slurm.workflow, (slurm.row,) = workflow, launch["allocations"]
    why = "waits in Slurm's queue (Priority), estimated start 2026-01-01T00:00:00"
    await slurm.observed("pending", reason=why)
    assert (await reasons())[0] == (
        f"big could run it: 1 allocation waiting to start: {why}; no more than its max_allocations, 1"
    )
    progress = await server.ok("GET", f"/workflows/{workflow}/progress")
    assert progress["reasons"] == [
        "1 job is ready, waiting for 1 allocation of big to start.",
        f"an allocation of big: {why}",
    ]
    planned = (await server.ok("GET", f"/workflows/{workflow}/planning"))["configs"]
    assert [
        (one["name"], one["demand"], one["running"], one["pending"], one["wanted"]) for one in planned
    ] == [
        ("big", 1, 0, 1, 1),
        ("small", 0, 0, 0, 0),
    ]
    assert why in planned[0]["why"]
    assert planned[1]["why"] == "no ready job asks for it"


async def test_a_request_for_allocations_names_what_is_wrong_with_it(server):
    slurm = Slurm(server)
    await slurm.begin()
    path = f"/workflows/{slurm.workflow}/allocations"
    refused = await server.call("POST", path, json={"scheduler_config_id": slurm.config, "count": 0})
    assert (refused.status, "count: 0" in refused.error) == (400, True)
    unknown = await server.call("POST", path, json={"scheduler_config_id": "slurm_schedulers__1/9"})
    assert (unknown.status, slurm.config in unknown.error) == (404, True)
