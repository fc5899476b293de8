"""The console in textual's own pilot, in front of a real server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import Static

from lading.api.server_process import ServerOptions
from lading.toolkit.cli.main import main
from lading.toolkit.client import Target
from lading.toolkit.console.app import Console
from lading.toolkit.console.dialogs import Logs, Question, tail_of
from lading.toolkit.console.tables import Rows
from tests.lib.service import Service, running_service
from tests.lib.waiting import until_true

HOSTILE = "[red]x[/] [/b] \\[ '\"é"
DRIVING = "\x1b[31mred"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(ServerOptions(str(tmp_path / "lading.db"))) as made:
        yield made


@asynccontextmanager
async def console(service: Service, **given: Any) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    app = Console(Target(service.base_url, token=service.token), **given)
    async with app.run_test(size=(150, 40)) as pilot:
        yield app, pilot


async def becomes(condition: Callable[[], object], what: str) -> None:
    await until_true(condition, 60.0, what)


async def make(service: Service, folder: Path, name: str = "night") -> str:
    jobs = [{"name": "first", "command": "true"}, {"name": HOSTILE, "command": f"echo {DRIVING}\ntrue"}]
    specification = {"name": name, "jobs": jobs, "config": {"working_directory": str(folder)}}
    made = await service.ok("POST", "/workflow_specifications", json=specification)
    return str(made["_key"])


def cells(app: Console, table: str) -> list[list[str]]:
    rows = app.query_one(f"#{table}", Rows)
    return [[str(cell) for cell in rows.get_row_at(number)] for number in range(rows.row_count)]


async def answer(app: Console, pilot: Pilot[None], key: str, reply: str) -> None:
    """Press a key, wait for its question and reply."""
    await pilot.press(key)
    await becomes(lambda: isinstance(app.screen, Question), f"a question after {key}")
    await pilot.press(reply)
    await becomes(lambda: not isinstance(app.screen, Question), "the question is gone")


async def test_keys_start_and_cancel_after_a_yes_and_the_tables_follow(service: Service, tmp_path: Path):
    workflow = await make(service, tmp_path)
    async with console(service) as (app, pilot):
        await becomes(lambda: len(cells(app, "jobs")) == 2, "the jobs are shown")
        assert cells(app, "list")[0][:2] == [workflow, "night"]
        assert {row[2] for row in cells(app, "jobs")} == {"uninitialized"}
        await answer(app, pilot, "s", "n")
        assert (await service.ok("GET", f"/workflows/{workflow}/status"))["run_id"] == 0
        await answer(app, pilot, "s", "y")
        await becomes(lambda: {row[2] for row in cells(app, "jobs")} == {"ready"}, "the start is shown")
        app.query_one("#jobs", Rows).focus()
        await answer(app, pilot, "c", "y")
        await becomes(lambda: "canceled" in {row[2] for row in cells(app, "jobs")}, "the job is canceled")
        await becomes(lambda: cells(app, "events"), "events are shown")
        assert cells(app, "events")[0][0].endswith("Z")
        await answer(app, pilot, "x", "y")
        await becomes(lambda: "canceled" in str(app.query_one("#state", Static).content), "it is told")
    assert (await service.ok("GET", f"/workflows/{workflow}/status"))["is_canceled"] is True


async def test_what_others_change_is_shown_without_a_key(service: Service, tmp_path: Path):
    await make(service, tmp_path)
    second = await make(service, tmp_path, "day")
    async with console(service, workflow=second) as (app, _):
        await becomes(lambda: len(cells(app, "jobs")) == 2, "the jobs are shown")
        await service.ok("POST", f"/workflows/{second}/start", json={})
        await becomes(lambda: {row[2] for row in cells(app, "jobs")} == {"ready"}, "the start is shown")
        await service.ok("DELETE", f"/workflows/{second}")
        await becomes(lambda: len(cells(app, "list")) == 1, "the deleted workflow is gone")


async def test_a_restart_says_first_how_many_jobs_it_is(service: Service, tmp_path: Path):
    workflow = await make(service, tmp_path)
    await service.ok("POST", f"/workflows/{workflow}/start", json={})
    for job in (await service.ok("GET", f"/workflows/{workflow}/jobs"))["items"]:
        await service.ok("POST", f"/workflows/{workflow}/jobs/{job['_key']}/cancel")
    async with console(service) as (app, pilot):
        await becomes(lambda: {row[2] for row in cells(app, "jobs")} == {"canceled"}, "the jobs are shown")
        await pilot.press("r")
        await becomes(lambda: isinstance(app.screen, Question), "a question")
        assert "run again: 2." in str(app.screen.query_one(".question", Static).content)
        await pilot.press("y")
        await becomes(lambda: {row[2] for row in cells(app, "jobs")} == {"ready"}, "the restart is shown")


async def test_names_neither_style_nor_drive_the_terminal(service: Service, tmp_path: Path):
    await make(service, tmp_path, HOSTILE)
    async with console(service) as (app, pilot):
        await becomes(lambda: len(cells(app, "jobs")) == 2, "the jobs are shown")
        assert [row[1] for row in cells(app, "jobs")] == ["first", HOSTILE]
        assert cells(app, "jobs")[1][3] == "echo �[31mred …"
        app.query_one("#jobs", Rows).move_cursor(row=1)
        await pilot.press("c")
        await becomes(lambda: isinstance(app.screen, Question), "a question")
        assert HOSTILE in str(app.screen.query_one(".question", Static).content)
        await pilot.press("n")
        await app.push_screen(Logs(HOSTILE, HOSTILE + DRIVING))
        await becomes(lambda: isinstance(app.screen, Logs), "logs")
        assert HOSTILE + "�[31mred" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        await becomes(lambda: not isinstance(app.screen, Logs), "the logs are closed")


async def test_the_filter_shows_jobs_of_one_status(service: Service, tmp_path: Path):
    await make(service, tmp_path)
    async with console(service) as (app, pilot):
        await becomes(lambda: len(cells(app, "jobs")) == 2, "the jobs are shown")
        await pilot.press("f", "f")
        await becomes(lambda: "that are blocked" in str(app.query_one("#state", Static).content), "told")
        assert cells(app, "jobs") == []


def test_the_end_of_a_log_is_read_and_a_missing_one_is_told(tmp_path: Path):
    log = tmp_path / "job.o"
    log.write_bytes(b"old\n" + b"x" * 70_000 + b"\nnew \xff\n")
    assert tail_of(log).endswith("\nnew �\n")
    assert "old" not in tail_of(log)
    assert "No such file" in tail_of(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in tail_of(tmp_path / "pipe")


def test_without_a_terminal_the_command_says_so():
    result = CliRunner().invoke(main, ["tui"], prog_name="lading")
    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr
