"""Each test attacks a promise of the runner: nothing lost, nothing twice, nothing left alive."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from lading.toolkit.runner import processes
from tests.runner.conftest import Lab, eventually
from tests.runner.protocol_server import SERVER_ID, ProtocolServer


def _logging(lab: Lab, name: str, seconds: float) -> str:
    """Return a command that appends its start and end to a file."""
    log = lab.folder / "starts"
    return f"bash -c 'echo start {name} >> {log}; sleep {seconds}; echo end {name} >> {log}'"


def _starts(lab: Lab) -> list[str]:
    path = lab.folder / "starts"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith("start")]


async def test_killed_runner_true_ends_are_reported_and_nothing_is_left(lab: Lab) -> None:
    """Promise: a killed runner is repaired in seconds, with the true exit codes."""
    server = await lab.server(stays_open=True)
    done = [server.job(f"bash -c 'exit {code}'") for code in (0, 3)]
    running = [server.job("bash -c 'sleep 300 & setsid sleep 300 & wait'") for _ in range(2)]
    await server.add(*done)
    node = await lab.node(server)
    await server.until(lambda: len(server.ended) == 2)
    await server.add(*running)
    await server.until(lambda: len(server.started) >= 2)
    alive = node.marked()
    assert len(alive) >= 2
    os.kill(node.runner, signal.SIGKILL)
    await server.until(server.left.is_set, seconds=5)
    assert [pid for pid in alive if (line := processes.read_process(pid)) and line.alive] == []
    assert await node.wait() == 1
    assert [server.result(job).return_code for job in done] == [0, 3]
    for job in running:
        result = server.result(job)
        assert (result.cause, result.status, result.return_code) == ("infrastructure", "terminated", -9)
        assert "killed by signal 9" in result.message


async def test_runner_killed_with_unsent_ends(lab: Lab) -> None:
    """Promise: what ended while the server was away is reported as it ended, though the runner died."""
    server = await lab.server(stays_open=True, lease_seconds=60)
    jobs = [server.job(_logging(lab, f"j{number}", 0.5)) for number in range(2)]
    await server.add(*jobs)
    node = await lab.node(server)
    await server.until(lambda: len(server.started) == 2)
    port = server.port
    await server.stop()
    folder = node.output / ".lading" / "spool"
    await eventually(lambda: len(list(folder.glob("*.a1.n1.*.jsonl"))) == 1)
    [spool] = folder.iterdir()
    await eventually(lambda: len(spool.read_text().splitlines()) == 2)
    os.kill(node.runner, signal.SIGKILL)
    await eventually(lambda: "could not be sent" in node.log.read_text())
    await server.start(port)
    assert await node.wait() == 1
    assert [server.result(job).return_code for job in jobs] == [0, 0]
    assert all(len(server.ended[job.attempt_id]) == 1 for job in jobs)
    assert server.requests[-1][1].leave
    assert sorted(_starts(lab)) == ["j0", "j1"]
    assert not spool.exists()


async def test_killed_guardian(lab: Lab) -> None:
    """Promise: without its guardian the runner kills, confirms, reports and leaves."""
    server = await lab.server()
    running = [server.job("bash -c 'sleep 300 & setsid sleep 300 & wait'") for _ in range(2)]
    await server.add(*running)
    node = await lab.node(server)
    await server.until(lambda: len(server.started) == 2)
    await eventually(lambda: len(node.marked()) == 6)
    alive = node.marked()
    os.kill(node.guardian, signal.SIGKILL)
    await server.until(server.left.is_set, seconds=5)
    assert [pid for pid in alive if (line := processes.read_process(pid)) and line.alive] == []
    for job in running:
        assert (server.result(job).cause, server.result(job).status) == ("infrastructure", "terminated")
    await eventually(lambda: not list(processes.marked(processes.ALLOCATION_MARK, node.tag)))


async def test_both_killed_the_next_runner_sweeps(lab: Lab) -> None:
    """Promise: no orphan of a dead pair outlives the next registration; a living pair's jobs stay."""
    server = await lab.server(stays_open=True)
    first_job, second_job = server.job("sleep 300"), server.job("sleep 300")
    await server.add(first_job)
    first = await lab.node(server, cpus=1)
    await server.until(lambda: server.started)
    orphan = first.marked()
    await server.add(second_job)
    second = await lab.node(server, cpus=1)
    await server.until(lambda: len(server.started) == 2)
    bystander = second.marked()
    assert len(orphan) == len(bystander) == 1
    os.kill(first.runner, signal.SIGSTOP)
    os.kill(first.guardian, signal.SIGSTOP)
    for pid in (first.runner, first.guardian):
        os.kill(pid, signal.SIGKILL)
    assert processes.read_process(orphan[0]) is not None
    third = await lab.node(server, cpus=1)
    await server.until(lambda: len(server.registrations) == 3)
    await eventually(lambda: not ((line := processes.read_process(orphan[0])) and line.alive), 2)
    line = processes.read_process(bystander[0])
    assert line is not None
    assert line.alive
    for node in (second, third):
        os.kill(node.guardian, signal.SIGTERM)
        assert await node.wait() == 0


