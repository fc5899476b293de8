"""The runner process: performs what `state` decides, feeds it what happens."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from lading.toolkit.clock import SystemClock
from lading.toolkit.domain.buffers import DEFAULT_BUFFER_SECONDS
from lading.toolkit.errors import Fenced, LadingError
from lading.toolkit.private_files import boot_id
from lading.toolkit.runner import events, hardware, hosts, options, processes, remains, steps
from lading.toolkit.runner.assignment import Place, UnusableCommand, hostfile_of, launch_of
from lading.toolkit.runner.channel import GuardianChannel
from lading.toolkit.runner.completion import ended_fields
from lading.toolkit.runner.connection import Connection
from lading.toolkit.runner.holdings import Capacity
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.lease import Lease
from lading.toolkit.runner.measuring import Measuring
from lading.toolkit.runner.messages import Launch, RawEnd, Session
from lading.toolkit.runner.monitor import Monitor
from lading.toolkit.runner.node_monitor import Switches
from lading.toolkit.runner.orders import Orders
from lading.toolkit.runner.policy import policy_of
from lading.toolkit.runner.registration import Registration
from lading.toolkit.runner.scripts import Scripts
from lading.toolkit.runner.spool import Spool, encode_record
from lading.toolkit.runner.state import RunnerState
from lading.toolkit.wire.extensions import Ended, SyncResponse, Usage
from lading.toolkit.wire.files import SPOOL_FOLDER, NodeFile, spool_name

_MOST_OPEN_REQUESTS: Final = 6
_BUFFER_FIELD: Final = "compute_node_expiration_buffer_seconds"
_MEMORY_INTERVAL_SECONDS: Final = 1.0


class Runner:
    """One node at work, from its registration to its leave."""

    def __init__(
        self,
        node_file: NodeFile,
        choice: options.Options,
        guardian: str,
        connection: Connection,
        journal: Journal,
        registration: Registration,
        node: hardware.Node,
        channel: GuardianChannel,
    ) -> None:
        response = registration.response
        config = response.config
        self._journal = journal
        self._connection = connection
        self._channel = channel
        self._guardian = guardian
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._token = registration.session_token
        self._path = (
            f"/workflows/{_quoted(response.workflow)}/compute_nodes/{_quoted(response.compute_node)}/sync"
        )
        self._place = Place(
            workflow=response.workflow,
            output_directory=str(Path(response.output_directory or node_file.output_directory).absolute()),
            working_directory=str(Path(response.working_directory or node_file.working_directory).absolute()),
            gpu_variable=node.gpu_variable,
            assigns_gpus=bool(node.gpus),
            server_file=node_file.server_file,
            num_cpus=node.num_cpus,
            hosts=hosts.hosts_of(os.environ),
            allocation=hosts.allocation_of(os.environ),
            name=response.compute_node,
        )
        self._place.stdio_directory.mkdir(parents=True, exist_ok=True)
        if self._place.hosts:
            shared = self._place.stdio_directory / f"node_{response.compute_node}.hosts"
            hosts.write_hostfile(shared, self._place.hosts[:1], node.num_cpus)
        name = spool_name(node_file.tag, node_file.allocation, response.compute_node, boot_id())
        spool = Path(self._place.output_directory, SPOOL_FOLDER, name)
        self._spool = Spool(spool)
        self._spool_thread = ThreadPoolExecutor(1, "spool")
        switches = Switches.of(config)
        self._monitor = Monitor(include_child_processes=switches.include_child_processes)
        self._measuring = Measuring(
            switches, Path(self._place.output_directory), response.compute_node, self._clock, journal
        )
        self._sample_seconds = switches.interval_seconds
        self._sampling = False
        self._launches: dict[str, Launch] = {}
        self._wide: dict[str, events.Assignment] = {}
        """Jobs of several nodes."""
        self._pids: dict[str, tuple[int, float]] = {}
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders = Orders(channel, journal)
        self._scripts = Scripts(self._place, response.compute_node, channel, connection, self._token, journal)
        self._timer: asyncio.TimerHandle | None = None
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(SyncResponse)
        self._state = RunnerState.create(
            Capacity(
                node.num_cpus,
                node.memory_bytes,
                node.gpus,
                choice.max_parallel_jobs,
                node.cpu_groups,
                self._place.hosts,
            ),
            now=registration.sent_at,
            lease_seconds=response.lease_seconds,
            policy=policy_of(config, response.idle_seconds, os.environ),
            end_at=_end_at(registration, choice),
        )
        self._startup_script: str = str(config.get("worker_startup_script") or "")
        self._session: Session = {
            "url": connection.url,
            "fingerprint": connection.fingerprint,
            "server_id": node_file.server_id,
            "server_file": node_file.server_file,
            "token": registration.session_token,
            "workflow": response.workflow,
            "node": response.compute_node,
            "spool": str(spool),
        }
        lease = Lease(response.lease_seconds, registration.sent_at + response.lease_seconds)
        channel.send("session", session=self._session)
        self._renew(events.RenewLease(lease.kill_at, lease.until, lease.seconds, 0))

    async def run(self) -> int:
        """Work until the state says to leave; return the exit code."""
        if self._startup_script:
            self._spawn_task(self._prepare())
            # The lease is renewed while the script runs.
            self.dispatch(events.Tick())
        else:
            self.dispatch(events.Prepared())
        self._spawn_task(self._measuring.run())
        code = await self._exit
        if self._timer is not None:
            self._timer.cancel()
        for task in [*self._requests.values(), *self._tasks]:
            task.cancel()
        self._orders.close()
        self._spool_thread.shutdown()
        self._spool.close()
        await asyncio.to_thread(self._measuring.close)
        return code

    # ---- what happens ------------------------------------------------------------------------

    def dispatch(self, event: events.Event) -> None:
        """Give an event to the state and perform what it wants."""
        if self._exit.done():
            return
        try:
            now = self._clock.boottime()
            asleep = now - self._clock.monotonic()
            for instruction in self._state.handle(event, now=now, asleep=asleep):
                self._perform(instruction)
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the guardian's journal
            # A runner that no longer knows what it does must not go on: the guardian kills the jobs,
            # reports what they truly did, and leaves.
            self._journal.error(f"Broken: {type(error).__name__}: {error}")
            if not self._exit.done():
                self._exit.set_exception(error)
            return
        self._schedule()

    def on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the guardian."""
        match message["op"]:
            case "ended":
                self._on_ended(message["ends"])
            case "started":
                self._on_started(message["jobs"])
            case "signal":
                self.on_signal(message["number"])
            case "refused":
                self._scripts.on_refused(message["attempts"])
                for attempt in message["attempts"]:
                    self._launches.pop(attempt, None)
                    self._wide.pop(attempt, None)
                self.dispatch(events.LaunchesRefused(attempts=tuple(message["attempts"])))
            case "expired":
                self._journal.error("The lease ended; the guardian has killed all jobs.")
                self.dispatch(events.Tick())
            case "stuck":
                self._journal.error(f"Does not die: {', '.join(message['attempts'])}.")
            case unknown:
                self._journal.error(f"The guardian sent an unknown message: {unknown!r}.")

    def on_guardian_lost(self) -> None:
        self.dispatch(events.GuardianLost())

    def on_signal(self, number: int) -> None:
        if number in {signal.SIGTSTP, signal.SIGCONT}:
            self.dispatch(events.SuspensionSignaled(is_over=number == signal.SIGCONT))
        else:
            self.dispatch(events.StopRequested(reason=f"received {signal.Signals(number).name}"))

    def _on_started(self, jobs: Sequence[tuple[str, int, float]]) -> None:
        started = []
        for attempt, pid, at in jobs:
            self._pids[attempt] = (pid, at)
            if not self._scripts.owns(attempt):
                self._monitor.watch(attempt, pid)
                started.append((attempt, pid, at))
        if started:
            self._begin_sampling()
            self.dispatch(events.JobsStarted(jobs=tuple(started)))

    def _on_ended(self, ends: Sequence[RawEnd]) -> None:
        jobs = []
        for end in ends:
            attempt = end["id"]
            self._pids.pop(attempt, None)
            if self._scripts.owns(attempt):
                self._scripts.on_ended(end)
                continue
            ended = msgspec.convert(ended_fields(end, self._launches.pop(attempt, None)), Ended)
            owner = self._owner(attempt)
            if owner is not None:
                self._measuring.note_end(owner[0], self._monitor.summary(attempt))
            _add_samples(ended, self._monitor.finish(attempt))
            if (assignment := self._wide.pop(attempt, None)) is not None:
                task = self._loop.create_task(self._clear(assignment, ended, end["at"]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                continue
            jobs.append((ended, end["at"]))
        if jobs:
            self.dispatch(events.JobsEnded(jobs=tuple(jobs)))

    async def _clear(self, assignment: events.Assignment, ended: Ended, at: float) -> None:
        """Report a job of several nodes only when nothing of it runs: its nodes are handed out again then."""
        cleared = await asyncio.to_thread(steps.clear_steps, assignment.hosts, os.environ["SLURM_JOB_ID"])
        if cleared.failure:
            self._journal.error(f"Attempt {ended.attempt_id} may have left processes: {cleared.failure}.")
        steps.note_cleared(ended, cleared)
        hostfile_of(assignment, self._place).unlink(missing_ok=True)
        self.dispatch(events.JobsEnded(jobs=((ended, at),), lost_hosts=cleared.lost + cleared.stuck))

    def _schedule(self) -> None:
        if self._exit.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = self._state.wakeup_at - self._clock.boottime()
        self._timer = self._loop.call_later(max(0.0, delay), self._tick)

    def _tick(self) -> None:
        self.dispatch(events.Tick())

    # ---- what is done ------------------------------------------------------------------------

    def _perform(self, instruction: events.Instruction) -> None:
        match instruction:
            case events.LaunchJobs():
                self._launch(instruction)
            case events.SignalJobs():
                self._orders.give(
                    "kill",
                    attempts=instruction.attempts,
                    signal=instruction.number,
                    stop=instruction.stop,
                )
            case events.SendSync():
                self._send(instruction)
            case events.RenewLease():
                self._renew(instruction)
            case events.HoldLease():
                self._channel.send("hold")
            case events.Forget():
                self._spool_thread.submit(self._spool.forget, instruction.attempts)
                self._channel.send("forget", attempts=instruction.attempts)
            case events.KillMarked():
                self._spawn_task(self._kill_marked())
            case events.RunCompletionScript():
                self._spawn_task(self._complete())
            case events.Note():
                (self._journal.error if instruction.is_error else self._journal.info)(instruction.message)
            case events.Exit():
                self._journal.info(f"Left: {instruction.reason}.")
                self._exit.set_result(instruction.code)
            case _:
                raise AssertionError(f"unknown instruction {instruction!r}")

    def _launch(self, instruction: events.LaunchJobs) -> None:
        launches: list[Launch] = []
        for assignment in instruction.assignments:
            try:
                launch = launch_of(assignment, self._place)
                if assignment.hosts:
                    path = hostfile_of(assignment, self._place)
                    hosts.write_hostfile(path, assignment.hosts, self._place.num_cpus)
                    self._wide[launch["id"]] = assignment
            except UnusableCommand as error:
                # Not at once: the state is still in the middle of handing these out.
                self._loop.call_soon(self._on_ended, [_unstartable(assignment.job.attempt_id, str(error))])
                continue
            self._launches[launch["id"]] = launch
            launches.append(launch)
        if any(assignment.job.number > 1 for assignment in instruction.assignments):
            self._orders.sweep_first()
        if launches:
            self._orders.give("launch", jobs=launches)

    def _renew(self, instruction: events.RenewLease) -> None:
        if self._session["url"] != self._connection.url:
            self._session["url"] = self._connection.url
            self._session["fingerprint"] = self._connection.fingerprint
            self._channel.send("session", session=self._session)
        self._channel.send(
            "lease",
            kill_at=instruction.kill_at,
            until=instruction.until,
            seconds=instruction.seconds,
            sequence=instruction.sequence,
        )

    def _send(self, instruction: events.SendSync) -> None:
        seq = instruction.request.seq
        task = self._loop.create_task(self._exchange(instruction))
        self._requests[seq] = task
        task.add_done_callback(lambda _task: self._requests.pop(seq, None))
        # A superseded request is answered at once and its connection used again. Only a server that
        # does not answer them makes us give them up.
        if len(self._requests) > _MOST_OPEN_REQUESTS:
            self._requests[min(self._requests)].cancel()

    async def _exchange(self, instruction: events.SendSync) -> None:
        request = instruction.request
        failure = partial(events.SyncFailed, seq=request.seq, jitter=random.random())
        if instruction.records:
            await self._spool_records(instruction.records)
        statistics = self._measuring.take(leaving=request.leave)
        if statistics:
            request = msgspec.structs.replace(request, node_statistics=statistics)
        try:
            body = self._encoder.encode(request)
            content = await self._connection.post(self._path, body, token=self._token, wait=request.wait)
            response = self._decoder.decode(content)
        except Fenced as error:
            event: events.Event = failure(reason=str(error), fenced=True)
        except LadingError as error:
            event = failure(reason=str(error))
        except msgspec.DecodeError as error:
            event = failure(reason=f"the answer is not understood: {error}")
        else:
            event = events.SyncAnswered(seq=request.seq, response=response)
            statistics = []
        finally:
            # Also of a request that was given up.
            self._measuring.put_back(statistics)
        self.dispatch(event)

    async def _spool_records(self, records: Sequence[tuple[Ended, float]]) -> None:
        lines = {
            ended.attempt_id: encode_record(msgspec.to_builtins(ended), ended_at)
            for ended, ended_at in records
        }
        try:
            await self._loop.run_in_executor(self._spool_thread, self._spool.append, lines)
        except OSError as error:
            # A full disk: the report is still sent, and the guardian keeps it too.
            self._journal.error(f"{self._spool.path}: {error.strerror}")

    async def _kill_marked(self) -> None:
        known = dict(self._pids)
        remaining = await asyncio.to_thread(remains.kill_all, self._guardian, known)
        # A killed srun leaves alone what it started on other nodes.
        wide = {attempt: assignment.hosts for attempt, assignment in self._wide.items()}
        remaining |= await asyncio.to_thread(steps.clear_attempts, wide, known)
        if not self._exit.done():
            self.dispatch(events.ProcessesKilled(remaining=remaining))

    def _spawn_task(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- samples -----------------------------------------------------------------------------

    def _begin_sampling(self) -> None:
        if not self._sampling and len(self._monitor):
            self._sampling = True
            limits = (a.job.memory_limit_bytes for a in self._state.holdings.launched.values() if a.job)
            watched = self._state.policy.memory_limit != "off" and any(limit is not None for limit in limits)
            seconds = min(self._sample_seconds, _MEMORY_INTERVAL_SECONDS) if watched else self._sample_seconds
            self._loop.call_later(seconds, lambda: self._spawn_task(self._sample()))

    async def _sample(self) -> None:
        self._sampling = False
        if not len(self._monitor) or self._exit.done():
            return
        table = await asyncio.to_thread(processes.read_all)
        resident = self._monitor.take(table, self._clock.boottime())
        owners = {attempt: owner for attempt in resident if (owner := self._owner(attempt)) is not None}
        self._measuring.note_samples(self._monitor, owners)
        self.dispatch(events.ResidentSampled(resident_bytes=resident))
        self._begin_sampling()

    def _owner(self, attempt: str) -> tuple[str, int] | None:
        """Return (job, run) of a running attempt."""
        held = self._state.holdings.launched.get(attempt)
        return None if held is None or held.job is None else (held.job.job_key, held.job.run_id)

    # ---- scripts -----------------------------------------------------------------------------

    async def _prepare(self) -> None:
        end = await self._scripts.run("worker_startup", self._startup_script)
        failure = f"the start-up script {self._startup_script!r} failed: {end.failure}" if end.failure else ""
        self.dispatch(events.Prepared(failure=failure))

    async def _complete(self) -> None:
        await self._scripts.complete_workflow()
        self.dispatch(events.CompletionScriptOver())


def _end_at(registration: Registration, choice: options.Options) -> float | None:
    limits = [s for s in (registration.response.end_seconds, choice.time_limit_seconds) if s is not None]
    if not limits:
        # Nobody who asks Slurm told us: we were started by hand inside an allocation.
        buffer = float(registration.response.config.get(_BUFFER_FIELD, DEFAULT_BUFFER_SECONDS))
        left = hardware.seconds_left(os.environ, SystemClock().wall(), buffer)
        limits = [] if left is None else [left]
    return registration.sent_at + min(limits) if limits else None


def _add_samples(ended: Ended, sampled: Usage | None) -> None:
    if sampled is None:
        return
    if ended.usage is not None:
        sampled.cpu_seconds = ended.usage.cpu_seconds
        sampled.max_rss_bytes = max(sampled.max_rss_bytes, ended.usage.max_rss_bytes)
    ended.usage = sampled


def _unstartable(attempt: str, message: str) -> RawEnd:
    at = SystemClock().boottime()
    return {
        "id": attempt, "code": 126, "exec": 0.0, "at": at, "cpu": 0.0, "rss": 0,
        "stop": None, "failure": message, "infrastructure": False,
    }  # fmt: skip


def _quoted(key: str) -> str:
    return quote(key, safe="")
