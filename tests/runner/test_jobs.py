"""Real guardian, real runner, real processes, against a server that speaks the protocol."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from lading.toolkit.wire.extensions import Order, OutputFile
from tests.runner.conftest import Lab, eventually


async def test_a_batch_of_jobs_runs_once_each_and_the_node_leaves(lab: Lab) -> None:
    server = await lab.server()
    jobs = [server.job("true") for _ in range(200)]
    await server.add(*jobs)
    node = await lab.node(server)
    assert await node.wait() == 0
    assert all(server.result(job).return_code == 0 for job in jobs)
    assert len(server.claimed) == len(set(server.claimed)) == 200
    assert server.requests[-1][1].leave
    assert server.left.is_set()
    spool = node.output / ".lading" / "spool"
    assert list(spool.iterdir()) == []


async def test_what_a_job_finds_in_its_environment(lab: Lab) -> None:
    server = await lab.server()
    job = server.job(
        "env",
        job_key="42",
        run_id=3,
        number=2,
        name="show",
        num_cpus=2,
        env={"MY_OWN": "x=1", "LADING_JOB": "no"},
    )
    await server.add(job)
    node = await lab.node(server, environment={"PYTHON_BASIC_REPL": "kept"})
    assert await node.wait() == 0
    result = server.result(job)
    assert result.stdout_path == str(node.output / "job-stdio" / "42_3_2.o")
    assert result.stderr_path == str(node.output / "job-stdio" / "42_3_2.e")
    lines = Path(result.stdout_path).read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert found["TORC_WORKFLOW_KEY"] == found["LADING_WORKFLOW"] == "7"
    assert found["TORC_JOB_KEY"] == "42"
    assert found["LADING_JOB"] == "no", "a job's own environment comes after ours"
    assert found["LADING_JOB_NAME"] == "show"
    assert (found["LADING_RUN_ID"], found["LADING_ATTEMPT"]) == ("3", "2")
    assert found["LADING_ATTEMPT_ID"] == job.attempt_id
    assert found["LADING_ALLOCATION"] == node.tag
    assert found["LADING_CPUS"] == found["OMP_NUM_THREADS"] == "2"
    assert found["MY_OWN"] == "x=1"
    assert found["PYTHON_BASIC_REPL"] == "kept"
    assert not [name for name in found if "TOKEN" in name]


async def test_ends_are_told_as_they_were(lab: Lab) -> None:
    server = await lab.server()
    fails = server.job("bash -c 'echo out; echo err >&2; exit 3'")
    killed = server.job("bash -c 'kill -SEGV $$'")
    absent = server.job("no-such-program --x")
    plain = lab.folder / "plain.txt"
    plain.write_text("not a program")
    denied = server.job("./plain.txt")
    nowhere = server.job("true", workdir="missing/folder")
    unsplit = server.job("echo 'open")
    merged = server.job("bash -c 'echo out; echo err >&2'", stdout="merge")
    silent = server.job("bash -c 'echo out'", stdout="none")
    wrapped = server.job("two 'three four'", invocation_script="echo one")
    await server.add(fails, killed, absent, denied, nowhere, unsplit, merged, silent, wrapped)
    node = await lab.node(server)
    assert await node.wait() == 0

    result = server.result(fails)
    assert (result.cause, result.return_code, result.status, result.signal) == ("exit", 3, "done", None)
    assert Path(str(result.stdout_path)).read_text() == "out\n"
    assert Path(str(result.stderr_path)).read_text() == "err\n"
    assert result.usage is not None
    assert result.usage.max_rss_bytes > 0

    result = server.result(killed)
    assert (result.cause, result.return_code, result.signal) == ("signal", -11, signal.SIGSEGV)
    assert "SIGSEGV" in result.message

    result = server.result(absent)
    assert (result.cause, result.return_code) == ("exit", 127)
    assert "'no-such-program' was not found" in result.message
    assert result.message in Path(str(result.stderr_path)).read_text()
    assert server.result(denied).return_code == 126
    assert "not executable" in server.result(denied).message
    assert server.result(nowhere).return_code == 127
    assert "missing/folder does not exist" in server.result(nowhere).message
    assert server.result(unsplit).return_code == 126
    assert "No closing quotation" in server.result(unsplit).message

    assert Path(str(server.result(merged).stdout_path)).read_text() == "out\nerr\n"
    assert server.result(merged).stderr_path is None
    assert server.result(silent).stdout_path is None
    assert Path(str(server.result(wrapped).stdout_path)).read_text() == "one two three four\n"


async def test_output_files_are_looked_for(lab: Lab) -> None:
    server = await lab.server()
    (lab.folder / "there.txt").write_text("x")
    outputs = [OutputFile(key="1", path="there.txt"), OutputFile(key="2", path="gone.txt")]
    job = server.job("true", output_files=outputs)
    good = server.job("true", output_files=outputs[:1])
    await server.add(job, good)
    node = await lab.node(server)
    assert await node.wait() == 0
    result = server.result(job)
    assert (result.return_code, result.missing_files) == (1, ["gone.txt"])
    assert result.file_times == {"1": (lab.folder / "there.txt").stat().st_mtime}
    assert "gone.txt" in Path(str(result.stderr_path)).read_text()
    assert server.result(good).return_code == 0


async def test_a_link_in_the_place_of_an_output_is_not_followed(lab: Lab) -> None:
    server = await lab.server()
    victim = lab.folder / "victim"
    victim.write_text("precious")
    stdio = lab.folder / "output" / "job-stdio"
    stdio.mkdir(parents=True)
    (stdio / "1_1.o").symlink_to(victim)
    job = server.job("echo overwritten")
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    assert server.result(job).cause == "infrastructure"
    assert "symbolic link" in server.result(job).message
    assert victim.read_text() == "precious"


async def test_what_a_job_leaves_behind_is_dead_before_its_end_is_told(lab: Lab) -> None:
    server = await lab.server()
    pids = lab.folder / "pids"
    script = lab.folder / "leave.sh"
    script.write_text(
        f"sleep 300 & echo $! >> {pids}\n"
        f"setsid sleep 300 & echo $! >> {pids}\n"
        f"setsid bash -c 'sleep 300 & echo $! >> {pids}' \n"
        f"env -i setsid sleep 300 & echo $! >> {pids}\n"
        "sleep 0.1\n"
    )
    alive_at_end: list[bool] = []
    server.on_ended = lambda _ended: alive_at_end.extend(
        Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()
    )
    job = server.job(f"bash {script}")
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    assert server.result(job).return_code == 0
    assert alive_at_end == [False] * 4


async def test_run_time_limit(lab: Lab) -> None:
    server = await lab.server()
    abrupt = server.job("sleep 300", runtime_limit_seconds=0.3)
    gentle = server.job(
        "bash -c 'trap \"exit 9\" TERM; while :; do sleep 0.01; done'",
        runtime_limit_seconds=0.3,
        supports_termination=True,
    )
    await server.add(abrupt, gentle)
    node = await lab.node(server)
    assert await node.wait() == 0
    result = server.result(abrupt)
    assert (result.cause, result.status, result.return_code) == ("job_timeout", "terminated", -9)
    assert "0.3 s" in result.message
    result = server.result(gentle)
    assert (result.cause, result.status, result.return_code) == ("job_timeout", "terminated", 9)
    assert result.exec_seconds < 5


async def test_an_order_to_kill_reaches_a_running_job_at_once(lab: Lab) -> None:
    server = await lab.server()
    jobs = [server.job("sleep 300"), server.job("sleep 300", supports_termination=True)]
    await server.add(*jobs)
    node = await lab.node(server)
    await server.until(lambda: len(server.started) == 2)
    server.orders.append(Order(id="o1", kind="kill", attempts=[job.attempt_id for job in jobs]))
    await server.wake()
    await server.until(lambda: len(server.ended) == 2, seconds=2)
    assert await node.wait() == 0
    results = [server.result(job) for job in jobs]
    assert [(one.cause, one.status, one.return_code) for one in results] == [
        ("canceled", "canceled", -9),
        ("canceled", "canceled", -15),
    ]


async def test_drain_and_end(lab: Lab) -> None:
    server = await lab.server(stays_open=True)
    job = server.job("bash -c 'sleep 0.5; exit 4'")
    await server.add(job)
    node = await lab.node(server, cpus=1)
    await server.until(lambda: server.started)
    await server.add(server.job("true", num_cpus=1))
    server.orders.append(Order(id="d1", kind="drain"))
    await server.wake()
    assert await node.wait() == 0
    assert server.result(job).return_code == 4
    assert len(server.ready) == 1, "a draining node claims nothing"
    assert "d1" in server.acknowledged_orders

    endless = server.job("sleep 300")
    server.ready.clear()
    await server.add(endless)
    other = await lab.node(server)
    await server.until(lambda: endless.attempt_id in server.started)
    server.orders.append(Order(id="e1", kind="end", cause="preempted"))
    await server.wake()
    assert await other.wait() == 0
    assert (server.result(endless).cause, server.result(endless).status) == ("preempted", "terminated")


async def test_the_first_signal_ends_jobs_gently_and_reports(lab: Lab) -> None:
    server = await lab.server()
    gentle = server.job(
        "bash -c 'trap \"exit 5\" TERM; while :; do sleep 0.01; done'", supports_termination=True
    )
    abrupt = server.job("sleep 300")
    waiting = server.job("true")
    await server.add(gentle, abrupt, waiting)
    node = await lab.node(server)
    await server.until(lambda: len(server.started) == 2)
    os.kill(node.guardian, signal.SIGTERM)
    os.kill(node.runner, signal.SIGTERM)  # a batch system signals all of them; it counts once
    assert await node.wait() == 0
    for job, code in ((gentle, 5), (abrupt, -9)):
        result = server.result(job)
        assert (result.cause, result.status, result.return_code) == ("allocation_ended", "terminated", code)
    assert waiting.attempt_id not in server.claimed


async def test_the_second_signal_kills(lab: Lab) -> None:
    server = await lab.server()
    stubborn = server.job("bash -c 'trap \"\" TERM; while :; do sleep 0.01; done'", supports_termination=True)
    await server.add(stubborn)
    node = await lab.node(server)
    await server.until(lambda: server.started)
    os.kill(node.guardian, signal.SIGINT)
    await server.until(lambda: any(request.free is None for _, request in server.requests[-2:]))
    await eventually(lambda: "Received SIGINT (1)" in node.log.read_text())
    os.kill(node.guardian, signal.SIGINT)
    assert await node.wait(10) == 0
    assert server.result(stubborn).return_code == -9


async def test_the_end_of_the_time_stops_the_node(lab: Lab) -> None:
    server = await lab.server()
    job = server.job("sleep 300")
    await server.add(job)
    node = await lab.node(server, "--time-limit-seconds", "1.5")
    assert await node.wait(10) == 0
    assert server.result(job).cause == "allocation_ended"
    limits = [request.free.time_limit_seconds for _, request in server.requests if request.free]
    assert all(limit is not None and 0 <= limit <= 1.5 for limit in limits)


async def test_the_start_up_script_runs_first(lab: Lab) -> None:
    server = await lab.server(config={"worker_startup_script": "bash -c 'echo warm > warm.txt'"})
    job = server.job("cat warm.txt")
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    assert server.result(job).return_code == 0


async def test_a_failing_start_up_script_ends_the_node(lab: Lab) -> None:
    server = await lab.server(config={"worker_startup_script": "bash -c 'exit 6'"})
    await server.add(server.job("true"))
    node = await lab.node(server)
    assert await node.wait() != 0
    assert server.claimed == []
    assert "start-up script" in node.log.read_text()
    assert "ended with 6" in node.log.read_text()


async def test_memory_over_the_limit(lab: Lab) -> None:
    hungry = "python3 -c 'x = bytearray(80 << 20); import time; time.sleep(300)'"
    server = await lab.server(config={"memory_limit_policy": "kill"})
    job = server.job(hungry, memory_limit_bytes=40 << 20)
    await server.add(job)
    node = await lab.node(server)
    assert await node.wait() == 0
    result = server.result(job)
    assert (result.cause, result.return_code) == ("out_of_memory", -9)
    assert str(40 << 20) in result.message
    assert result.usage is not None
    assert result.usage.num_samples >= 1


async def test_a_second_guardian_on_the_lock_is_refused(lab: Lab) -> None:
    server = await lab.server(stays_open=True)
    lock, record = lab.folder / "lock", lab.folder / "record.json"
    first = await lab.node(server, "--lock-file", str(lock), "--record-file", str(record))
    await server.until(lambda: server.requests)
    content = json.loads(record.read_text())
    assert content["pid"] == first.guardian
    assert record.stat().st_mode & 0o777 == 0o600
    second = await lab.node(server, "--lock-file", str(lock), "--record-file", str(record))
    assert await second.wait() == 75
    assert len(server.registrations) == 1
    os.kill(first.guardian, signal.SIGTERM)
    assert await first.wait() == 0