async def test_stopped_runner_jobs_die_before_the_lease_ends(lab: Lab) -> None:
    """Promise: an ended lease means that nothing runs, whatever the runner does."""
    server = await lab.server(lease_seconds=5.0)
    job = server.job("bash -c 'sleep 300 & setsid sleep 300 & wait'")
    await server.add(job)
    node = await lab.node(server)
    await server.until(lambda: server.started)
    await eventually(lambda: len(node.marked()) == 3)
    alive = node.marked()
    runner = node.runner
    os.kill(runner, signal.SIGSTOP)
    last_arrival = server.requests[-1][0]
    await eventually(lambda: not [p for p in alive if (line := processes.read_process(p)) and line.alive])
    assert time.clock_gettime(time.CLOCK_BOOTTIME) < last_arrival + 5.0
    assert not server.ended
    fresh = server.job("true")
    await server.add(fresh)
    os.kill(runner, signal.SIGCONT)
    assert await node.wait() == 0
    assert server.result(job).cause == "infrastructure"
    assert "within the lease" in server.result(job).message
    assert server.result(fresh).return_code == 0
    assert "Woke up late" in node.log.read_text()


async def test_a_runner_that_stays_stopped_is_killed_after_its_lease(lab: Lab) -> None:
    """Promise: what hangs for good does not keep its share of the host."""
    server = await lab.server(lease_seconds=5.0, stays_open=True)
    job = server.job("sleep 300")
    await server.add(job)
    node = await lab.node(server)
    await server.until(lambda: server.started)
    os.kill(node.runner, signal.SIGSTOP)
    assert await node.wait(60) == 1
    assert server.left.is_set()
    assert server.result(job).cause == "infrastructure"
    assert node.marked() == []


async def test_a_suspended_node_keeps_its_jobs_while_its_lease_stands_still(lab: Lab) -> None:
    """Promise: once the server knows of a suspension nothing is killed for its length."""
    server = await lab.server(lease_seconds=5.0)
    job = server.job("sleep 8")
    await server.add(job)
    node = await lab.node(server)
    await server.until(lambda: server.started)
    runner = node.runner
    os.kill(runner, signal.SIGTSTP)
    await server.until(lambda: server.requests[-1][1].suspending)
    await eventually(lambda: "The lease stands still" in node.log.read_text())
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.kill(runner, signal.SIGSTOP)
    await eventually(lambda: not node.marked(), 30)
    assert time.clock_gettime(time.CLOCK_BOOTTIME) > asleep + 5.0
    os.kill(runner, signal.SIGCONT)
    assert await node.wait() == 0
    assert server.result(job).return_code == 0
    assert not server.requests[-1][1].suspending


async def test_stopped_past_its_lease_and_fenced(lab: Lab) -> None:
    """Promise: a node that lost its lease stops, it does not go on."""
    server = await lab.server(lease_seconds=5.0, stays_open=True)
    await server.add(server.job("sleep 300"))
    node = await lab.node(server)
    await server.until(lambda: server.started)
    server.fenced = True
    await server.add(server.job("true"))
    assert await node.wait(10) == 1
    assert node.marked() == []
    assert len(_starts(lab)) == 0


