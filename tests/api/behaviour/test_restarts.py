"""What runs again, and why: changed inputs, ephemeral data, missing outputs, dry runs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.api.behaviour.conftest import DIAMOND, Worker, stored
from tests.api.table import Json
from tests.lib.service import Service


@pytest.fixture
async def done(diamond: Worker) -> Worker:
    """The diamond after its first run, the times of its files noted."""
    await diamond.begin()
    for name in ("in", "left", "right", "mid", "end"):
        await diamond.change("files", name, st_mtime=1000.5)
    assert await diamond.run_all() == ["split", "west", "east", "merge"]
    return diamond


async def times(worker: Worker, **changed: float | None) -> Json:
    """Return what a client sees of the files: modification times, and what is missing."""
    keys = {file["name"]: file["_key"] for file in (await worker.ok("GET", "files"))["items"]}
    seen = {name: changed.get(name, 1000.5) for name in keys}
    return {
        "file_times": {keys[name]: time for name, time in seen.items() if time is not None},
        "missing_files": [keys[name] for name, time in seen.items() if time is None],
    }


async def restart(worker: Worker, **options: Any) -> dict[str, str]:
    """Restart; returns name -> reason."""
    answer = await worker.ok("POST", "restart", json=options)
    assert answer["dry_run"] is options.get("dry_run", False)
    return {job["name"]: job["reason"] for job in answer["jobs"]}


async def test_nothing_runs_again_where_nothing_changed(done: Worker) -> None:
    assert await restart(done, **await times(done)) == {}
    assert await done.run_all() == []
    assert (await done.ok("GET", "is_complete"))["is_complete"] is True
    assert (await done.ok("GET", "status"))["run_id"] == 2


async def test_only_what_needs_a_changed_file_runs_again(done: Worker) -> None:
    reasons = await restart(done, **await times(done, left=2000.0))
    assert set(reasons) == {"west", "merge"}
    assert "left" in reasons["west"]
    assert "before" in reasons["merge"]
    assert await done.run_all() == ["west", "merge"]


async def test_a_missing_output_runs_its_producer_and_what_is_behind_it(done: Worker) -> None:
    reasons = await restart(done, **await times(done, end=None))
    assert set(reasons) == {"east", "merge"}
    assert "end" in reasons["east"]
    assert await done.run_all() == ["east", "merge"]


async def test_a_missing_input_is_refused(done: Worker) -> None:
    seen = await times(done, **{"in": None})
    assert "in.txt" in await done.refused(400, "POST", "restart", json=seen)
    assert (await done.ok("GET", "status"))["run_id"] == 1
    assert "split" in await restart(done, **seen, ignore_missing_data=True)


async def test_a_dry_run_says_the_same_and_changes_nothing(done: Worker) -> None:
    seen = await times(done, left=2000.0, end=None)
    before = [await done.ok("GET", name) for name in ("status", "jobs", "files", "events", "config")]
    foretold = await restart(done, **seen, dry_run=True)
    assert before == [await done.ok("GET", name) for name in ("status", "jobs", "files", "events", "config")]
    assert foretold == await restart(done, **seen)
    assert await done.run_all() == ["west", "east", "merge"]


async def test_a_changed_command_runs_again(done: Worker) -> None:
    await done.change("jobs", "east", command="other")
    assert set(await restart(done)) == {"east", "merge"}


async def test_only_uninitialized_leaves_jobs_that_never_ran_as_they_are(diamond: Worker) -> None:
    await diamond.begin()
    [split] = await diamond.claim()
    await diamond.run(split)
    west = await diamond.document("jobs", "west")
    path = f"jobs/{west['_key']}/manage_status_change/disabled/{west['_rev']}/1"
    await diamond.ok("PUT", path)
    await restart(diamond, only_uninitialized=True)
    assert await diamond.statuses() == {
        "split": "done", "west": "disabled", "east": "ready", "merge": "blocked",
    }  # fmt: skip


async def test_running_jobs_are_not_restarted(diamond: Worker) -> None:
    await diamond.begin()
    await diamond.claim()
    assert "jobs that run" in await diamond.refused(400, "POST", "restart", json={})


# ---- torc's own endpoint ---------------------------------------------------------------------


async def test_changed_inputs_are_found_by_their_content(done: Worker) -> None:
    # A PUT that changes nothing is no change, though the original counted every write.
    await done.change("files", "left")
    assert await done.ok("POST", "process_changed_job_inputs") == {"reinitialized_jobs": []}
    await done.change("files", "left", st_mtime=3000)
    keys = [(await done.document("jobs", name))["_key"] for name in ("west", "merge")]
    before = await done.statuses()
    dry = await done.ok("POST", "process_changed_job_inputs", params={"dry_run": "true"})
    assert (dry["reinitialized_jobs"], await done.statuses()) == (keys, before)
    wet = await done.ok("POST", "process_changed_job_inputs")
    assert wet == dry
    assert await done.statuses() == {
        "split": "done", "west": "uninitialized", "east": "done", "merge": "uninitialized",
    }  # fmt: skip
    await done.raise_run_id()
    await done.ok("POST", "initialize_jobs", params={"only_uninitialized": "true"})
    assert await done.run_all() == ["west", "merge"]


async def test_ephemeral_data_makes_its_producer_run_again(server: Service) -> None:
    document = {
        "name": "w",
        "user_data": [{"name": "address", "is_ephemeral": True, "data": {}}, {"name": "kept", "data": {"a": 1}}],
        "jobs": [
            {"name": "serve", "command": "s", "output_user_data": ["address"]},
            {"name": "ask", "command": "a", "input_user_data": ["address", "kept"]},
            {"name": "other", "command": "o", "input_user_data": ["kept"]},
        ],
    }  # fmt: skip
    worker = await stored(server, document)
    await worker.begin()
    for name in ("serve", "other"):
        [job] = [job for job in (await worker.ok("GET", "jobs"))["items"] if job["name"] == name]
        assert job["status"] == "ready"
    [serve, other] = await worker.claim(sort_method="none")
    # The job stores its address while it runs, before it completes.
    await worker.change("user_data", "address", data={"port": 80})
    await worker.run(serve)
    await worker.run(other)
    assert await worker.run_all() == ["ask"]
    assert (await worker.ok("GET", "missing_user_data"))["user_data"] == []
    assert (await worker.document("user_data", "address"))["data"] == {"port": 80}
    reset = (await worker.ok("POST", "process_changed_job_inputs"))["reinitialized_jobs"]
    assert reset == [serve["_key"], (await worker.document("jobs", "ask"))["_key"]]
    assert (await worker.document("user_data", "address"))["data"] == {}
    assert (await worker.document("user_data", "kept"))["data"] == {"a": 1}


async def test_empty_user_data_that_nobody_stores_is_missing(server: Service) -> None:
    document = copy.deepcopy(DIAMOND)
    document["user_data"] = [{"name": "palette", "data": {}}]
    document["jobs"][0]["input_user_data"] = ["palette"]
    worker = await stored(server, document)
    key = (await worker.document("user_data", "palette"))["_key"]
    assert await worker.ok("GET", "missing_user_data") == {"user_data": [key]}
    assert "palette" in await worker.refused(400, "POST", "start", json={})
    await worker.ok("POST", "start", json={"ignore_missing_data": True})
    files = (await worker.ok("GET", "required_existing_files"))["files"]
    assert files == [(await worker.document("files", "in"))["_id"]]
