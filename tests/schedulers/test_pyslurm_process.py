"""The child process that holds pyslurm, with a stand-in for the library that dies, hangs and shouts when asked to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lading.schedulers.slurm.choice import chosen_transport
from lading.schedulers.slurm.programs import Programs
from lading.schedulers.slurm.pyslurm_process import PyslurmProcess, PyslurmUnusable
from lading.schedulers.slurm.pyslurm_transport import Pyslurm
from lading.toolkit.errors import BackendError, PermanentError, TransientError
from lading.toolkit.settings import Settings
from tests.lib.waiting import until

_LIBRARY = '''
"""Keeps the promises of pyslurm that the child relies on; the number of a job says what goes wrong."""
import os, sys, time
from types import SimpleNamespace as Record

__version__ = "25.11.0"

class PyslurmError(Exception): pass

class RPCError(PyslurmError):
    def __init__(self, errno, msg):
        super().__init__(msg)
        self.errno, self.msg = errno, msg

def slurm_init():
    os.write(1, b"libslurm prints to the output\\n")
    print("libslurm: error: and to the other one", file=sys.stderr)

class JobSubmitDescription:
    def __init__(self, **fields):
        self.fields = fields
    def submit(self):
        name = self.fields["name"]
        if name == "dies":
            os._exit(1)
        if name == "hangs":
            time.sleep(600)
        if name == "refused":
            raise RPCError(2000, "Invalid partition name specified")
        if name == "slow":
            raise RPCError(5004, "Socket timed out on send/recv operation")
        if name == "odd":
            raise AttributeError("no field 'odd'")
        return len([name for name in os.environ if name.startswith("SLURM_BITSTR")]) + 40

class Jobs:
    @staticmethod
    def load():
        plain = dict(user_id=os.getuid(), state="PENDING", state_reason="None", time_limit=5, end_time=None,
            start_time=None, allocated_nodes=None, exit_code=0, exit_code_signal=0, name="x",
            array_id=None, array_task_id=None, array_tasks_waiting=None)
        return {
            1: Record(id=1, **plain),
            5: Record(id=5, **plain | dict(array_id=5, array_tasks_waiting="2-4")),
            6: Record(id=6, **plain | dict(array_id=5)),
            7: Record(id=7, **plain | dict(user_id=os.getuid() + 1)),
            8: Record(id=8, **plain | dict(state="RUNNING", time_limit="UNLIMITED", end_time=99)),
        }

_ended = []

class Job:
    def __init__(self, number):
        self.number = number
    def cancel(self):
        _ended.append(self.number)
        print("ended", self.number, file=sys.stderr)
'''


_OWNER = """
import os, sys
from pathlib import Path
from lading.schedulers.slurm.pyslurm_process import PyslurmProcess
process = PyslurmProcess(Path(sys.executable))
process.call("version", 60.0)
print(process._process.pid, flush=True)
# Killed, as it were: nothing is closed in order.
os._exit(0)
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyslurm.py").write_text(_LIBRARY)
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    return tmp_path


@pytest.fixture
def process(library: Path):
    process = PyslurmProcess(Path(sys.executable))
    yield process
    process.close()


def submit(process: PyslurmProcess, name: str, seconds: float = 60.0) -> int:
    return process.call("submit", seconds, fields={"name": name})


def test_what_the_library_prints_is_no_answer(process):
    assert process.call("version", 60.0) == "25.11.0"
    # And what the child itself needs is not handed to jobs.
    assert submit(process, "fine") == 40


def test_a_child_that_dies_is_weather_and_the_next_call_has_another(process):
    with pytest.raises(TransientError, match="ended with code 1"):
        submit(process, "dies")
    assert submit(process, "fine") == 40


def test_a_child_that_hangs_is_ended_and_the_next_call_has_another(process):
    assert submit(process, "fine") == 40
    child = process._process.pid
    with pytest.raises(TransientError, match="in time"):
        submit(process, "hangs", seconds=0.5)
    assert not Path(f"/proc/{child}").exists()
    assert submit(process, "fine") == 40


def test_refusals_keep_the_child(process):
    submit(process, "fine")
    child = process._process.pid
    with pytest.raises(PermanentError, match="partition: "):
        submit(process, "refused")
    with pytest.raises(TransientError, match="5004"):
        submit(process, "slow")
    with pytest.raises(PermanentError, match="odd"):
        submit(process, "odd")
    assert process._process.pid == child


def test_the_child_ends_with_whoever_asks_it(library):
    owner = subprocess.run([sys.executable, "-c", _OWNER], capture_output=True, text=True, check=True)
    child = int(owner.stdout)
    until(lambda: _is_gone(child), 30.0, "the child has ended")


def _is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_descriptor_is_held_as_long_as_the_child_lives(library):
    reading, writing = os.pipe()
    process = PyslurmProcess(Path(sys.executable), held=[writing])
    submit(process, "fine")
    os.close(writing)
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    process.close()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_calls_of_several_threads_get_their_own_answers(process):
    def ask() -> None:
        for _ in range(20):
            answers.add((process.call("version", 60.0), submit(process, "fine")))

    answers: set[tuple[str, int]] = set()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {("25.11.0", 40)}


def test_the_first_task_and_jobs_without_an_end_are_read_right(library):
    jobs = {job.identity: job for job in Pyslurm(Path(sys.executable)).jobs()}
    assert jobs.keys() == {"1", "5_0", "5_2", "5_3", "5_4", "8"}
    assert jobs["8"].left_seconds is None


def test_records_of_several_tasks_are_ended_whole_or_not_at_all(process, monkeypatch):
    assert sorted(process.call("cancel", 60.0, jobs=["1", "5_2", "5_3", "999"])) == ["5_2", "5_3"]
    assert process.call("take_back", 60.0, jobs=["5_2", "5_3", "5_4", "8"]) == []
    process.close()
    ended = [line for line in process._said if line.startswith("ended")]
    assert set(ended) == {"ended 1", "ended 5"}
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PermanentError, match="no scancel"):
        Pyslurm(Path(sys.executable)).cancel(["5_2"])


def test_a_python_without_pyslurm_is_named(library):
    (library / "pyslurm.py").unlink()
    with pytest.raises(PyslurmUnusable, match="pyslurm_python: "):
        PyslurmProcess(Path(sys.executable)).call("version", 60.0)
    with pytest.raises(PyslurmUnusable, match="cannot be started"):
        PyslurmProcess(library / "no-python").call("version", 60.0)


def test_auto_takes_pyslurm_where_it_answers(library):
    def chosen(**given):
        return chosen_transport(Settings(pyslurm_python=Path(sys.executable), **given))

    assert isinstance(chosen(), Programs)
    assert isinstance(chosen(slurm_transport="auto"), Pyslurm)
    (library / "pyslurm.py").unlink()
    assert isinstance(chosen(slurm_transport="auto"), Programs)
    with pytest.raises(BackendError):
        chosen(slurm_transport="pyslurm").site()
