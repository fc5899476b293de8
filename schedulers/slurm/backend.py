"""The Slurm backend: what is asked of Slurm goes through a transport, by default the site's own programs.

The external id is `slurm:<cluster>:<job>` or `slurm:<cluster>:<job>_<task>`: Slurm's own numbers, which
outlive the process that learned them.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from lading.schedulers.slurm.admission import admit
from lading.schedulers.slurm.choice import chosen_transport
from lading.schedulers.slurm.listing import Job, task_in
from lading.schedulers.slurm.node_shapes import shape_of_config
from lading.schedulers.slurm.queue import PACE_SECONDS, Queue
from lading.schedulers.slurm.records import CallFile
from lading.schedulers.slurm.refusals import is_ambiguous
from lading.schedulers.slurm.restarts import Restarts
from lading.schedulers.slurm.script import Script, scripts_of, walltime_seconds
from lading.schedulers.slurm.services import ServiceJobs
from lading.schedulers.slurm.states import observation_of, vanished
from lading.toolkit.backends import Allocation, Availability, LaunchRequest, Observation, ObservedState
from lading.toolkit.domain.buffers import memory_for_jobs
from lading.toolkit.domain.demand import Shape
from lading.toolkit.errors import BackendError, PermanentError, TransientError
from lading.toolkit.settings import load_settings

logger = logging.getLogger("lading.slurm")

_SETTLE_SECONDS: Final = 10.0
"""Between the end of an sbatch without an answer and the look that may say that it made nothing."""
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Identity(NamedTuple):
    cluster: str
    job: str
    """`19` or `19_3`."""

    def external_id(self) -> str:
        return f"slurm:{self.cluster}:{self.job}"

    @classmethod
    def parse(cls, external_id: str) -> Identity | None:
        parts = external_id.split(":")
        if len(parts) != 3 or parts[0] != "slurm" or not re.fullmatch(r"\d+(_\d+)?", parts[2]):
            return None
        return cls(parts[1], parts[2])


class SlurmBackend(ServiceJobs):
    """Submits a launch once, looks at all its jobs together, ends them."""

    kind = "slurm"
    runs_elsewhere = True
    """Nodes do not reach the server's loopback."""
    observe_interval_seconds = PACE_SECONDS

    def __init__(
        self,
        *,
        queue: Queue | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        self._queue = queue or Queue(chosen_transport(load_settings().values), monotonic=monotonic)
        self._transport = self._queue.transport
        self._monotonic = monotonic
        self._settle_seconds = settle_seconds
        self._admitted: set[str] = set()
        self._seen_over: dict[str, float] = {}
        """Name of a call without an answer -> when this process first knew that its sbatch had ended."""
        self._first_look: dict[str, float] = {}
        """Name -> when squeue first knew nothing of it, where no accounting can confirm that."""
        self._active: set[str] = set()
        self._restarts = Restarts()
        self._absent_since: dict[str, float] = {}

    def probe(self) -> Availability:
        """Say which cluster answers here, or why none does."""
        if find_spec("jinja2") is None:
            return Availability(available=False, reason="Jinja2 is missing: pip install 'lading[slurm]'")
        try:
            site = self._queue.site()
            how = self._transport.description()
        except BackendError as error:
            is_weather = isinstance(error, TransientError)
            return Availability(available=False, reason=str(error), is_weather=is_weather)
        accounting = "with accounting" if site.has_accounting else "without accounting"
        return Availability(
            available=True, reason=f"Slurm {site.version}, cluster {site.cluster}, {accounting}, {how}"
        )

    def shape(self, config: Mapping[str, Any]) -> Shape | None:
        """Return what one allocation offers; of a partition with several sizes of node, the smallest."""
        if config.get("extra") and not (config.get("cpus") or config.get("ntasks_per_node")):
            # Its free text may ask for any size.
            return None
        node = shape_of_config(self._transport, config)
        return Shape(
            node.num_cpus,
            # What its runner will offer: a job that asks for all of `mem` would bring allocations in vain.
            memory_for_jobs(node.memory_bytes),
            node.num_gpus,
            num_nodes=int(config.get("nodes") or 1),
            time_limit_seconds=walltime_seconds(config),
        )

    # ---- submit and find ----

    def submit(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Submit each script whose job does not exist yet."""
        _check_tag(request.tag)
        site = self._queue.site()
        if len(request.node_files) >= site.largest_array and request.config.get("array") is not False:
            raise PermanentError(
                f"num_jobs: {len(request.node_files)} are more than an array of this cluster holds; "
                f"accepted: up to {site.largest_array - 1}."
            )
        scripts = scripts_of(request, _templates())
        found = {script.name: self._existing(request, script) for script in scripts}
        if not all(found.values()):
            self._admit(request.config, scripts)
            request.output_directory.mkdir(parents=True, exist_ok=True)
        for script in scripts:
            if not found[script.name]:
                found[script.name] = self._submit(request, script)
        return [allocation for script in scripts for allocation in self._rows(script, found[script.name])]

    def find(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Return the jobs that exist under the tag; raise TransientError while nobody can know."""
        _check_tag(request.tag)
        return [
            allocation
            for script in scripts_of(request, _templates())
            if (job := self._existing(request, script))
            for allocation in self._rows(script, job)
        ]

    def render(self, request: LaunchRequest) -> str:
        """Return what sbatch would get."""
        return "\n".join(script.text for script in scripts_of(request, _templates()))

    def log_files(self, external_id: str, output_directory: Path) -> Sequence[Path]:
        """Return the file into which Slurm puts both streams of a job; nothing for a foreign id."""
        identity = Identity.parse(external_id)
        return [] if identity is None else [output_directory / f"slurm_{identity.job}.out"]

    def _admit(self, config: Mapping[str, Any], scripts: Sequence[Script]) -> None:
        facts = json.dumps({**config, "rows": len(scripts[0].rows)}, sort_keys=True, default=str)
        if facts not in self._admitted:
            admit(self._transport, config, scripts)
            self._admitted.add(facts)

    def _submit(self, request: LaunchRequest, script: Script) -> str:
        file = CallFile(request.state_directory, script.name)
        with file.locked() as lock:
            file.begin()
            self._forget_looks(script.name)
            try:
                job = self._transport.submit(script, request.config, held=[lock])
            except BackendError as error:
                if not is_ambiguous(error):
                    # Slurm said that there is no such job.
                    file.forget()
                    self._admitted.clear()
                raise
            file.settle(job)
            self._restarts.submitted(one.external_id for one in self._rows(script, job))
            return job

    def _existing(self, request: LaunchRequest, script: Script) -> str:
        """Return the job's number, empty when it is certain that there is none."""
        file = CallFile(request.state_directory, script.name)
        record = file.read()
        if record is None:
            return ""
        if record.job:
            return record.job
        with file.locked():
            file.check_is_over(record)
            job = self._search(script.name)
            if job:
                file.settle(job)
            else:
                file.forget()
            self._forget_looks(script.name)
            return job

    def _search(self, name: str) -> str:
        """Look for a job by its name; empty only after two answers that know of none."""
        now = self._monotonic()
        over_since = self._seen_over.setdefault(name, now)
        earliest = over_since + self._settle_seconds
        if now < earliest:
            raise TransientError(f"{name} may have been submitted; Slurm is asked in {earliest - now:.0f} s.")
        look = self._queue.look(not_before=earliest)
        job = look.named(name)
        if job:
            return job
        if self._queue.site().has_accounting:
            recorded = self._queue.recorded_number(name)
            if recorded is None:
                raise TransientError(f"{name} may have been submitted; the accounting is asked in a moment.")
            return recorded
        first = self._first_look.setdefault(name, look.began)
        if look.began == first:
            raise TransientError(f"{name} is not in Slurm's queue; without accounting it is asked once more.")
        return ""

    def _forget_looks(self, name: str) -> None:
        self._seen_over.pop(name, None)
        self._first_look.pop(name, None)

    def _rows(self, script: Script, job: str) -> list[Allocation]:
        cluster = self._queue.site().cluster
        if len(script.rows) == 1:
            return [Allocation(Identity(cluster, job).external_id(), script.rows[0])]
        return [
            Allocation(Identity(cluster, f"{job}_{task}").external_id(), row)
            for task, row in enumerate(script.rows, start=1)
        ]

    # ---- observe and cancel ----

    def observe(self, external_ids: Sequence[str]) -> Sequence[Observation]:
        """Ask the controller once, and the accounting once for what it does not list."""
        if not external_ids:
            return []
        identities = {external_id: Identity.parse(external_id) for external_id in external_ids}
        look = self._queue.look()
        absent = [
            external_id
            for external_id, identity in identities.items()
            if identity is not None and task_in(look.jobs, identity.job) is None
        ]
        restarted = [
            external_id
            for external_id, identity in identities.items()
            if identity is not None
            and (job := look.jobs.get(identity.job)) is not None
            and self._restarts.look(external_id, job)
        ]
        asked = [*absent, *restarted]
        records, problem = self._records([identities[external_id] for external_id in asked])
        for external_id in asked:
            self._note_record(external_id, identities[external_id], records)
        answers = []
        for external_id in external_ids:
            identity = identities[external_id]
            if identity is None:
                answers.append(Observation(external_id, ObservedState.UNKNOWN, "not an id of a Slurm job"))
                continue
            job = task_in(look.jobs, identity.job) or (records or {}).get(identity.job)
            if job is not None:
                job = replace(job, earlier_states=self._restarts.earlier(external_id))
                answers.append(self._seen(external_id, job))
            else:
                answers.append(self._missing(external_id, look.began, problem if records is None else ""))
        self._remember_only(external_ids)
        return answers

    def cancel(self, external_ids: Sequence[str]) -> None:
        """End them in one call; Slurm says nothing of those that have ended."""
        jobs = [identity.job for text in external_ids if (identity := Identity.parse(text)) is not None]
        if jobs:
            self._transport.cancel(jobs)

    def take_back(self, external_ids: Sequence[str]) -> None:
        """End those that are pending, by Slurm's own look at them: one that has just started goes on."""
        jobs = [identity.job for text in external_ids if (identity := Identity.parse(text)) is not None]
        if jobs:
            self._transport.take_back(jobs)

    def _records(self, identities: Sequence[Identity | None]) -> tuple[dict[str, Job] | None, str]:
        jobs = [identity.job for identity in identities if identity is not None]
        if not jobs or not self._queue.site().has_accounting:
            return {}, ""
        try:
            return self._queue.records(jobs), "the accounting was asked a moment ago"
        except BackendError as error:
            # Weather of the accounting alone: what squeue said stays true.
            logger.warning("sacct cannot be asked: %s", error)
            return None, str(error)

    def _note_record(
        self, external_id: str, identity: Identity | None, records: Mapping[str, Job] | None
    ) -> None:
        record = (records or {}).get(identity.job) if identity is not None else None
        if record is not None:
            self._restarts.record(external_id, record)

    def _seen(self, external_id: str, job: Job) -> Observation:
        self._absent_since.pop(external_id, None)
        observation = observation_of(external_id, job, was_active=external_id in self._active)
        if observation.state is ObservedState.ACTIVE:
            self._active.add(external_id)
        return observation

    def _missing(self, external_id: str, looked_at: float, problem: str) -> Observation:
        """Judge one that no answer names: never at once, and never as a proof."""
        site = self._queue.site()
        since = self._absent_since.setdefault(external_id, looked_at)
        if problem:
            return Observation(
                external_id, ObservedState.UNKNOWN, f"Slurm's accounting does not answer: {problem}"
            )
        if looked_at - since < site.minimum_age_seconds:
            return Observation(external_id, ObservedState.UNKNOWN, "Slurm does not list it; asked again")
        return vanished(external_id, has_accounting=site.has_accounting)

    def _remember_only(self, external_ids: Sequence[str]) -> None:
        self._active &= set(external_ids)
        self._restarts.remember_only(external_ids)
        for external_id in self._absent_since.keys() - set(external_ids):
            del self._absent_since[external_id]


def _check_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise PermanentError(f"The tag {tag!r} is not letters, digits, '-' and '_' (at most 128).")


def _templates() -> Path | None:
    """Return the folder of a site's own templates, by its settings."""
    folder = load_settings().values.sbatch_templates
    if folder is not None and not folder.is_dir():
        raise PermanentError(f"sbatch_templates: there is no folder {str(folder)!r}.")
    return folder
