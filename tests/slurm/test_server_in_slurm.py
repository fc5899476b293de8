"""A server that lives in Slurm, from job to job, of a user without any rights."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lib.waiting import until
from tests.slurm.conftest import Cluster
from tests.slurm.host import document
from tests.slurm.people import User, at_home

pytestmark = pytest.mark.slurm


@pytest.fixture
def person(on_a: Cluster, guest: str, open_python: Path) -> Iterator[User]:
    with at_home(guest, open_python) as user:
        yield user


IN_SLURM = ("serve", "--in-slurm", "workflow.json:server")


def write_workflow(person: User, **fields: Any) -> None:
    waits = "bash -c 'until [ -e go ]; do sleep 0.2; done'"
    jobs = [{"name": f"waits{number}", "command": waits} for number in range(4)]
    jobs += [{"name": f"short{number}", "command": "sleep 1"} for number in range(8)]
    made = document(jobs, cpus=4, mem="500M")
    server = {"name": "server", "account": "science", "nodes": 1, "walltime": "00:10:00", **fields}
    made["schedulers"]["slurm_schedulers"].append(server)
    (person.home / "workflow.json").write_text(json.dumps(made))


def serve(person: User, *options: str) -> Any:
    database = str(person.home / "project" / "lading.db")
    return person.lading(*IN_SLURM, "--database", database, *options)


def server_of(begun: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(begun["server_file"]).read_text())
    return record


def jobs_of(cluster: Cluster, begun: Any) -> list[tuple[str, str]]:
    """Return (number, state) of the jobs of the server."""
    return [
        (line.split()[0], line.split()[1]) for line in cluster.queue() if line.split()[-1] == begun["name"]
    ]


def until_it_moved(cluster: Cluster, begun: Any, last: str) -> str:
    """Wait until the next job serves; return its number."""

    def moved() -> str | None:
        running = [number for number, state in jobs_of(cluster, begun) if state == "RUNNING"]
        waiting = [number for number, state in jobs_of(cluster, begun) if state == "PENDING"]
        is_there = running and running != [last] and waiting
        return running[0] if is_there and server_of(begun)["pid"] != pid else None

    pid = server_of(begun)["pid"]
    number = until(moved, 120.0, "the next job serves", pause=0.5)
    assert number is not None
    return number


def test_the_server_moves_from_job_to_job_and_no_attempt_is_lost(on_a: Cluster, person: User) -> None:
    write_workflow(person)
    begun = serve(person)
    assert (begun["state"], begun["url"][:8]) == ("serving", "https://")
    token = Path(server_of(begun)["token_file"]).read_text()
    key = str(person.lading("submit-workflow", "workflow.json")["_key"])
    until(lambda: running_jobs(person, key) >= 4, 90.0, "jobs run", pause=0.5)
    # Slurm's notice before the time limit; then a crash, which nobody announces.
    first = begun["slurm_job"]
    on_a.run("scancel", "--signal=TERM", "--batch", first)
    second = until_it_moved(on_a, begun, first)
    assert "lives in Slurm" in person.refused(*IN_SLURM, "--database", begun["database"])
    assert begun["name"] in person.refused("serve", "--port", "0", "--database", begun["database"])
    os.kill(server_of(begun)["pid"], signal.SIGKILL)
    until_it_moved(on_a, begun, second)
    (person.home / "go").touch()
    person.command("jobs", "wait", "-w", key)
    attempts = person.lading("jobs", "attempts", "-w", key)["attempts"]
    assert [item["cause"] for item in attempts] == ["exit"] * 12
    assert Path(server_of(begun)["token_file"]).read_text() == token
    person.command("stop")
    assert jobs_of(on_a, begun) == []
    assert not Path(begun["server_file"]).exists()
    until(lambda: on_a.queue() == [], 90.0, "the runner has left, too", pause=0.5)
    assert person.command("db", "verify", "--database", begun["database"]).strip() == "OK"


def test_a_node_that_fails_costs_a_moment(on_a: Cluster, person: User) -> None:
    write_workflow(person)
    begun = serve(person)
    first = begun["slurm_job"]
    node = on_a.run("squeue", "-h", "-j", first, "-o", "%N").strip()
    on_a.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        until_it_moved(on_a, begun, first)
        assert person.lading("workflows", "list")["workflows"] == []
        person.command("stop")
        assert jobs_of(on_a, begun) == []
    finally:
        # It may have come back by itself.
        on_a.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        until(lambda: "down" not in on_a.run("sinfo", "-hN", "-o", "%T"), 60.0, "the node is back", pause=0.5)


def test_a_server_whose_job_slurm_took_for_dead_leaves(on_a: Cluster, person: User) -> None:
    """As its processes were seen to live on: the next job says that it is its turn."""
    write_workflow(person)
    begun = serve(person)
    current = person.home / "project" / "lading.db.slurm" / "current"
    assert current.read_text().strip() == begun["slurm_job"]
    current.write_text("999999")
    until_it_moved(on_a, begun, begun["slurm_job"])
    person.command("stop")


def test_one_that_still_waits_is_found_and_taken_back(on_a: Cluster, person: User) -> None:
    write_workflow(person, extra="--begin=now+1hour")
    begun = serve(person)
    assert (begun["state"], begun["url"], begun["reason"]) == ("waiting", None, "BeginTime")
    listed = person.call(*person.words("workflows", "list"))
    assert listed.returncode == 3
    assert "Slurm's queue" in listed.stderr
    person.command("stop")
    assert jobs_of(on_a, begun) == []
    assert not Path(begun["server_file"]).exists()


_SHUTDOWN = """
import sys
from pathlib import Path
from lading.toolkit.client import Lading, Target
with Lading(Target.from_server_file(Path(sys.argv[1]))) as client:
    client.shutdown()
