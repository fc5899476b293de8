"""The guardian: starts and reaps the jobs, holds the deadline, outlives the runner.

It kills when the lease is about to end, whatever the runner does (hung, stopped, gone), so that an
ended lease means for the server: nothing runs there any more. Standard library only, one thread.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lading.toolkit.runner import processes
from lading.toolkit.runner.alarm import BoottimeAlarm, become_subreaper
from lading.toolkit.runner.completion import ended_fields, infrastructure_stop
from lading.toolkit.runner.doubts import Doubts
from lading.toolkit.runner.hosts import is_of_the_step
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.messages import Launch, RawEnd, Session, Stop
from lading.toolkit.runner.nursery import Nursery
from lading.toolkit.runner.options import Options

_RUNNER_PATIENCE_SECONDS: Final = 60.0
"""From the first TERM until a runner that has not left is killed: its own grace is 30 s."""
_STUCK_AFTER_SECONDS: Final = 10.0
_STEPS_SECONDS: Final = 60.0
"""For KILL to take effect on the other nodes of a job."""
_STOPPED_FOR_SECONDS: Final = 5.0
_STOPPED_STATES: Final = frozenset({"T", "t"})
_FAREWELL_SEQUENCE_STEP: Final = 1_000_000
"""Above any request that the dead runner may still have sent."""
_ALLOCATION_ENDED: Final[Stop] = {
    "cause": "allocation_ended",
    "status": "terminated",
    "message": "The runner was told to stop at once.",
}


@dataclass(slots=True)
class _Lease:
    kill_at: float = float("inf")
    until: float = float("inf")
    seconds: float = 60.0
    sequence: int = 0


class Guardian:
    """One node's top process."""

    def __init__(self, options: Options, allocation: str, lock: int | None) -> None:
        self._options = options
        self._journal = Journal(options.log_file, "guardian")
        self._name = processes.identity(os.getpid())
        self._lock = lock
        self._allocation = allocation
        self._selector = selectors.DefaultSelector()
        self._alarm = BoottimeAlarm()
        self._lease = _Lease()
        self._expired = False
        self._session: Session | None = None
        self._runner = 0
        self._runner_status: int | None = None
        self._said_bye = False
        self._signals = 0
        self._give_up_at = float("inf")
        self._look_for_stuck_at = float("inf")
        self._look_at_runner_at = float("inf")
        self._runner_was_stopped = False
        self._stuck_reported: set[str] = set()
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._launches: dict[str, Launch] = {}
        # Elsewhere a job that TERM ends was sent it by somebody who meant that job.
        self._doubts = Doubts(shares_signals="SLURM_JOB_ID" in os.environ)
        self._unacknowledged: dict[str, tuple[RawEnd, Launch | None]] = {}

    def run(self) -> int:
        """Run until the runner has left and no job is alive; return the exit code."""
        become_subreaper()
        self._watch_signals()
        self._selector.register(self._alarm, selectors.EVENT_READ, self._on_alarm)
        self._start_runner()
        self._nursery = Nursery(self._job_environment(), not_jobs=lambda: {self._runner})
        while self._runner_status is None:
            self._turn()
        code = self._runner_status
        self._journal.info(f"The runner ended with {code}.")
        clean = self._said_bye and code >= 0
        if clean:
            self._nursery.kill_all(infrastructure_stop("The job runner has left."))
            self._wait_for_jobs()
        else:
            self._take_over(code)
        return code if clean else (1 if code <= 0 else code)

    # ---- the runner --------------------------------------------------------------------------

    def _start_runner(self) -> None:
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno()] + ([] if self._lock is None else [self._lock])
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        environment = {name: value for name, value in os.environ.items() if name not in processes.MARKS}
        environment[processes.ALLOCATION_MARK] = self._allocation
        command = [
            sys.executable, "-P", "-m", "lading.toolkit.runner.node",
            "--channel", str(theirs.fileno()), "--guardian", self._name, *self._options.arguments(),
        ]  # fmt: skip
        # A session of its own: Ctrl-C on a terminal reaches the guardian only, and counts once.
        self._runner = os.posix_spawn(sys.executable, command, environment, setsid=True, setsigmask=())
        # The lock stays with the runner as well (one open file, two holders): while it still ends the
        # jobs of a dead guardian, no other may start.
        if self._lock is not None:
            os.set_inheritable(self._lock, False)
        theirs.close()
        ours.setblocking(False)
        self._channel = ours
        self._selector.register(ours, selectors.EVENT_READ, self._on_channel)
        self._journal.info(f"Guardian {os.getpid()} started runner {self._runner}.")

    def _job_environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not is_secret(name) and not is_of_the_step(name)
        }
        for name in processes.MARKS:
            environment.pop(name, None)
        # Last, so that it hides nothing: `lading` of this installation is found where no other is.
        own = str(Path(sys.executable).parent)
        folders = environment.get("PATH", os.defpath).split(os.pathsep)
        environment["PATH"] = os.pathsep.join(folders if own in folders else [*folders, own])
        environment[processes.ALLOCATION_MARK] = self._allocation
        environment[processes.GUARDIAN_MARK] = self._name
        environment[processes.RUNNER_MARK] = processes.identity(self._runner)
        return environment

    def _take_over(self, code: int) -> None:
        """Act for a dead runner: kill, reap, report the true ends, leave."""
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        self._journal.error(f"The runner {how}; its {len(self._nursery)} jobs are ended.")
        if self._channel.fileno() >= 0:
            # What it had already sent may hold launches; they are dropped, nobody would hear of them.
            self._close_channel()
        self._nursery.kill_all(infrastructure_stop(f"The job runner {how}."))
        self._look_for_stuck_at = _boottime() + _STUCK_AFTER_SECONDS
        while len(self._nursery) and not self._stuck_reported:
            self._turn()
        self._report_ends(self._doubts.settled(float("inf")))
        # If steps on other nodes do not end, Slurm's word that all is over must be waited for.
        if self._steps_are_over() and self._session is not None:
            self._say_goodbye(self._session)
        self._wait_for_jobs()

    def _steps_are_over(self) -> bool:
        """End what jobs of several nodes have on other nodes, where a killed srun leaves it alone."""
        launches = [*self._launches.values(), *(one for _, one in self._unacknowledged.values() if one)]
        hosts = sorted({host for launch in launches for host in launch.get("hosts", ())})
        if not hosts:
            return True
        from lading.toolkit.runner.steps import clear_steps

        seconds = min(_STEPS_SECONDS, max(0.0, self._lease.until - _boottime()))
        failure = clear_steps(hosts, os.environ["SLURM_JOB_ID"], seconds).failure
        if failure:
            self._journal.error(f"Jobs of several nodes may have left processes: {failure}.")
        return not failure

    def _wait_for_jobs(self) -> None:
        while len(self._nursery):
            self._turn()

    def _say_goodbye(self, session: Session) -> None:
        from lading.toolkit.runner.farewell import say_goodbye
        from lading.toolkit.runner.spool import read_records

        spool = Path(session["spool"])
        records = read_records(spool)
        for attempt, (end, launch) in self._unacknowledged.items():
            records.setdefault(attempt, (end["at"], ended_fields(end, launch)))

        def make_request() -> dict[str, Any]:
            self._lease.sequence += _FAREWELL_SEQUENCE_STEP
            now = _boottime()
            ended = [{**fields, "age_seconds": max(0.0, now - at)} for at, fields in records.values()]
            held = self._nursery.attempts()
            # With a process that will not die this is no good-bye: nothing may be run elsewhere yet.
            return {"seq": self._lease.sequence, "held": held, "ended": ended, "leave": not held}

        until = min(self._lease.until, _boottime() + 2 * self._lease.seconds)
        if say_goodbye(session, make_request, self._journal, until=until, interrupted=self._is_urgent):
            self._journal.info(f"Reported {len(records)} ended attempts for the runner.")
            spool.unlink(missing_ok=True)

    def _is_urgent(self) -> bool:
        return self._signals >= 2

    # ---- events ------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._alarm.arm(
            min(
                self._lease.kill_at,
                self._give_up_at,
                self._look_for_stuck_at,
                self._look_at_runner_at,
                self._doubts.until,
            )
        )
        for key, _ in self._selector.select():
            key.data()
        ends = self._nursery.reap()
        if self._runner in self._nursery.exits:
            self._runner_status = os.waitstatus_to_exitcode(self._nursery.exits.pop(self._runner))
            # Its process id may be given to another process from now on.
            self._runner = 0
        self._report_ends(self._doubts.sift(ends))
        self._flush()

    def _watch_signals(self) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        self._wakeup = (reader, writer)
        # A full pipe means that a wake-up is pending already.
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        # TSTP would stop us before its runner has had its jobs ended; STOP follows if it is meant.
        for number in (signal.SIGCHLD, signal.SIGTSTP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(reader, selectors.EVENT_READ, self._on_signals)

    def _on_signals(self) -> None:
        received = b""
        with suppress(BlockingIOError):
            received = self._wakeup[0].recv(4096)
        for number in received:
            if number not in {signal.SIGCHLD, signal.SIGTSTP}:
                self._on_stop_signal(number)

    def _on_stop_signal(self, number: int) -> None:
        self._signals += 1
        name = signal.Signals(number).name
        self._journal.info(f"Received {name} ({self._signals}).")
        self._report_ends(self._doubts.end_allocation())
        self._send({"op": "signal", "number": number})
        if self._signals == 1:
            # A runner that hangs must not keep the node from leaving.
            self._give_up_at = _boottime() + _RUNNER_PATIENCE_SECONDS
        elif self._signals == 2:
            self._nursery.kill_all(_ALLOCATION_ENDED)
            self._give_up_at = min(self._give_up_at, _boottime() + _STUCK_AFTER_SECONDS)
        else:
            processes.send_signal([self._runner], signal.SIGKILL)

    def _on_alarm(self) -> None:
        self._alarm.clear()
        now = _boottime()
        if now >= self._lease.kill_at:
            self._lease.kill_at = float("inf")
            self._expired = True
            self._look_for_stuck_at = now + _STUCK_AFTER_SECONDS
            self._look_at_runner_at = now + _STOPPED_FOR_SECONDS
            if len(self._nursery):
                self._journal.error(f"The lease is about to end: {len(self._nursery)} jobs are killed.")
                self._nursery.kill_all(infrastructure_stop("The server was not reached within the lease."))
                # Not left to the runner, which may hang.
                self._steps_are_over()
            self._send({"op": "expired"})
        if now >= self._give_up_at:
            self._give_up_at = float("inf")
            if self._runner_status is None:
                self._journal.error("The runner did not leave in time; it is killed.")
                processes.send_signal([self._runner], signal.SIGKILL)
        if now >= self._look_for_stuck_at:
            self._look_for_stuck(now)
        if now >= self._look_at_runner_at:
            self._look_at_runner(now)
        self._report_ends(self._doubts.settled(now))

    def _look_at_runner(self, now: float) -> None:
        """KILL a runner that stays stopped when its lease is over, so that its share of the host is free.

        Two looks, because one that is being woken together with us may not have had its turn yet. One that
        runs may only wait for its server, and leaves by itself.
        """
        line = processes.read_process(self._runner) if self._runner else None
        is_stopped = line is not None and line.state in _STOPPED_STATES
        if is_stopped and self._runner_was_stopped:
            self._journal.error("The runner is stopped and its lease has ended; it is killed.")
            processes.send_signal([self._runner], signal.SIGKILL)
        self._runner_was_stopped = is_stopped
        self._look_at_runner_at = now + _STOPPED_FOR_SECONDS

    def _look_for_stuck(self, now: float) -> None:
        stuck = self._nursery.stuck(_STUCK_AFTER_SECONDS - 1)
        self._look_for_stuck_at = now + _STUCK_AFTER_SECONDS if stuck else float("inf")
        fresh = stuck.keys() - self._stuck_reported
        for attempt in fresh:
            self._journal.error(
                f"Process {stuck[attempt]} of attempt {attempt} does not die; it is not reported ended."
            )
        if fresh:
            self._stuck_reported |= fresh
            self._send({"op": "stuck", "attempts": sorted(fresh)})

    # ---- the channel -------------------------------------------------------------------------

    def _on_channel(self) -> None:
        try:
            block = self._channel.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            # The runner is gone or about to go; if it hangs on its way out, it is helped.
            self._close_channel()
            self._give_up_at = min(self._give_up_at, _boottime() + _STUCK_AFTER_SECONDS)
            return
        self._incoming += block
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = rest
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "launch":
                self._launch(message["jobs"])
            case "kill":
                # What has ended already is reported as it ended, not as killed.
                self._report_ends(self._doubts.sift(self._nursery.reap()))
                self._nursery.kill(message["attempts"], message["signal"], message["stop"])
                self._look_for_stuck_at = min(self._look_for_stuck_at, _boottime() + _STUCK_AFTER_SECONDS)
            case "forget":
                for attempt in message["attempts"]:
                    self._unacknowledged.pop(attempt, None)
            case "lease":
                self._lease = _Lease(
                    message["kill_at"], message["until"], message["seconds"], message["sequence"]
                )
                self._expired = False
                self._look_at_runner_at = float("inf")
            case "hold":
                # The server lets the lease stand still: nothing is given to others while we are stopped.
                self._lease.kill_at = self._lease.until = float("inf")
            case "session":
                self._session = message["session"]
            case "bye":
                self._said_bye = True
            case unknown:
                self._journal.error(f"The runner sent an unknown message: {unknown!r}.")

    def _launch(self, launches: Sequence[Launch]) -> None:
        # The alarm may not have been looked at yet: a runner that was stopped past its lease and goes
        # on sends launches first.
        if self._expired or _boottime() >= self._lease.kill_at:
            self._send({"op": "refused", "attempts": [launch["id"] for launch in launches]})
            return
        started: list[tuple[str, int, float]] = []
        failed: list[RawEnd] = []
        for launch in launches:
            outcome = self._nursery.launch(launch)
            if isinstance(outcome, int):
                started.append((launch["id"], outcome, _boottime()))
            else:
                failed.append(outcome)
            self._launches[launch["id"]] = launch
        if started:
            self._send({"op": "started", "jobs": started})
        self._report_ends(failed)

    def _report_ends(self, ends: Sequence[RawEnd]) -> None:
        if ends:
            for end in ends:
                self._unacknowledged[end["id"]] = (end, self._launches.pop(end["id"], None))
            self._send({"op": "ended", "ends": ends})

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel.fileno() >= 0:
            self._outgoing += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def _flush(self) -> None:
        """Send what can be sent now; a runner that hangs never makes the guardian wait."""
        if self._channel.fileno() < 0:
            return
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outgoing:
                del self._outgoing[: self._channel.send(self._outgoing)]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        self._selector.modify(self._channel, events, self._on_channel)

    def _close_channel(self) -> None:
        self._selector.unregister(self._channel)
        self._channel.close()
        self._outgoing.clear()


def is_secret(name: str) -> bool:
    """Tell whether an environment variable must not reach a job."""
    return name.startswith("LADING_") and ("TOKEN" in name or name == "LADING_NODE_FILE")


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
