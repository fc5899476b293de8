from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lading.toolkit.cli.main import main
from tests.unit.client.scripted_server import Answer, ScriptedServer, Seen, page

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("LADING_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def lading() -> Invoke:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="lading")

    return invoke


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    monkeypatch.setenv("LADING_SERVER_URL", scripted.url)
    yield scripted
    scripted.close()


def progress(*, sequence: int = 9, **fields: Any) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "run_id": 1,
        "counts": {"done": 2, "canceled": 1},
        "num_failed": 1,
        "is_complete": True,
        "is_canceled": False,
        "active_nodes": 0,
        "open_allocations": 0,
        "reasons": [],
        **fields,
    }


PLANNING = [
    {
        "scheduler_config_id": "slurm_schedulers__7/99", "name": "big", "demand": 12, "running": 1, "pending": 2,
        "wanted": 3, "why": "2 allocations waiting to start: waits in Slurm's queue (Priority)", "retry_at": None,
    },
    {
        "scheduler_config_id": "slurm_schedulers__7/98", "name": "small", "demand": 0, "running": 0, "pending": 0,
        "wanted": 0, "why": "paused: no such account", "retry_at": None,
    },
]  # fmt: skip


def attempt(job_key: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "attempt_id": f"a{job_key}",
        "job_key": job_key,
        "job_name": name,
        "run_id": 1,
        "number": 1,
        "state": "ended",
        "compute_node": "3",
        "hostname": "n1",
        "claimed_at": "2024-05-02T10:11:12.500Z",
        "started_at": "2024-05-02T10:11:12.600Z",
        "ended_at": "2024-05-02T10:11:13.600Z",
        "cause": "exit",
        "return_code": 0,
        "signal": None,
        "exec_seconds": 1.0,
        "stdout_path": None,
        "stderr_path": None,
        "message": "",
        **fields,
    }


def filtered(items: list[dict[str, Any]]) -> Callable[[Seen], Answer]:
    """Answer a list as the server does: exact equality on the fields that are given."""

    def answer(seen: Seen) -> Answer:
        given = {name: value for name, value in seen.query.items() if name not in {"skip", "limit"}}
        found = [
            item
            for item in items
            if all(str(item.get(name)).lower() == value.lower() for name, value in given.items())
        ]
        return Answer(page(found))

    return answer


@pytest.fixture
def workflow(server: ScriptedServer, work: Path) -> ScriptedServer:
    """A server with one ended workflow: `good` succeeded, `bad` exited with 3, `after` was canceled."""
    stderr = work / "bad.e"
    stderr.write_text("\n".join(f"line {number}" for number in range(1, 31)) + "\n\x1b[31mred\n")
    stdout = work / "good.o"
    stdout.write_text("hello\nworld\n")
    jobs = [
        {"_key": "11", "name": "good", "status": "done", "command": "true"},
        {"_key": "12", "name": "bad", "status": "done", "command": "bash -c 'exit 3'"},
        {"_key": "13", "name": "after", "status": "canceled", "command": "true"},
    ]
    results = [
        {"job_key": "11", "run_id": 1, "return_code": 0, "exec_time_minutes": 0.1, "status": "done"},
        {"job_key": "12", "run_id": 1, "return_code": 3, "exec_time_minutes": 0.2, "status": "done"},
    ]
    attempts = [
        attempt("11", "good", stdout_path=str(stdout), stderr_path=str(work / "empty.e")),
        attempt("12", "bad", return_code=3, stderr_path=str(stderr), stdout_path=str(work / "gone.o")),
    ]
    (work / "empty.e").touch()
    server.on("GET", "/workflows", filtered([{"_key": "7", "name": "night", "is_archived": False}]))
    server.on("GET", "/workflows/7", Answer({"_key": "7", "name": "night"}))
    server.on("GET", "/workflows/7/config", Answer({"_key": "1", "working_directory": str(work)}))
    server.on("GET", "/workflows/7/status", Answer({"run_id": 1, "is_canceled": False}))
    server.on("GET", "/workflows/7/progress", Answer(progress()))
    server.on("GET", "/workflows/7/planning", Answer({"configs": PLANNING}))
    server.on("GET", "/workflows/7/jobs", filtered(jobs))
    for job in jobs:
        server.on("GET", f"/workflows/7/jobs/{job['_key']}", Answer(job))
    server.on("GET", "/workflows/7/results", filtered(results))
    server.on("GET", "/workflows/7/attempts", filtered(attempts))
    return server
