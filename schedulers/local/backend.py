"""The local backend: an allocation is a job runner of this host, in a session of its own.

What makes a tag launch at most once, whoever is killed when:
- the guardian holds a lock on `<tag>.<index>.lock` for life, so a second one leaves at once;
- it writes `<tag>.<index>.json` before it does anything else, and that file stays: a row that ever had a
  guardian is *found*, alive or dead, and never launched again;
- its environment carries the marker, so it is found also before it has written anything.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lading.schedulers.local.processes import (
    MARKER_VARIABLE,
    is_alive,
    is_job,
    kill_marked,
    marked_processes,
    send_signal,
    without_secrets,
)
from lading.schedulers.local.records import (
    Identity,
    Row,
    cancel_age,
    guardian_lives,
    is_locked,
    log_of,
    note_host,
    recorded,
    rows_of,
)
from lading.schedulers.local.shares import HostShares, Share
from lading.toolkit.backends import Allocation, Availability, LaunchRequest, Observation, ObservedState
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import PermanentError, TransientError
from lading.toolkit.private_files import boot_id, make_private_directory

EXIT_LOCK_HELD: Final = 75
"""What a guardian exits with when another one of its row is alive."""

_RECORD_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_KILL_SECONDS: Final = 2.0
_CANCEL_GRACE_SECONDS: Final = 30.0
_LAST_WORDS_SECONDS: Final = 10.0


class LocalBackend:
    """Runs job runners on this host."""

    kind = "local"
    observe_interval_seconds = 1.0
    """Looking at a process costs one read of /proc, so its end is noticed within about a second."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        last_words_seconds: float = _LAST_WORDS_SECONDS,
        cancel_grace_seconds: float = _CANCEL_GRACE_SECONDS,
    ) -> None:
        self._command = tuple(command or (sys.executable, "-P", "-m", "lading.toolkit.runner"))
        self._last_words_seconds = last_words_seconds
        self._cancel_grace_seconds = cancel_grace_seconds
        self._mutex = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._orphaned_since: dict[str, float] = {}

    def probe(self) -> Availability:
        """Say how many CPUs this host offers, or why nothing can run here."""
        if not sys.platform.startswith("linux") or not Path("/proc/self/environ").exists():
            return Availability(available=False, reason="local allocations need Linux with /proc mounted")
        count = len(os.sched_getaffinity(0))
        return Availability(available=True, reason=f"{count} CPUs on {socket.gethostname()}")

    def submit(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Start one guardian per row that never had one; wait until each has written its record."""
        rows = rows_of(request)
        make_private_directory(request.state_directory)
        found = self._find_rows(rows)
        missing = [row for row in rows if row.index not in found]
        if missing:
            note_host(request.state_directory)
            shares = HostShares(request.state_directory, guardian_lives).grant(
                [row.marker for row in missing], request.config
            )
            children = [self._spawn(row, share) for row, share in zip(missing, shares, strict=True)]
            for row, child in zip(missing, children, strict=True):
                found[row.index] = self._await_record(row, child)
        return _allocations(found)

    def find(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Return the rows that have or had a guardian; raise TransientError while one is just starting."""
        return _allocations(self._find_rows(rows_of(request)))

    def observe(self, external_ids: Sequence[str]) -> Sequence[Observation]:
        """Look at the guardians; of a dead one everything is killed before its death is called proven."""
        self._reap()
        observations: dict[str, Observation] = {}
        dead: dict[str, str] = {}
        for external_id in external_ids:
            observation = self._observe_living(external_id)
            if isinstance(observation, Observation):
                observations[external_id] = observation
            else:
                dead[external_id] = observation.marker
        observations.update(self._bury(dead))
        return [observations[external_id] for external_id in external_ids]

    def cancel(self, external_ids: Sequence[str]) -> None:
        """Ask each guardian once to leave; when it has not within 30 s, kill it and its processes."""
        for external_id in external_ids:
            identity = Identity.parse(external_id)
            if identity is None or identity.boot_id != boot_id():
                continue
            if not is_alive(identity.pid, identity.start_ticks):
                continue
            asked = cancel_age(identity)
            if asked is None:
                send_signal(identity.pid, identity.start_ticks, signal.SIGTERM)
            elif asked >= self._cancel_grace_seconds:
                send_signal(identity.pid, identity.start_ticks, signal.SIGKILL)
                kill_marked([identity.marker], _KILL_SECONDS)

    def render(self, request: LaunchRequest) -> str:
        """Return the command line of each row as shell text."""
        share = Share.stated(request.config)
        lines = [f"cd {shlex.quote(str(request.working_directory))}"]
        lines += [
            f"{MARKER_VARIABLE}={row.marker} {shlex.join(self._argv(row, share))}"
            f" </dev/null >>{shlex.quote(str(row.log))} 2>&1 &"
            for row in rows_of(request)
        ]
        return "\n".join(lines) + "\n"

    def log_files(self, external_id: str, output_directory: Path) -> Sequence[Path]:
        """Return the log of a guardian and its runner; nothing for a foreign id."""
        identity = Identity.parse(external_id)
        return [] if identity is None else [log_of(output_directory, identity.marker)]

    # ---- submit and find ----

    def _find_rows(self, rows: Sequence[Row]) -> dict[int, Allocation]:
        found: dict[int, Allocation] = {}
        silent: list[Row] = []
        for row in rows:
            allocation = recorded(row)
            if allocation is None:
                silent.append(row)
            else:
                found[row.index] = allocation
        marked = marked_processes([row.marker for row in silent])
        for row in silent:
            # The environment is asked before the lock: testing a lock takes it for a moment, which
            # would turn away a guardian that is just starting.
            if marked[row.marker] or is_locked(row.lock):
                allocation = self._await_starting(row)
            else:
                # Once more: it may have written its record and ended between the two looks.
                allocation = recorded(row)
            if allocation is not None:
                found[row.index] = allocation
        return found

    def _await_starting(self, row: Row) -> Allocation | None:
        """Wait for the record of a guardian that some earlier process started; None when it died first."""
        deadline = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            allocation = recorded(row)
            if allocation is not None:
                return allocation
            if not marked_processes([row.marker])[row.marker] and not is_locked(row.lock):
                return recorded(row)
        raise TransientError(f"A runner of {row.marker} is starting and has not said who it is.")

    def _spawn(self, row: Row, share: Share) -> subprocess.Popen[bytes]:
        row.request.output_directory.mkdir(parents=True, exist_ok=True)
        environment = without_secrets(os.environ)
        environment[MARKER_VARIABLE] = row.marker
        try:
            with row.log.open("ab") as log:
                child = subprocess.Popen(
                    self._argv(row, share),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=row.request.working_directory,
                    env=environment,
                    close_fds=True,
                    start_new_session=True,
                )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise PermanentError(f"The runner of {row.marker} cannot be started: {error}") from error
        except OSError as error:
            raise TransientError(f"The runner of {row.marker} cannot be started now: {error}") from error
        with self._mutex:
            self._children[row.marker] = child
        return child

    def _await_record(self, row: Row, child: subprocess.Popen[bytes]) -> Allocation:
        """Wait for the record, which names the guardian that won the lock, be it ours or another's."""
        deadline = time.monotonic() + _RECORD_SECONDS
        while time.monotonic() < deadline:
            # The state is asked before the record: a guardian may write its record and leave at once.
            code = child.poll()
            allocation = recorded(row)
            if allocation is not None:
                return allocation
            if code is not None and code != EXIT_LOCK_HELD:
                raise _failed_start(row, code)
            if code == EXIT_LOCK_HELD and not is_locked(row.lock):
                raise TransientError(f"Another runner of {row.marker} came first and has left again.")
            time.sleep(_POLL_SECONDS)
        raise TransientError(f"The runner of {row.marker} did not begin within {_RECORD_SECONDS:.0f} s.")

    def _argv(self, row: Row, share: Share) -> list[str]:
        request = row.request
        argv = [*self._command, "--node-file", str(request.node_files[row.index])]
        argv += ["--lock-file", str(row.lock), "--record-file", str(row.record), "--log-file", str(row.log)]
        if share.cpus is not None:
            argv += ["--cpus", str(share.cpus)]
        if share.memory_bytes is not None:
            argv += ["--memory-bytes", str(share.memory_bytes)]
        jobs = request.parameters.get("max_parallel_jobs") or request.config.get("max_parallel_jobs")
        if jobs:
            argv += ["--max-parallel-jobs", str(int(jobs))]
        name = "cpu_affinity_cpus_per_job"
        cpus_per_job = request.parameters.get(name) or request.config.get(name)
        if cpus_per_job:
            argv += ["--cpu-affinity-cpus-per-job", str(int(cpus_per_job))]
        return argv

    # ---- observe ----

    def _observe_living(self, external_id: str) -> Observation | Identity:
        """Return what is plain to see, or the identity of a guardian of this host that is dead."""
        identity = Identity.parse(external_id)
        if identity is None:
            return Observation(external_id, ObservedState.UNKNOWN, "not an id of a local allocation")
        same_boot = identity.boot_id == boot_id()
        if same_boot and is_alive(identity.pid, identity.start_ticks):
            self._orphaned_since.pop(external_id, None)
            return Observation(external_id, ObservedState.ACTIVE)
        if identity.host != socket.gethostname():
            reason = f"it runs on {identity.host}, which cannot be looked at from {socket.gethostname()}"
            return Observation(external_id, ObservedState.UNKNOWN, reason)
        if not same_boot:
            return _ended(external_id, f"{identity.host} was started anew")
        return identity

    def _bury(self, dead: Mapping[str, str]) -> dict[str, Observation]:
        """Let the remains of dead guardians end; kill what stays; prove that nothing is left."""
        if not dead:
            return {}
        now = time.monotonic()
        marked = marked_processes(set(dead.values()))
        doomed: set[str] = set()
        dying: dict[str, Observation] = {}
        for external_id, marker in dead.items():
            since = self._orphaned_since.setdefault(external_id, now)
            if not marked[marker]:
                continue
            if now - since < self._last_words_seconds and not all(map(is_job, marked[marker])):
                # A runner that lost its guardian kills its jobs itself and delivers the results it
                # still holds; killing it at first sight would make finished jobs run again. Jobs that
                # lost both are nobody's: they are ended before another runner may be given them.
                reason = "its guardian is dead; the runner is given time to report"
                dying[external_id] = Observation(external_id, ObservedState.ACTIVE, reason)
            else:
                doomed.add(marker)
        living = kill_marked(doomed, _KILL_SECONDS)
        for external_id, marker in dead.items():
            if external_id in dying:
                continue
            if marker in living:
                names = ", ".join(str(pid) for pid in sorted(living[marker]))
                reason = f"its processes {names} cannot be killed"
                dying[external_id] = Observation(external_id, ObservedState.UNKNOWN, reason)
            else:
                self._orphaned_since.pop(external_id, None)
                dying[external_id] = _ended(external_id, "its runner has ended")
        return dying

    def _reap(self) -> None:
        """Collect ended children, else they stay in the process table as long as we live."""
        with self._mutex:
            ended = [marker for marker, child in self._children.items() if child.poll() is not None]
            for marker in ended:
                del self._children[marker]


def _allocations(found: Mapping[int, Allocation]) -> list[Allocation]:
    return [found[index] for index in sorted(found)]


def _failed_start(row: Row, code: int) -> PermanentError | TransientError:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return TransientError(f"The runner of {row.marker} was ended by {name} before it began.")
    try:
        lines = row.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
    return PermanentError(f"The runner of {row.marker} ended with exit code {code} before it began: {last}")


def _ended(external_id: str, reason: str) -> Observation:
    return Observation(
        external_id,
        ObservedState.ENDED,
        reason,
        proof_of_death=True,
        cause=Cause.INFRASTRUCTURE,
    )
