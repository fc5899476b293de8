from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lading.toolkit.cli.main import main
from tests.unit.cli.conftest import PLANNING, Invoke, attempt, filtered, progress
from tests.unit.client.scripted_server import Answer, ScriptedServer, page, refusal


def own_commands(group: click.Group, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        if not way and name in {"serve", "db", "token"}:
            continue
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        yield (*way, name)
        if isinstance(command, click.Group):
            yield from own_commands(command, (*way, name))


@pytest.mark.parametrize("way", [(), *own_commands(main)], ids=" ".join)
def test_every_command_has_help(lading: Invoke, way: tuple[str, ...]) -> None:
    result = lading(*way, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: lading")
    if len(way) < 2:
        assert "Examples:" in result.output


def test_every_word_of_the_issue_is_a_command() -> None:
    expected = {
        "workflows": {"list", "show", "status", "start", "cancel", "delete"},
        "jobs": {"list", "show", "logs", "attempts", "cancel", "retry", "wait"},
        "nodes": {"list", "drain", "declare-lost"},
        "allocations": {"list", "show", "logs", "drain", "cancel"},
        "results": {"list"},
        "events": {"list", "follow"},
        "node": {"run"},
    }
    found = set(own_commands(main))
    for noun, verbs in expected.items():
        assert {(noun, verb) for verb in verbs} <= found
    assert {("run",), ("submit-workflow",), ("submitter",), ("stop",), ("explain",)} <= found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobz"], ["jobz"]),
        (["jobs", "list", "--format", "xml"], ["xml", "table"]),
        (["jobs", "list", "--status", "lost"], ["lost", "terminated"]),
        (["--server", "head:80", "jobs", "list"], ["server_url", "head:80"]),
    ],
)
def test_bad_arguments_are_named(lading: Invoke, arguments: list[str], words: list[str]) -> None:
    result = lading(*arguments)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr


def test_no_server_is_exit_code_3(lading: Invoke) -> None:
    result = lading("workflows", "list")
    assert result.exit_code == 3
    assert "lading serve" in result.stderr


def test_a_server_that_is_gone_is_exit_code_3(lading: Invoke, server: ScriptedServer) -> None:
    server.stop()
    result = lading("workflows", "list")
    assert result.exit_code == 3
    assert server.url in result.stderr
    assert "Traceback" not in result.output


def test_a_refusal_is_exit_code_2(lading: Invoke, server: ScriptedServer) -> None:
    server.on("GET", "/workflows", refusal(401, "This token has expired."))
    result = lading("workflows", "list")
    assert result.exit_code == 2
    assert "This token has expired." in result.stderr


def test_violations_are_listed_one_a_line(lading: Invoke, server: ScriptedServer) -> None:
    items = [
        {"path": "a", "message": "Wrong.", "suggestion": "b"},
        {"path": "c", "message": "Bad.", "line": 3},
    ]
    server.on("GET", "/workflows", refusal(400, "a: Wrong.; c: Bad.", violations=items))
    result = lading("workflows", "list")
    assert "  a: Wrong. Did you mean 'b'?\n  line 3: c: Bad.\n" in result.stderr


def test_lists_have_a_table_csv_json_and_keys(lading: Invoke, workflow: ScriptedServer) -> None:
    table = lading("jobs", "list").stdout
    assert [line.split()[:3] for line in table.splitlines()] == [
        ["key", "name", "status"],
        ["11", "good", "done"],
        ["12", "bad", "done"],
        ["13", "after", "canceled"],
    ]
    rows = list(csv.reader(io.StringIO(lading("jobs", "list", "--format", "csv").stdout)))
    assert rows[2] == ["12", "bad", "done", "bash -c 'exit 3'"]
    document = json.loads(lading("jobs", "list", "--format", "json").stdout)
    assert [job["_key"] for job in document["jobs"]] == ["11", "12", "13"]
    assert lading("jobs", "list", "-q").stdout.split() == ["11", "12", "13"]
    assert workflow.calls("GET", "/workflows/7/jobs")


def test_an_empty_list_is_json_too(lading: Invoke, server: ScriptedServer) -> None:
    server.on("GET", "/workflows", Answer(page([])))
    assert json.loads(lading("workflows", "list", "--format", "json").stdout) == {"workflows": []}