"""


def test_a_client_that_shuts_the_server_down_ends_the_chain(on_a: Cluster, person: User) -> None:
    write_workflow(person)
    begun = serve(person)
    assert len(jobs_of(on_a, begun)) == 2
    person.run(str(person.python), "-P", "-c", _SHUTDOWN, begun["server_file"])
    until(lambda: jobs_of(on_a, begun) == [], 60.0, "no job is left", pause=0.5)
    assert not Path(begun["server_file"]).exists()


def test_one_that_cannot_serve_is_not_tried_for_ever(on_a: Cluster, person: User) -> None:
    write_workflow(person, set_up=["echo 'no such module' >&2", "exit 3"])
    said = person.refused(*IN_SLURM, "--database", str(person.home / "project" / "lading.db"))
    assert "did not start" in said
    assert "no such module" in said
    assert on_a.queue() == []
    write_workflow(person)
    begun = serve(person)
    key = person.home / "project" / "lading.db.slurm" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_text("broken")
    on_a.run("scancel", "--signal=TERM", "--batch", begun["slurm_job"])
    until(lambda: jobs_of(on_a, begun) == [], 120.0, "it gives up", pause=0.5)
    assert "3 jobs in a row could not serve" in Path(begun["log"]).read_text()
    person.command("stop")


def test_what_cannot_be_a_server_is_refused_before_anything_is_submitted(on_a: Cluster, person: User) -> None:
    write_workflow(person)
    for where, words in (
        ("nosuch.json", "no such file"),
        ("nosuch.json:server", "no such file"),
        ("workflow.json:nosuch", "'nodes', 'server'"),
        ("workflow.json", "has 2 Slurm configs"),
    ):
        assert words in person.refused("serve", "--in-slurm", where)
    assert "exclude each other" in person.refused(*IN_SLURM, "--detach")
    for field, value in (
        ("nodes", 2), ("walltime", "9-00:00:00"), ("partition", "nosuch"), ("gres", "gpu:h100:1"),
        ("extra", "--output=elsewhere"),
    ):  # fmt: skip
        write_workflow(person, **{field: value})
        assert f"Error: {field}" in person.refused(*IN_SLURM).replace("nodes, cpus, mem, ", "")
    assert on_a.queue() == []
    assert not list(person.home.rglob("*.slurm/chain.json"))


def running_jobs(person: User, key: str) -> int:
    return sum(job["status"] == "submitted" for job in person.lading("jobs", "list", "-w", key)["jobs"])
