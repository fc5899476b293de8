"""Who may do what: scopes, expiry, revocation within a second, tokens of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lading.api.server_process import ServerOptions
from lading.api.services import tokens
from lading.api.services.identity import Principal, Scope
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.clock import SystemClock
from lading.toolkit.private_files import read_private
from tests.lib.service import Service, running_service

EMPTY_WORKFLOW = "INSERT INTO workflow (id, config, auto_tune_status, owner) VALUES (:id, '{}', '{}', :owner)"


class SettableClock(SystemClock):
    """Runs as the system's does, from where a test has put it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def wall(self) -> float:
        return super().wall() + self.ahead


async def execute(service: Service, text: str, **parameters: Any) -> None:
    def work(_effects: Effects) -> UseCase:
        yield Statement(text, parameters)

    await service.database.write(work)


async def add_workflow(service: Service, number: int = 5_000, owner: str = "ana") -> str:
    await execute(service, EMPTY_WORKFLOW, id=number, owner=owner)
    return str(number)


async def secret_of(service: Service, scope: str, **given: Any) -> str:
    return str((await service.ok("POST", "/tokens", json={"scopes": [scope], **given}))["token"])


async def test_without_a_valid_token_nothing_but_the_public_paths(server: Service) -> None:
    for token in (None, "lading_wrong", "é"):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await server.call("GET", "/server", token=None, headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    basic = await server.call("GET", "/server", token=None, headers={"Authorization": "Basic eDp5"})
    assert basic.status == 401
    assert (await server.ok("GET", "/health", token=None))["database"] == "ok"


async def test_only_the_hash_is_stored_and_shown(server: Service) -> None:
    made = await server.ok("POST", "/tokens", json={"scopes": ["user"], "user": "ana", "label": "laptop"})
    assert made["token"].startswith("lading_")
    assert len(made["token"]) >= 50
    listed = await server.call("GET", "/tokens")
    assert made["token"].encode() not in listed.content
    [item] = [item for item in listed.json["items"] if item["id"] == made["id"]]
    assert (item["user"], item["label"], item["scopes"]) == ("ana", "laptop", ["user"])


async def test_scopes(server: Service) -> None:
    user = await secret_of(server, "user", user="ana")
    read = await secret_of(server, "read", user="ana")
    workflow = await add_workflow(server)
    node = await secret_of(server, "node", workflow=workflow)
    assert (await server.call("GET", "/tokens", token=read)).status == 200
    answer = await server.call("POST", "/tokens", json={"scopes": ["read"]}, token=read)
    assert answer.status == 403
    assert "scope read may not POST /tokens; accepted: user, admin" in answer.error
    assert (await server.call("GET", "/tokens", token=node)).status == 403
    assert (await server.call("POST", "/shutdown", token=user)).status == 403


async def test_users_see_and_make_their_own_only(server: Service) -> None:
    ana = await secret_of(server, "user", user="ana")
    bob = await secret_of(server, "user", user="bob")
    own = await server.ok("GET", "/tokens", token=ana)
    assert {item["user"] for item in own["items"]} == {"ana"}
    made = await server.ok("POST", "/tokens", json={"scopes": ["read"]}, token=ana)
    assert made["user"] == "ana"
    for body in ({"scopes": ["admin"]}, {"scopes": ["user"], "user": "bob"}):
        assert (await server.call("POST", "/tokens", json=body, token=ana)).status == 403
    assert (await server.call("DELETE", f"/tokens/{made['id']}", token=bob)).status == 404
    workflow = await add_workflow(server, owner="ana")
    body = {"scopes": ["node"], "workflow": workflow}
    assert (await server.call("POST", "/tokens", json=body, token=bob)).status == 404
    assert (await server.call("POST", "/tokens", json=body, token=ana)).status == 200


async def test_a_revoked_token_ends_at_once(server: Service) -> None:
    made = await server.ok("POST", "/tokens", json={"scopes": ["user"]})
    assert (await server.call("GET", "/server", token=made["token"])).status == 200
    first = await server.ok("DELETE", f"/tokens/{made['id']}")
    assert (await server.call("GET", "/server", token=made["token"])).status == 401
    again = await server.ok("DELETE", f"/tokens/{made['id']}")
    assert again["revoked_at"] == first["revoked_at"]
    assert made["id"] not in {item["id"] for item in (await server.ok("GET", "/tokens"))["items"]}
    everything = await server.ok("GET", "/tokens", params={"all": "true"})
    assert made["id"] in {item["id"] for item in everything["items"]}


async def test_a_token_that_another_server_revoked_ends_within_a_second(location: str) -> None:
    clock = SettableClock()
    async with running_service(ServerOptions(location), clock) as service:
        made = await service.ok("POST", "/tokens", json={"scopes": ["user"]})
        await service.ok("GET", "/server", token=made["token"])
        # As another server's transaction does: no effects are published here.
        await execute(service, "UPDATE token SET revoked_ms = 1 WHERE id = :id", id=int(made["id"]))
        clock.ahead = 1.001
        assert (await service.call("GET", "/server", token=made["token"])).status == 401


async def test_an_expired_token_is_refused(location: str) -> None:
    clock = SettableClock()
    async with running_service(ServerOptions(location), clock) as service:
        secret = await secret_of(service, "user", expires_seconds=10)
        assert (await service.call("GET", "/server", token=secret)).status == 200
        clock.ahead = 11.1
        assert (await service.call("GET", "/server", token=secret)).status == 401


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"scopes": []}, "accepted is a list with one of admin, node, read, user"),
        ({"scopes": ["user", "admin"]}, "scopes: "),
        ({"scopes": ["root"]}, "scopes: "),
        ({"scopes": ["user"], "expires_seconds": 0}, "expires_seconds: 0.0 is not accepted"),
        ({"scopes": ["user"], "expires_seconds": 1e30}, "expires_seconds: "),
        ({"scopes": ["user"], "label": "x" * 201}, "label: "),
        ({"scopes": ["user"], "workflow": "1"}, "workflow: "),
        ({"scopes": ["node"]}, "workflow: "),
    ],
)
async def test_bad_tokens_are_refused_by_name(server: Service, body: dict[str, Any], told: str) -> None:
    answer = await server.call("POST", "/tokens", json=body)
    assert answer.status == 400
    assert told in answer.error
    assert answer.json["violations"]