def test_the_format_may_be_a_setting(
    lading: Invoke, workflow: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADING_OUTPUT_FORMAT", "json")
    assert "jobs" in json.loads(lading("jobs", "list").stdout)
    assert workflow.seen


def test_names_cannot_drive_the_terminal(lading: Invoke, server: ScriptedServer) -> None:
    server.on(
        "GET", "/workflows/7/jobs", Answer(page([{"_key": "1", "name": "a\x1b[2Jb", "command": "[red]x"}]))
    )
    output = lading("jobs", "list", "-w", "7").stdout
    assert "\x1b" not in output
    assert "[red]x" in output


def test_a_workflow_that_is_left_out_is_the_newest_unfinished(lading: Invoke, server: ScriptedServer) -> None:
    found = [{"_key": str(key), "name": f"w{key}", "is_archived": False} for key in (9, 10, 11)]
    server.on("GET", "/workflows", filtered(found))
    server.on("GET", "/workflows/11/progress", Answer(progress()))
    server.on("GET", "/workflows/10/progress", Answer(progress(is_complete=False)))
    server.on("GET", "/workflows/9/progress", Answer(progress(is_complete=False)))
    server.on("GET", "/workflows/10/jobs", Answer(page([])))
    result = lading("jobs", "list")
    assert result.exit_code == 0
    assert "Workflow 10 (w10)" in result.stderr
    changing = lading("jobs", "retry", "1")
    assert changing.exit_code == 2
    assert "11 (w11), 10 (w10), 9 (w9)" in changing.stderr


def test_several_finished_workflows_are_listed(lading: Invoke, server: ScriptedServer) -> None:
    found = [{"_key": str(key), "name": f"w{key}", "is_archived": False} for key in (9, 10)]
    server.on("GET", "/workflows", filtered(found))
    for key in (9, 10):
        server.on("GET", f"/workflows/{key}/progress", Answer(progress()))
    result = lading("jobs", "list")
    assert result.exit_code == 2
    assert "10 (w10), 9 (w9)" in result.stderr


def test_jobs_are_found_by_key_and_by_name(lading: Invoke, workflow: ScriptedServer) -> None:
    by_key = json.loads(lading("jobs", "show", "12", "--format", "json").stdout)
    by_name = json.loads(lading("jobs", "show", "bad", "--format", "json").stdout)
    assert by_key == by_name
    missing = lading("jobs", "show", "nobody")
    assert missing.exit_code == 2
    assert "nobody" in missing.stderr
    workflow.on("GET", "/workflows/7/jobs", Answer(page([{"_key": "1"}, {"_key": "2"}])))
    assert "1, 2" in lading("jobs", "show", "twice").stderr


def test_a_misspelt_job_cancels_nothing(lading: Invoke, workflow: ScriptedServer) -> None:
    workflow.on("POST", "/workflows/7/jobs/11/cancel", Answer({}))
    assert lading("jobs", "cancel", "good", "nobody", "-w", "7").exit_code == 2
    assert not workflow.calls("POST", "/workflows/7/jobs/11/cancel")
    assert lading("jobs", "cancel", "good", "-w", "7").stdout == "Job 11 (good) is canceled.\n"
    assert len(workflow.calls("POST", "/workflows/7/jobs/11/cancel")) == 1


def test_retry_failed_takes_the_failed_ones(lading: Invoke, workflow: ScriptedServer) -> None:
    workflow.on("POST", "/workflows/7/jobs/12/retry", Answer({}))
    assert lading("jobs", "retry", "--failed").stdout == "Job 12 (bad) will run again.\n"
    assert lading("jobs", "retry").exit_code == 2


def test_logs_come_from_the_files(lading: Invoke, workflow: ScriptedServer) -> None:
    result = lading("jobs", "logs", "good", "--stdout")
    assert (result.exit_code, result.stdout) == (0, "hello\nworld\n")
    tail = lading("jobs", "logs", "bad", "--stderr", "--tail", "2")
    assert tail.stdout.splitlines()[0] == "line 30"
    gone = lading("jobs", "logs", "bad", "--stdout")
    assert gone.exit_code == 2
    assert "gone.o" in gone.stderr
    assert "not there" in gone.stderr
    assert lading("jobs", "logs", "after").exit_code == 2
    assert workflow.seen


def test_following_logs_ends_with_the_job(lading: Invoke, workflow: ScriptedServer) -> None:
    path = Path("late.o")
    running = attempt("11", "good", state="running", stdout_path=str(path.absolute()))
    ended = {**running, "state": "ended"}

    def first(_: object) -> Answer:
        path.write_text("begin\n")
        return Answer(page([running]))

    def last(_: object) -> Answer:
        with path.open("a") as stream:
            stream.write("end\n")
        return Answer(page([ended]))

    workflow.on("GET", "/workflows/7/attempts", first, last)
    workflow.on("GET", "/workflows/7/progress", Answer(progress(is_complete=False)))
    result = lading("jobs", "logs", "good", "--follow", "-w", "7")
    assert (result.exit_code, result.stdout) == (0, "begin\nend\n")


def test_results_have_the_names_of_jobs(lading: Invoke, workflow: ScriptedServer) -> None:
    document = json.loads(lading("results", "list", "--format", "json").stdout)
    assert [(item["job_name"], item["return_code"]) for item in document["results"]] == [
        ("good", 0),
        ("bad", 3),
    ]
    failed = json.loads(lading("results", "list", "--failed", "--format", "json").stdout)
    assert [item["job_name"] for item in failed["results"]] == ["bad"]
    assert {seen.query.get("run_id") for seen in workflow.calls("GET", "/workflows/7/results")} == {"1"}


def test_wait_reports_failures(lading: Invoke, workflow: ScriptedServer) -> None:
    result = lading("jobs", "wait")
    assert result.exit_code == 1
    assert "Failed: bad (key 12): exit code 3" in result.stderr
    assert "line 30" in result.stderr
    assert "line 21" not in result.stderr
    assert "\x1b" not in result.stderr
    assert "1 of 3 jobs succeeded; 1 failed (bad); 1 canceled." in result.stderr
    document = json.loads(lading("jobs", "wait", "--format", "json").stdout)
    assert document["success"] is False
    assert [job["name"] for job in document["failed"]] == ["bad"]
    assert document["counts"] == {"done": 2, "canceled": 1}
    assert workflow.seen


def test_waiting_for_jobs_by_name(lading: Invoke, workflow: ScriptedServer) -> None:
    assert lading("jobs", "wait", "good").exit_code == 0
    assert lading("jobs", "wait", "good", "bad").exit_code == 1
    assert workflow.seen


def test_explain_gives_the_reasons(lading: Invoke, workflow: ScriptedServer) -> None:
    workflow.on("GET", "/workflows/7/jobs/13/explain", Answer({"reasons": ["Its blocker bad failed."]}))
    assert lading("explain", "after").stdout == "Job 13 (after) is canceled.\n- Its blocker bad failed.\n"


def test_status_says_how_far(lading: Invoke, workflow: ScriptedServer) -> None:
    document = json.loads(lading("workflows", "status", "--format", "json").stdout)
    assert (document["state"], document["num_failed"]) == ("complete", 1)
    assert document["planning"] == PLANNING
    reasons = ["first reason", "second reason"]
    workflow.on("GET", "/workflows/7/progress", Answer(progress(reasons=reasons)))
    lines = [line.split() for line in lading("workflows", "status").stdout.splitlines()]
    # One reason a line, one config a line, by the name that people gave it.
    assert ["reasons", "first", "reason"] in lines
    assert ["second", "reason"] in lines
    assert ["planning", "name", "demand", "running", "pending", "wanted", "why", "retry", "at"] in lines
    assert [line[:5] for line in lines if line[0] == "big"] == [["big", "12", "1", "2", "3"]]
    assert "paused: no such account" in " ".join(line for words in lines for line in words)


def test_delete_asks(lading: Invoke, workflow: ScriptedServer) -> None:
    workflow.on("DELETE", "/workflows/7", Answer({"_key": "7"}))
    assert "stays" in lading("workflows", "delete", "7", stdin="n\n").stderr
    assert not workflow.calls("DELETE", "/workflows/7")
    assert lading("workflows", "delete", "7", "--yes").stdout == "Workflow 7 is deleted.\n"


def test_delete_all_deletes_what_is_ones_own(lading: Invoke, workflow: ScriptedServer) -> None:
    mine = [
        {"_key": "7", "name": "night", "user": "ana", "is_archived": False},
        {"_key": "8", "name": "old", "user": "ana", "is_archived": True},
        {"_key": "9", "name": "other", "user": "bo", "is_archived": False},
    ]
    workflow.on("GET", "/workflows", filtered(mine))
    for document in mine:
        workflow.on("GET", f"/workflows/{document['_key']}", Answer(document))
        workflow.on("DELETE", f"/workflows/{document['_key']}", Answer(document))
    assert lading("workflows", "delete").exit_code == 2
    assert lading("workflows", "delete", "7", "--all").exit_code == 2
    assert not workflow.calls("DELETE", "/workflows/7")
    result = lading("--user", "ana", "--no-prompts", "workflows", "delete-all")
    assert result.stdout == "Workflow 7 is deleted.\nWorkflow 8 is deleted.\n"
    assert not workflow.calls("DELETE", "/workflows/9")


def test_options_before_the_command_count_for_it(
    lading: Invoke, workflow: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADING_WORKFLOW", "5")
    shown = lading("-k", "7", "-F", "json", "jobs", "list", "-f", "name=good", "-l", "1")
    assert [job["_key"] for job in json.loads(shown.stdout)["jobs"]] == ["11"]
    nearer = lading("-k", "6", "-F", "text", "jobs", "list", "-w", "7", "--format", "csv")
    assert nearer.stdout.startswith("key,name,status")
    assert json.loads(lading("-k", "7", "workflows", "show", "--format", "json").stdout)["_key"] == "7"


def test_start_looks_at_the_files(lading: Invoke, workflow: ScriptedServer) -> None:
    Path("here.txt").touch()
    files = [
        {"_key": "1", "path": "here.txt"},
        {"_key": "2", "path": "gone.txt"},
        {"_key": "3", "path": "out.txt"},
    ]
    workflow.on(
        "GET", "/workflows/7/required_existing_files", Answer({"files": ["files__7/1", "files__7/2"]})
    )
    workflow.on("GET", "/workflows/7/files", Answer(page(files)))
    workflow.on("POST", "/workflows/7/start", Answer({"run_id": 2}))
    assert lading("workflows", "start", "7").stdout == "Workflow 7 is started (run 2).\n"
    body = workflow.calls("POST", "/workflows/7/start")[0].body
    assert body["missing_files"] == ["gone.txt"]
    assert list(body["file_times"]) == ["1"]


def test_nodes_and_allocations(lading: Invoke, workflow: ScriptedServer) -> None:
    node = {"_key": "3", "hostname": "n1", "is_active": True, "resources": {"num_cpus": 4}}
    workflow.on("GET", "/workflows/7/compute_nodes", Answer(page([node])))
    assert lading("nodes", "list").stdout.splitlines()[1].split()[:4] == ["3", "n1", "active", "4"]
    workflow.on("POST", "/workflows/7/compute_nodes/3/declare_lost", Answer({}))
    assert "keeps its lease" in lading("nodes", "declare-lost", "3", stdin="n\n").stderr
    assert lading("nodes", "declare-lost", "3", stdin="").exit_code == 130
    assert not workflow.calls("POST", "/workflows/7/compute_nodes/3/declare_lost")
    assert lading("nodes", "declare-lost", "3", "--yes").exit_code == 0
    workflow.on(
        "GET",
        "/workflows/7/scheduled_compute_nodes",
        Answer(
            page(
                [
                    {"_key": "5", "status": "active", "scheduler_config_id": "slurm_schedulers__7/99"},
                    {"_key": "6", "status": "complete", "scheduler_config_id": "slurm_schedulers__7/gone"},
                ]
            )
        ),
    )
    found = json.loads(lading("allocations", "list", "--format", "json").stdout)
    assert found["allocations"][0]["_key"] == "5"
    assert found["allocations"][0]["scheduler_config_name"] == "big"
    # A config by the name that people gave it; of one that was deleted the id is left.
    table = lading("allocations", "list").stdout.splitlines()
    assert [line.split()[2] for line in table[1:]] == ["big", "slurm_schedulers__7/gone"]


def test_events_have_readable_times(lading: Invoke, workflow: ScriptedServer) -> None:
    event = {"timestamp": 1714644672500, "category": "job", "type": "start", "job_name": "good"}
    workflow.on("GET", "/workflows/7/events", Answer(page([event])))
    assert lading("events", "list").stdout.splitlines()[1].split()[0] == "2024-05-02T10:11:12.500Z"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(lading: Invoke, shell: str) -> None:
    result = lading("completion", shell)
    assert result.exit_code == 0
    assert "_LADING_COMPLETE" in result.stdout


def test_the_reference_names_every_command() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for way in own_commands(main):
        if way not in {
            ("workflows",),
            ("jobs",),
            ("nodes",),
            ("allocations",),
            ("results",),
            ("events",),
            ("node",),
            ("files",),
            ("user-data",),
            ("resource-requirements",),
            ("collections",),
            ("graphs",),
            ("reports",),
            ("stats",),
            ("export",),
            ("config",),
        }:
            assert f"lading {' '.join(way)}" in text
