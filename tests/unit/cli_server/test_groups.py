"""The groups of documents, and the making and changing of workflows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.unit.cli_server.conftest import Shell

DIAMOND = """\
name: diamond
files:
  - {name: source, path: source.txt}
  - {name: middle, path: middle.txt}
resource_requirements: [{name: thin, num_cpus: 1, memory: 1m, runtime: P0DT1M}]
user_data: [{name: palette, data: {depth: 8}}]
jobs:
  - {name: first, command: "cp source.txt middle.txt", input_files: [source], output_files: [middle],
     resource_requirements: thin}
  - {name: second, command: "true", input_files: [middle], input_user_data: [palette]}
"""


@pytest.fixture
def diamond(shell: Shell) -> str:
    """Return the key of a workflow that is stored and not started."""
    Path("source.txt").write_text("1")
    Path("diamond.yaml").write_text(DIAMOND)
    return str(shell.json("workflows", "create-from-file", "diamond.yaml")["_key"])


def test_an_empty_workflow_is_filled_changed_and_archived(shell: Shell) -> None:
    key = shell.json("workflows", "create", "--name", "night", "--description", "tiles")["_key"]
    shell.ok("workflows", "modify", key, "--name", "day", "--archive", "true")
    stored = shell.client.get_workflow(key)
    assert (stored["name"], stored["is_archived"], stored["description"]) == ("day", True, "tiles")
    assert "--name" in shell.refused("workflows", "modify", key)
    assert "w9" in shell.ok("workflows", "create", "--key", "w9", "--quiet")


def test_files_are_added_listed_and_deleted(shell: Shell, diamond: str) -> None:
    shell.ok("files", "add", "--path", "out/x.bin", "--name", "extra", "-w", diamond)
    found = shell.json("files", "list", "-w", diamond, "--sort-by", "name")["files"]
    assert [item["name"] for item in found] == ["extra", "middle", "source"]
    assert (
        shell.ok("files", "list", "-w", diamond, "--filter", "name=extra", "--format", "csv").count("\n") == 2
    )
    assert "nowhere" in shell.refused("files", "delete", "extra", "nowhere", "--yes", "-w", diamond)
    shell.ok("files", "delete", "extra", "--yes", "-w", diamond)
    assert len(shell.json("files", "list", "-w", diamond)["files"]) == 2


def test_user_data_is_connected_with_jobs(shell: Shell, diamond: str) -> None:
    shell.ok(
        "user-data", "add", "--name", "sum", "--data", "{total: 3}", "--stores", "first", "--consumes",
        "second", "-w", diamond,
    )  # fmt: skip
    assert shell.json("user-data", "get", "sum", "-w", diamond)["data"] == {"total": 3}
    shell.ok("user-data", "modify", "sum", "--data", "{}", "--ephemeral", "-w", diamond)
    changed = shell.json("user-data", "get", "sum", "-w", diamond)
    assert (changed["data"], changed["is_ephemeral"]) == ({}, True)
    read = shell.json("jobs", "list-user-data", "second", "--consumes", "-w", diamond)["user_data"]
    assert {item["name"] for item in read} == {"palette", "sum"}
    assert "--data" in shell.refused("user-data", "add", "--name", "x", "--data", "[1]", "-w", diamond)


def test_requirements_go_to_jobs(shell: Shell, diamond: str) -> None:
    added = shell.json(
        "resource-requirements", "add", "--name", "fat", "--num-cpus", "4", "--memory", "2g",
        "--apply-to-all-jobs", "-w", diamond,
    )  # fmt: skip
    assert added["num_jobs"] == 2
    shell.ok("resource-requirements", "modify", "fat", "--runtime", "P0DT4H", "-w", diamond)
    shell.ok("jobs", "assign-resource-requirements", "thin", "second", "-w", diamond)
    rows = shell.json("collections", "join", "job-requirements", "-w", diamond)["items"]
    assert {(row["from"]["name"], row["to"]["name"]) for row in rows} == {
        ("first", "fat"),
        ("second", "thin"),
    }
    behind = shell.json("collections", "join", "job-requirements", "-s", "1", "-l", "5", "-w", diamond)
    assert behind["items"] == rows[1:]
    assert "memory" in shell.refused(
        "resource-requirements", "add", "--name", "bad", "--memory", "1.5x", "-w", diamond
    )


def test_jobs_are_added_disabled_reset_and_deleted(shell: Shell, diamond: str) -> None:
    shell.ok("jobs", "add", "--name", "third", "--command", "true", "--blocked-by", "second", "-w", diamond)
    shell.ok("jobs", "disable", "third", "-w", diamond)
    statuses = {item["name"]: item["status"] for item in shell.client.list_jobs(diamond)}
    assert statuses["third"] == "disabled"
    shell.ok("jobs", "reset-status", "third", "-w", diamond)
    shell.ok("jobs", "delete", "third", "--yes", "-w", diamond)
    assert {item["name"] for item in shell.client.list_jobs(diamond)} == {"first", "second"}


def test_a_file_of_commands_becomes_jobs(shell: Shell) -> None:
    Path("jobs.txt").write_text("echo 1\n\n# a remark\necho 2\n")
    key = shell.json(
        "workflows", "create-from-commands-file", "jobs.txt", "--cpus-per-job", "2", "--memory-per-job", "1g"
    )["_key"]
    added = shell.json("workflows", "add-jobs-from-commands-file", key, "jobs.txt", "--cpus-per-job", "1")
    assert added["num_jobs"] == 2
    rows = shell.json("collections", "join", "job-requirements", "-w", key)["items"]
    assert sorted(row["to"]["num_cpus"] for row in rows) == [1, 1, 2, 2]
    assert "memory" in shell.refused(
        "workflows", "create-from-commands-file", "jobs.txt", "--memory-per-job", "much"
    )


def test_the_config_is_changed_and_cleared(shell: Shell, diamond: str) -> None:
    shell.ok(
        "workflows", "set-config", diamond, "--wait-for-new-jobs", "60", "--monitor", "process",
        "--monitor-type", "periodic", "--completion-script", "true",
    )  # fmt: skip
    config = shell.json("workflows", "show-config", diamond)
    assert config["compute_node_wait_for_new_jobs_seconds"] == 60
    statistics = config["compute_node_resource_stats"]
    assert (statistics["process"], statistics["cpu"], statistics["monitor_type"]) == (True, False, "periodic")
    shell.ok("workflows", "set-compute-node-parameters", diamond, "--completion-script", "")
    assert not shell.json("workflows", "show-config", diamond).get("workflow_completion_script")


def test_specifications_come_back(shell: Shell, diamond: str) -> None:
    Path("again.json").write_text(shell.ok("workflows", "export-spec", diamond))
    again = shell.json("workflows", "create-from-json-file", "again.json")
    assert again["num_jobs"] == 2
    assert json.loads(shell.ok("workflows", "example"))["jobs"]
    assert "config" in json.loads(shell.ok("workflows", "template"))


def test_everything_is_exported_to_sqlite(shell: Shell, diamond: str) -> None:
    other = shell.json("workflows", "create", "--name", "other")["_key"]
    shell.ok("export", "sqlite", "all.sqlite")
    with closing(sqlite3.connect("all.sqlite")) as connection:
        keys = connection.execute("SELECT workflow_key FROM workflows").fetchall()
        assert {key for (key,) in keys} == {diamond, other}
        jobs = connection.execute('SELECT workflow_key, name FROM jobs ORDER BY "_key"').fetchall()
        assert jobs == [(diamond, "first"), (diamond, "second")]
        edges = connection.execute("SELECT count(*) FROM needs").fetchone()
        assert edges == (2,)
    assert "--force" in shell.refused("export", "sqlite", "all.sqlite")
    shell.ok("export", "sqlite", "all.sqlite", diamond, "--force")


def test_graphs_are_drawn_or_written_as_dot(
    shell: Shell, diamond: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = shell.call("graphs", "plot", "job_file_dependencies", "-w", diamond)
    assert result.exit_code == 0
    assert "dot" in result.stderr
    assert Path("job_file_dependencies.dot").read_text().startswith("strict digraph")


def test_joins_and_collections(shell: Shell, diamond: str) -> None:
    assert len(shell.json("collections", "list", "-w", diamond)["collections"]) == 24
    rows = shell.json("collections", "join-by-edge", "jobs", "needs", "-w", diamond)["items"]
    assert [(row["from"]["name"], row["to"]["name"]) for row in rows] == [
        ("first", "source"),
        ("second", "middle"),
    ]
    assert "second" in shell.ok("collections", "join", "job-consumes-data", "-w", diamond)
    assert "edge" in shell.refused("collections", "join-by-edge", "jobs", "likes", "-w", diamond)
    assert len(shell.json("collections", "list-joins")["joins"]) == 11


def test_settings_are_written(shell: Shell) -> None:
    path = Path(shell.ok("config", "create", "--output-format", "json", "--user", "ana").strip())
    assert path.read_text() == 'output_format = "json"\nuser = "ana"\n'
    assert "--force" in shell.refused("config", "create", "--user", "ben")
    assert "server_url" in shell.refused("config", "create", "--server-url", "head:80")
    assert shell.json("config", "show")["user"] == "ana  (user)"


HOSTILE = ['quoted "name"', "back\\slash\\", "<b>&amp;</b>", "]; } { [", "Ünïcode 漢字", "--", "\\N\\l"]


def test_the_real_dot_draws_any_name(shell: Shell) -> None:
    if shutil.which("dot") is None:
        pytest.skip("Graphviz: the program `dot` is not installed (package graphviz)")
    jobs = [
        {"name": name, "command": "true", "input_files": [name], "input_user_data": [name]}
        for name in HOSTILE
    ]
    for before, job in zip(HOSTILE, jobs[1:], strict=False):
        job["blocked_by"] = [before]
    document = {
        "name": "hostile",
        "files": [{"name": name, "path": f"file {number}"} for number, name in enumerate(HOSTILE)],
        "user_data": [{"name": name, "data": {}} for name in HOSTILE],
        "jobs": jobs,
    }
    for number in range(len(HOSTILE)):
        Path(f"file {number}").touch()
    Path("hostile.json").write_text(json.dumps(document))
    key = shell.json("workflows", "create-from-file", "hostile.json")["_key"]
    shown = shell.ok("graphs", "plot", "--directory", "pictures", "-w", key).split()
    assert shown == [f"pictures/job_{kind}_dependencies.svg" for kind in ("job", "file", "user_data")]
    for path in shown:
        drawn = ET.parse(path).getroot()
        # `dot` writes a space as one that does not break.
        texts = [
            (element.text or "").replace("\u00a0", " ")
            for element in drawn.iter("{http://www.w3.org/2000/svg}text")
        ]
        for name in HOSTILE:
            assert name in texts


def test_a_dot_that_fails_is_quoted(shell: Shell, diamond: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path("bin/dot")
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho bad line >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent.absolute()}:/usr/bin:/bin")
    assert "bad line" in shell.refused("graphs", "plot", "-w", diamond)


def test_scheduler_configs_and_the_newest_event(shell: Shell, diamond: str) -> None:
    shell.client.add_document(diamond, "local_schedulers", {"name": "here", "max_allocations": 2})
    [config] = shell.json("workflows", "list-scheduler-configs", diamond)["scheduler_configs"]
    assert config["_id"].startswith(f"local_schedulers__{diamond}/")
    assert shell.json("events", "latest-timestamp", "-w", diamond)["timestamp"] is None
    shell.client.add_document(diamond, "events", {"category": "worker", "type": "start"})
    assert shell.json("events", "get-latest-event-timestamp", "-w", diamond)["timestamp"] > 0
    assert "not started" in shell.ok("workflows", "show-status", diamond)


def test_auto_tune_needs_measurements_and_a_start(shell: Shell, diamond: str) -> None:
    assert "process" in shell.refused("workflows", "start", diamond, "--auto-tune")
    assert shell.client.workflow_status(diamond)["run_id"] == 0, "nothing of a refused start is stored"
    shell.ok("workflows", "set-config", diamond, "--monitor", "process")
    shell.ok("workflows", "start", diamond, "--auto-tune")
    assert shell.client.workflow_status(diamond)["auto_tune_status"]["enabled"]
    assert "first" not in shell.refused("workflows", "finish-auto-tune", diamond)


def test_reset_and_restart_of_what_failed(shell: Shell, diamond: str) -> None:
    shell.ok("workflows", "start", diamond)
    shell.ok("workflows", "cancel", diamond)
    shell.ok("workflows", "reset-status", diamond, "--yes")
    assert not shell.client.workflow_status(diamond)["is_canceled"]
    restarted = shell.json("workflows", "reset-status", diamond, "--yes", "--failed-only", "--restart")
    assert restarted["run_id"] == 2
    Path("source.txt").unlink()
    assert "source.txt" in shell.refused("workflows", "restart", diamond)
    assert shell.json("workflows", "restart", diamond, "--ignore-missing-data", "--dry-run")["dry_run"]


def test_the_shell_offers_workflows(shell: Shell, diamond: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "lading jobs list --workflow ")
    monkeypatch.setenv("COMP_CWORD", "4")
    monkeypatch.setenv("_LADING_COMPLETE", "bash_complete")
    assert shell.call().stdout == f"plain,{diamond}\n"
    monkeypatch.setenv("LADING_SERVER_URL", "http://127.0.0.1:1")
    result = shell.call()
    assert (result.exit_code, result.stdout.strip(), result.stderr) == (0, "", "")
    # The line itself may name the server; a token that is meant for another one is not sent there.
    line = f"lading --server {shell.client.target.url} --token-file {os.environ['LADING_TOKEN_FILE']}"
    monkeypatch.setenv("COMP_WORDS", f"{line} jobs list --workflow ")
    monkeypatch.setenv("COMP_CWORD", "8")
    assert shell.call().stdout == f"plain,{diamond}\n"