async def test_server_away_and_back_elsewhere(lab: Lab) -> None:
    """Promise: an outage shorter than the lease costs nothing: one start per job, every end told."""
    server = await lab.server(lease_seconds=30.0)
    jobs = [server.job(_logging(lab, f"j{number}", 0.05)) for number in range(40)]
    await server.add(*jobs)
    node = await lab.node(server)
    for fraction in (5, 15, 25):
        await server.until(lambda count=fraction: len(server.ended) >= count)  # type: ignore[misc]
        await server.stop()
        path = lab.folder / "server.json"
        path.unlink()
        await server.start()
        lab.write_server_file(server)
    assert await node.wait() == 0
    assert all(server.result(job).return_code == 0 for job in jobs)
    assert len(_starts(lab)) == len(set(_starts(lab))) == 40


async def test_token_is_not_sent_to_another_database(lab: Lab) -> None:
    """Promise: a server file that names another server gets nothing from us."""
    server = await lab.server(lease_seconds=5.0, stays_open=True)
    job = server.job("sleep 300")
    await server.add(job)
    node = await lab.node(server)
    await server.until(lambda: server.started)
    await server.stop()
    # Not through the lab, which would name it in the server file as ours for a moment.
    other = ProtocolServer()
    await other.start()
    lab.servers.append(other)
    other.tokens |= server.tokens
    lab.write_server_file(other, server_id=f"not-{SERVER_ID}")
    await eventually(lambda: "The lease ended" in node.log.read_text())
    assert other.requests == []
    assert node.marked() == []
    await server.start()
    lab.write_server_file(server)
    await server.until(lambda: server.ended)
    assert server.result(job).cause == "infrastructure"
    server.stays_open = False
    assert await node.wait() == 0


async def test_lost_answers(lab: Lab) -> None:
    """Promise: an answer that is lost loses no claim and no report, and starts nothing twice."""
    server = await lab.server()
    jobs = [server.job(_logging(lab, f"j{number}", 0.02)) for number in range(60)]
    await server.add(*jobs)
    node = await lab.node(server)
    for count in (5, 20, 40, 50):
        await server.until(lambda count=count: len(server.ended) >= count)  # type: ignore[misc]
        server.lose_answers = 2
    assert await node.wait() == 0
    assert all(server.result(job).return_code == 0 for job in jobs)
    assert len(_starts(lab)) == len(set(_starts(lab))) == 60


async def test_look_ahead_is_handed_back(lab: Lab) -> None:
    """Promise: what was claimed and not started is handed back, not lost."""
    server = await lab.server(stays_open=True)
    await server.add(*(server.job("true") for _ in range(300)))
    node = await lab.node(server)
    await server.until(lambda: len(server.ended) > 100)
    os.kill(node.guardian, signal.SIGTERM)
    assert await node.wait() == 0
    assert server.left.is_set()
    assert not server.outstanding
    assert len(server.ended) + len(server.ready) == 300
    assert len(server.claimed) == len(server.ended) + len(server.returned)


async def test_server_that_is_never_there(lab: Lab) -> None:
    """Promise: a node whose server is gone can be stopped."""
    server = await lab.server()
    await server.stop()
    node = await lab.node(server)
    await eventually(lambda: node.log.exists() and "Not registered yet" in node.log.read_text())
    os.kill(node.guardian, signal.SIGTERM)
    assert await node.wait(5) == 0


async def test_bad_node_files(lab: Lab) -> None:
    """Promise: a person reads what is wrong, not a traceback."""
    server = await lab.server()
    node = await lab.node(server)
    await node.wait()
    path = lab.folder / "node-0.json"
    for content, mode, text in (
        (b"{", 0o600, "not a node file"),
        (b'{"url": 1}', 0o600, "not a node file"),
        (path.read_bytes(), 0o644, "chmod 600"),
    ):
        path.write_bytes(content)
        path.chmod(mode)
        process = await _run(path)
        assert process[0] == 2
        assert text in process[1]
        assert "Traceback" not in process[1]
    path.unlink()
    code, error = await _run(path)
    assert code == 2
    assert str(path) in error


async def _run(path: Path) -> tuple[int, str]:
    import asyncio
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "lading.toolkit.runner", "--node-file", str(path), stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
    _, error = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode is not None
    return process.returncode, error.decode()
