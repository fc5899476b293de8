"""The command line against a real server with an empty database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lading.api.server_process import ServerOptions
from lading.toolkit.cli.main import main
from lading.toolkit.client import Lading, Target
from lading.toolkit.client.sync import LoopThread
from tests.lib.service import running_service


@dataclass
class Shell:
    """A person at a prompt whose settings name the server."""

    client: Lading
    server_file: Path

    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments), prog_name="lading")

    def ok(self, *arguments: str) -> str:
        result = self.call(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--format", "json"))

    def refused(self, *arguments: str) -> str:
        result = self.call(*arguments)
        assert result.exit_code == 2, result.output
        return result.stderr


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    server_file = tmp_path / "server.json"
    thread, stack = LoopThread(), AsyncExitStack()
    options = ServerOptions(str(tmp_path / "lading.db"), server_file=server_file)
    thread.run(stack.enter_async_context(running_service(options)))
    target = Target.from_server_file(server_file)
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(target.token or "")
    monkeypatch.setenv("LADING_SERVER_URL", target.url)
    monkeypatch.setenv("LADING_TOKEN_FILE", str(token))
    with Lading(target) as client:
        yield Shell(client, server_file)
    thread.run(stack.aclose())
    thread.close()
