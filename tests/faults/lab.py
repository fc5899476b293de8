"""Real processes to be killed: server, submitter, guardians, runners, jobs; and what must hold afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec

from lading.toolkit.client.session import Patience
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.private_files import write_private
from lading.toolkit.runner.processes import ALLOCATION_MARK, ATTEMPT_MARK, environment_of, read_process
from lading.toolkit.wire.extensions import AttemptDocument
from lading.toolkit.wire.files import NodeFile, ServerFile
from tests.lib.waiting import until

JOB_SCRIPT = Path(__file__).with_name("job.sh")
LADING = Path(sys.executable).with_name("lading")
LAB_MARK = "FAULT_LAB"
"""In the environment of everything that a lab starts, and of what that starts."""
LEASE_SECONDS = 5.0
NUM_JOBS = 200
LENGTHS = tuple(number * 37 % 21 / 10 for number in range(NUM_JOBS))
"""Seconds: 0 to 2, mixed, the same in every test."""
NUM_CPUS = 40
"""Sleeping jobs need none: so many let 200 of them pass in a few seconds."""


@dataclass(slots=True)
class Start:
    """One start of a job, as the job itself wrote it down."""

    attempt: int
    pid: int
    started: float
    ended: float | None = None


@dataclass
class Lab:
    folder: Path
    database: str = ""
    server: subprocess.Popen[bytes] | None = None
    submitter: subprocess.Popen[bytes] | None = None
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.database = self.database or str(self.folder / "lading.db")
        (self.folder / "alive").mkdir(parents=True)
        (self.folder / "journal").touch()

    # ---- processes ---------------------------------------------------------------------------

    @property
    def server_file(self) -> Path:
        # Where commands that are called in the folder look for it.
        return self.folder / ".lading" / "server.json"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def start_server(self) -> None:
        """Start the server; from the second time on at the same port."""
        ready_read, ready_write = os.pipe()
        command = ["-m", "lading.api", "--server-file", str(self.server_file), "--database", self.database]
        command += ["--port", str(self.port), "--ready-fd", str(ready_write)]
        self.server = self.spawn(command, "server", pass_fds=[ready_write])
        os.close(ready_write)
        with os.fdopen(ready_read) as ready:
            url = ready.readline().strip()
        assert url, (self.folder / "server.log").read_text()
        self.port = int(url.rpartition(":")[2])

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def start_submitter(self, server_file: Path | None = None) -> None:
        command = ["-m", "lading.toolkit.submitter", "--server-file", str(server_file or self.server_file)]
        command += ["--state-directory", str(self.folder / "state"), "--submissions-per-minute", "10000"]
        self.submitter = self.spawn(command, "submitter")

    def kill_submitter(self, *, after_seconds: float = 0.0) -> None:
        """Kill the submitter, if it has not ended by itself within that time."""
        assert self.submitter is not None
        self.await_exit(self.submitter, after_seconds)
        self.submitter.kill()
        self.submitter.wait()

    def await_exit(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait for an end that may not come within that time."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    def start_node(self, workflow: str, name: str, *, cpus: int) -> subprocess.Popen[bytes]:
        """Start a runner by hand, without any allocation."""
        target = Target.from_server_file(self.server_file)
        document = NodeFile(
            url=target.url,
            server_id=target.server_id or "",
            token=target.token or "",
            workflow=workflow,
            allocation=None,
            tag=f"{self.folder.name}-{name}",
            output_directory=str(self.output),
            working_directory=str(self.folder),
            server_file=str(self.server_file),
        )
        path = self.folder / f"node-{name}.json"
        write_private(path, msgspec.json.encode(document))
        options = ["--cpus", str(cpus), "--memory-bytes", str(1 << 36)]
        command = ["-m", "lading.toolkit.runner", "--node-file", str(path), *options]
        return self.spawn(command, f"node-{name}")

    def lading(self, *arguments: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [LADING, *arguments], env=self._environment(), cwd=self.folder, timeout=seconds,
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def begin_lading(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command; the test kills it."""
        with (self.folder / "lading.log").open("ab") as log:
            process = subprocess.Popen(
                [LADING, *arguments], env=self._environment(), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.others.append(process)
        return process

    def spawn(
        self, arguments: Sequence[str], name: str, *, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a Python module of ours."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", *arguments], env=self._environment(), cwd=self.folder,
                pass_fds=pass_fds, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.others.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        return {**os.environ, LAB_MARK: str(self.folder)}

    def processes(self, is_one: Callable[[list[bytes], Mapping[str, str]], bool]) -> list[int]:
        """Return what lives of this lab and is one, by its command line and our marks."""
        mark = f"{LAB_MARK}={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with suppress(OSError):
                if mark not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
                line = read_process(int(entry.name))
                if line is not None and line.alive and is_one(words, environment_of(line.pid)):
                    found.append(line.pid)
        # Between fork and exec a child looks like its parent.
        return [pid for pid in found if (line := read_process(pid)) and line.parent not in found]

    def runners(self, tag: str = "") -> list[int]:
        return self.processes(
            lambda words, marks: (
                b"lading.toolkit.runner.node" in words and marks.get(ALLOCATION_MARK, "").startswith(tag)
            )
        )

    def guardians(self) -> list[int]:
        return self.processes(lambda words, marks: b"lading.toolkit.runner" in words)

    def jobs(self) -> list[int]:
        return self.processes(lambda words, marks: ATTEMPT_MARK in marks)

    def stop(self, *pids: int) -> None:
        """STOP processes; before a kill, so that none of them can act on the death of another."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def kill(self, *pids: int) -> None:
        self.stop(*pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """KILL everything of this lab."""
        for child in self.others:
            child.kill()
            child.wait()

        def remaining() -> list[int]:
            pids = self.processes(lambda words, marks: True)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return pids

        until(lambda: not remaining(), 20, f"everything below {self.folder} is killed")

    # ---- the workflow ------------------------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[Lading]:
        target = Target.from_server_file(self.server_file)
        with Lading(target, patience=Patience(tries=8, first_ceiling=0.1, last_ceiling=1.0)) as client:
            yield client

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send what a foreign client may send; return status and document."""
        target = Target.from_server_file(self.server_file)
        headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/json"}
        data = None if body is None else msgspec.json.encode(body)
        request = Request(f"{target.url}{path}", data, headers, method=method)
        try:
            with urlopen(request, timeout=30) as response:
                return int(response.status), msgspec.json.decode(response.read())
        except HTTPError as error:
            return error.code, error.read().decode()

    def specification(
        self,
        seconds: Iterable[float] = LENGTHS,
        *,
        name: str = "faults",
        schedulers: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        if schedulers is None:
            schedulers = [{"name": "local", "num_cpus": NUM_CPUS, "memory": "64g", "max_allocations": 1}]
        return {
            "name": name,
            "jobs": [
                {
                    "name": f"{name}{number:04}",
                    "command": f"bash {JOB_SCRIPT} {self.folder} {name}{number:04} {length:g}",
                    "stdout": "none",
                }
                for number, length in enumerate(seconds)
            ],
            "schedulers": {"local_schedulers": list(schedulers)},
            "config": {
                "lease_seconds": LEASE_SECONDS,
                "working_directory": str(self.folder),
                "output_directory": str(self.output),
            },
        }

    def submit(self, specification: Mapping[str, Any]) -> str:
        """Store and start a workflow."""
        with self.client() as client:
            key = str(client.create_workflow(specification)["_key"])
            client.start_workflow(key)
        return key

    def await_completion(self, workflow: str, seconds: float = 60.0) -> None:
        with self.client() as client:
            until(lambda: client.progress(workflow).is_complete, seconds, "the workflow is complete")

    def await_ends(self, number: int, seconds: float = 30.0) -> None:
        """Wait until so many attempts have ended by themselves."""
        text = f"{number} jobs have ended"
        until(lambda: (self.folder / "journal").read_text().count(" end ") >= number, seconds, text)

    def history(self) -> dict[str, list[Start]]:
        """Return every start of every job, in the order of their starts. An overlap fails the test."""
        found: dict[str, list[Start]] = defaultdict(list)
        for line in (self.folder / "journal").read_text().splitlines():
            name, attempt, pid, what, moment = line.split()
            assert what != "overlap", f"{name}: attempt {attempt} began while another was alive"
            if what == "start":
                found[name].append(Start(int(attempt), int(pid), float(moment)))
            else:
                [own] = [start for start in found[name] if start.pid == int(pid) and start.ended is None]
                own.ended = float(moment)
        return found

    def spooled(self) -> set[str]:
        """Return the attempts whose end, by themselves, is on the disk and perhaps nowhere else."""
        found = set()
        for path in (self.output / ".lading" / "spool").glob("*.jsonl"):
            for line in path.read_bytes().splitlines():
                with suppress(msgspec.DecodeError, KeyError):
                    ended = msgspec.json.decode(line)["ended"]
                    if ended["cause"] == "exit":
                        found.add(str(ended["attempt_id"]))
        return found

    def attempts(self, workflow: str) -> dict[str, list[AttemptDocument]]:
        with self.client() as client:
            found: dict[str, list[AttemptDocument]] = defaultdict(list)
            for attempt in client.list_attempts(workflow):
                found[attempt.job_name].append(attempt)
        return found

    def open_jobs(self, workflow: str) -> set[str]:
        """Return the jobs whose end the server does not know: those alone may have to run again."""
        attempts = self.attempts(workflow)
        return {name for name, own in attempts.items() if any(item.state != "ended" for item in own)}

    def check(
        self,
        workflow: str,
        *,
        count: int = NUM_JOBS,
        spooled: Iterable[str] = (),
        again: Iterable[str] | None = None,
    ) -> None:
        """Hold the engine to its promises; `again` names the jobs that may have started more than once."""
        history, attempts = self.history(), self.attempts(workflow)
        with self.client() as client:
            results = list(client.list_results(workflow))
            statuses = [job["status"] for job in client.list_jobs(workflow)]
        assert statuses == ["done"] * count
        assert sorted(history) == sorted(attempts)
        assert len(results) == len({(result["job_key"], result["run_id"]) for result in results}) == count
        assert {result["return_code"] for result in results} == {0}
        for name, starts in history.items():
            _check_job(name, starts, attempts[name])
        reported = {attempt.attempt_id: attempt for own in attempts.values() for attempt in own}
        for attempt_id in spooled:
            assert reported[attempt_id].cause == "exit", f"{attempt_id} was spooled and its job ran again"
        repeated = {name for name, starts in history.items() if len(starts) > 1}
        assert again is None or repeated <= set(again), f"ran again: {sorted(repeated - set(again))}"
        verdict = self.lading("db", "verify", "--database", self.database)
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr

    def note_logs(self) -> None:
        """Print the logs: pytest shows them when the test has failed."""
        for path in [*self.folder.glob("*.log"), *self.output.glob("*.log")]:
            sys.stdout.write(f"--- {path.name}\n{path.read_text()[-6000:]}\n")


def _check_job(name: str, starts: Sequence[Start], attempts: Sequence[AttemptDocument]) -> None:
    numbers = [start.attempt for start in starts]
    assert len(set(numbers)) == len(numbers), f"{name}: an attempt was started twice: {starts}"
    assert numbers == sorted(numbers), f"{name}: {starts}"
    for earlier, later in pairwise(starts):
        assert earlier.ended is None or earlier.ended <= later.started, f"{name}: {starts}"
    causes = {attempt.number: attempt.cause for attempt in attempts}
    # Whatever ended by itself and was told is the last that ran; every start is an attempt of the engine's.
    assert causes[numbers[-1]] == "exit", f"{name}: {causes}"
    assert all(causes[number] not in {"exit", None} for number in numbers[:-1]), f"{name}: {causes}"
    assert starts[-1].ended is not None, f"{name}: its last attempt never ended: {starts}"


@contextmanager
def running_lab(folder: Path, database: str = "") -> Iterator[Lab]:
    lab = Lab(folder, database)
    try:
        yield lab
    finally:
        lab.note_logs()
        lab.clear()
        shutil.rmtree(folder / "alive", ignore_errors=True)


def proxied(lab: Lab, url: str) -> Path:
    """Write a copy of the server's file that names the proxy; who is given it talks through that."""
    record = msgspec.json.decode(lab.server_file.read_bytes(), type=ServerFile)
    path = lab.folder / "proxied" / "server.json"
    path.parent.mkdir(mode=0o700)
    write_private(path, msgspec.json.encode(msgspec.structs.replace(record, url=url)))
    return path
