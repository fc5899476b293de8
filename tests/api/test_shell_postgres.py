"""Two servers on one PostgreSQL database, and the commands that open it directly."""

from __future__ import annotations

import asyncio

import orjson
from click.testing import CliRunner

from lading.api.server_process import ServerOptions
from lading.toolkit.cli.main import main
from tests.lib.service import Service, running_service


async def _refused(service: Service, token: str) -> None:
    async with asyncio.timeout(5):
        while (await service.call("GET", "/server", token=token)).status != 401:
            await asyncio.sleep(0.01)


async def test_what_one_server_commits_the_other_hears(postgres_url: str) -> None:
    options = ServerOptions(postgres_url)
    async with running_service(options) as one, running_service(options) as two:
        assert one.services.server_id == two.services.server_id
        # Each has its owner's token, and both know both.
        await one.ok("GET", "/server", token=two.token)
        made = await one.ok("POST", "/tokens", json={"scopes": ["user"]})
        await two.ok("GET", "/server", token=made["token"])
        await one.ok("DELETE", f"/tokens/{made['id']}")
        await _refused(two, made["token"])
        workflow = (await one.ok("POST", "/workflows", json={"name": "w"}))["_key"]
        url = f"{two.base_url}/workflows/{workflow}/events/stream"
        headers = {"Authorization": f"Bearer {two.token}"}
        async with two.session.get(url, headers=headers) as stream, asyncio.timeout(20):
            await stream.content.readline()
            for number in range(20):
                body = {"category": "test", "number": number}
                await one.ok("POST", f"/workflows/{workflow}/events", json=body)
            seen: list[int] = []
            while len(seen) < 20:
                line = await stream.content.readline()
                document = orjson.loads(line[6:]) if line.startswith(b"data: ") else {}
                if document.get("category") == "test":
                    seen.append(document["number"])
            assert seen == list(range(20))


async def test_an_owner_token_that_moved_on_is_the_only_one_revoked(postgres_url: str) -> None:
    options = ServerOptions(postgres_url)
    async with running_service(options) as one:
        async with running_service(options) as two:
            first = two.token
        async with running_service(options):
            await one.ok("GET", "/server")
            await one.ok("GET", "/server", token=first)


def test_commands_open_the_database_directly(postgres_url: str) -> None:
    def lading(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, [*arguments, "--database", postgres_url])
        return result.exit_code, result.stdout, result.stderr

    code, out, _ = lading("db", "check")
    assert code == 1
    assert "holds no Lading database" in out
    assert "Applied 0001 initial." in lading("db", "upgrade")[1]
    assert "nothing was changed" in lading("db", "upgrade")[1]
    assert lading("db", "check") == (0, "OK\n", "")
    assert lading("db", "verify") == (0, "OK\n", "")
    code, _, told = lading("db", "backup", "/tmp/never-written")
    assert code == 2
    assert "pg_dump --format=custom" in told
    assert lading("token", "create", "--label", "direct")[1].startswith("lading_")
    assert "direct" in lading("token", "list")[1]