async def test_a_node_file_opens_its_row_until_that_is_complete(server: Service) -> None:
    workflow = await add_workflow(server)
    await execute(
        server,
        "INSERT INTO scheduled_compute_node (id, workflow_id, scheduler_config_id, status) "
        "VALUES (6000, :workflow, 'local_schedulers/1', 'uninitialized')",
        workflow=int(workflow),
    )
    path = f"/workflows/{workflow}/scheduled_compute_nodes"
    made = await server.ok("POST", f"{path}/6000/node_token")
    assert made["server_id"] == server.services.server_id
    found = await tokens.find(server.database, tokens.hash_of(made["token"]), 1)
    assert found is not None
    assert found == Principal("ana", Scope.NODE, found.token_id, int(workflow), 6000)
    assert (await server.call("GET", "/server", token=made["token"])).status == 403
    # The workflow's own documents are for the session token that registration gives.
    answer = await server.call("GET", f"/workflows/{workflow}/jobs", token=made["token"])
    assert answer.status == 403
    await execute(server, "UPDATE scheduled_compute_node SET status = 'complete' WHERE id = 6000")
    assert await tokens.find(server.database, tokens.hash_of(made["token"]), 1) is None
    assert (await server.call("POST", f"{path}/6000/node_token")).status == 409
    assert (await server.call("POST", f"{path}/6001/node_token")).status == 404
    await execute(server, "DELETE FROM scheduled_compute_node WHERE id = 6000")
    assert await tokens.find(server.database, tokens.hash_of(made["token"]), 1) is None


async def test_each_start_has_an_owner_token_of_its_own(location: str, tmp_path: Path) -> None:
    options = ServerOptions(location, server_file=tmp_path / "server.json")
    async with running_service(options) as service:
        first = service.token
        assert read_private(tmp_path / "token").decode().strip() == first
    async with running_service(options) as service:
        assert service.token != first
        assert (await service.call("GET", "/server", token=first)).status == 401
        assert (await service.call("GET", "/server")).status == 200


async def test_with_auth_none_everybody_is_the_owner(tmp_path: Path) -> None:
    async with running_service(ServerOptions(str(tmp_path / "db"), auth="none")) as service:
        assert (await service.call("GET", "/server", token=None)).status == 200
        described = await service.ok("GET", "/server", token="whatever")
        assert [item["part"] for item in described["degraded"]] == ["authentication"]


async def test_with_auth_none_a_node_is_still_told_by_its_session(tmp_path: Path) -> None:
    async with running_service(ServerOptions(str(tmp_path / "db"), auth="none")) as service:
        workflow = (await service.ok("POST", "/workflows", json={"name": "w"}, token=None))["_key"]
        body = {
            "registration_id": "r1",
            "session_token": "s" * 43,
            "hostname": "here",
            "pid": 1,
            "boot_id": "b",
            "resources": {"num_cpus": 1, "memory_bytes": 2**30},
        }
        node = await service.ok(
            "POST", f"/workflows/{workflow}/compute_nodes/register", json=body, token=None
        )
        path = f"/workflows/{workflow}/compute_nodes/{node['compute_node']}/sync"
        assert (await service.call("POST", path, json={"seq": 1}, token=None)).status == 403
        assert (await service.ok("POST", path, json={"seq": 1}, token="s" * 43))["seq"] == 1
