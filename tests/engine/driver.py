"""The real use cases on a real database, in words of names and handles instead of keys and ids.

The same methods as `tests.engine.operations.ModelEngine`, with the same answers. Time is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lading.api.services import edges, execution, jobs, lifecycle, nodes, submissions, sweeper
from lading.api.services.documents import collections, of_jobs
from lading.api.services.sync import sync
from lading.api.storage.unit_of_work import Database
from lading.toolkit.domain.packing import Offer, SortMethod
from lading.toolkit.domain.states import JobStatus
from lading.toolkit.wire.extensions import (
    Ended,
    Free,
    NodeResources,
    RegisterRequest,
    Started,
    SyncRequest,
    SyncResponse,
)
from tests.engine.model import Ask, JobSpec, Report
from tests.engine.operations import SyncAnswer, SyncCall
from tests.engine.stored import TESTER, Run, StoredWorkflow


class Engine(StoredWorkflow):
    """See the module."""

    def __init__(self, database: Database, run: Run, now: int) -> None:
        super().__init__(database, run, now)
        self.node_keys: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self._asks: dict[Ask, str] = {}
        self._handles: dict[str, str] = {}
        self._attempts: dict[str, str] = {}
        self._sequence = 0

    # ---- jobs and edges --------------------------------------------------------------------

    def add_jobs(self, specs: Sequence[JobSpec]) -> None:
        documents = [self._document(spec) for spec in specs]
        stored = self.write(
            lambda effects: of_jobs.add_jobs(TESTER, self.workflow, documents, "jobs", self.now, effects)
        )
        for spec, document in zip(specs, stored, strict=True):
            self.keys[spec.name] = document["_key"]

    def _document(self, spec: JobSpec) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": spec.name,
            "command": "true",
            "cancel_on_blocking_job_failure": spec.cancel,
            "blocked_by": [self.id_of(name) for name in spec.blocked_by],
            "input_files": [self._file(name) for name in spec.needs],
            "output_files": [self._file(name) for name in spec.produces],
            "priority": spec.priority,
            "retries": spec.retries,
        }
        if spec.ask != Ask():
            document["resource_requirements"] = self._requirements(spec.ask)
        if spec.ask.only_config:
            document["scheduler"] = self.config
        if spec.schedules:
            document["schedule_compute_nodes"] = {"scheduler_id": self.config, "num_jobs": 1}
        return document

    def _file(self, name: str) -> str:
        if name not in self.files:
            self.files[name] = self.add(collections.FILES, {"name": name, "path": name})
        return self.files[name]

    def _requirements(self, ask: Ask) -> str:
        if ask not in self._asks:
            document = {
                "name": f"ask {len(self._asks)}",
                "num_cpus": ask.cpus,
                "num_gpus": ask.gpus,
                "num_nodes": ask.nodes,
                "memory": f"{ask.memory // 2**20}m",
                "runtime": f"PT{ask.runtime:.0f}S",
            }
            self._asks[ask] = self.add(collections.RESOURCE_REQUIREMENTS, document)
        return self._asks[ask]

    def delete_job(self, name: str) -> None:
        self.write(
            lambda effects: of_jobs.remove_job(TESTER, self.workflow, self.keys[name], self.now, effects)
        )
        del self.keys[name]

    def add_edge(self, blocker: str, blocked: str) -> None:
        document = {"_from": self.id_of(blocker), "_to": self.id_of(blocked)}
        self.write(
            lambda effects: edges.add_edge(TESTER, self.workflow, "blocks", document, self.now, effects)
        )

    def remove_edge(self, blocker: str, blocked: str) -> None:
        [row] = self.query(
            "SELECT id FROM edge WHERE workflow_id = :workflow AND name = 'blocks' "
            "AND from_id = :blocker AND to_id = :blocked",
            blocker=int(self.keys[blocker]),
            blocked=int(self.keys[blocked]),
        )
        key = str(row["id"])
        self.write(lambda effects: edges.remove_edge(TESTER, self.workflow, "blocks", key, self.now, effects))

    # ---- the workflow ----------------------------------------------------------------------

    def initialize(self, *, only_uninitialized: bool) -> None:
        self.write(
            lifecycle.initialize_jobs(
                TESTER,
                self.workflow,
                only_uninitialized=only_uninitialized,
                clear_ephemeral=True,
                now_ms=self.now,
            )
        )

    def start(self) -> None:
        self.write(
            lifecycle.start(
                TESTER,
                self.workflow,
                missing_files=[],
                file_times={},
                ignore_missing_data=False,
                now_ms=self.now,
            )
        )

    def cancel(self) -> None:
        self.write(lifecycle.cancel(TESTER, self.workflow, self.now))

    def reset_status(self) -> None:
        self.write(lifecycle.reset_status(TESTER, self.workflow, self.now))

    def reset_job_status(self, *, failed_only: bool) -> None:
        self.write(
            lifecycle.reset_job_status(TESTER, self.workflow, failed_only=failed_only, now_ms=self.now)
        )

    def schedule(self) -> int:
        answer = self.write(
            submissions.prepare_jobs_for_scheduling(TESTER, self.workflow, launch=False, now_ms=self.now)
        )
        return len(answer["schedulers"])

    # ---- one job ---------------------------------------------------------------------------

    def cancel_job(self, name: str) -> None:
        self.write(jobs.cancel_job(TESTER, self.workflow, self.keys[name], self.now))

    def retry_job(self, name: str) -> None:
        self.write(jobs.retry_job(TESTER, self.workflow, self.keys[name], self.now))

    def put_status(self, name: str, status: JobStatus, *, fresh: bool) -> None:
        changes = {"_rev": self.revision_of(name, fresh=fresh), "status": status.value}
        self.write(jobs.modify_job(TESTER, self.workflow, self.keys[name], changes, self.now))

    def put_priority(self, name: str, priority: int) -> None:
        changes = {"_rev": self.revision_of(name, fresh=True), "priority": priority}
        self.write(jobs.modify_job(TESTER, self.workflow, self.keys[name], changes, self.now))

    def manage_status(self, name: str, status: JobStatus, *, fresh: bool, same_run: bool) -> None:
        self.write(
            execution.manage_status_change(
                TESTER,
                self.workflow,
                self.keys[name],
                status=status.value,
                rev=self.revision_of(name, fresh=fresh),
                run_id=self.run_id(same_run=same_run),
                now_ms=self.now,
            )
        )

    # ---- torc's workers --------------------------------------------------------------------

    def add_foreign_node(self, name: str) -> None:
        document = {
            "hostname": name,
            "pid": 1,
            "start_time": "2024-05-02T10:11:12Z",
            "is_active": True,
            "resources": {"num_cpus": 1, "memory_gb": 1.0},
        }
        self.node_keys[name] = self.add(collections.COMPUTE_NODES, document).rpartition("/")[2]

    def prepare(self, offer: Ask, method: str, limit: int, time_limit: float | None = None) -> list[str]:
        work = execution.prepare_jobs(
            TESTER, self.workflow, self._offer(offer, time_limit), SortMethod(method), limit, self.now
        )
        return [document["name"] for document in self.write(work)["jobs"]]

    def _offer(self, offer: Ask, time_limit: float | None) -> Offer:
        config = self.config if offer.only_config else ""
        return Offer(offer.cpus, offer.memory, offer.gpus, offer.nodes, time_limit, config)

    def prepare_next(self, limit: int) -> list[str]:
        answer = self.write(execution.prepare_next_jobs(TESTER, self.workflow, limit, self.now))
        return [document["name"] for document in answer["jobs"]]

    def start_job(self, name: str, node: str, *, fresh: bool, same_run: bool) -> None:
        self.write(
            execution.start_job(
                TESTER,
                self.workflow,
                self.keys[name],
                rev=self.revision_of(name, fresh=fresh),
                run_id=self.run_id(same_run=same_run),
                node=self.node_keys[node],
                now_ms=self.now,
            )
        )

    def complete_job(
        self, name: str, node: str, status: JobStatus, return_code: int, *, fresh: bool, same_run: bool
    ) -> None:
        run_id = self.run_id(same_run=same_run)
        result = {
            "job_key": self.keys[name],
            "run_id": run_id,
            "return_code": return_code,
            "exec_time_minutes": 0.0,
            "completion_time": "2024-05-02T10:11:12.5",
            "status": status.value,
        }
        self.write(
            execution.complete_job(
                TESTER,
                self.workflow,
                self.keys[name],
                status=status.value,
                rev=self.revision_of(name, fresh=fresh),
                run_id=run_id,
                node=self.node_keys[node],
                result=result,
                now_ms=self.now,
            )
        )

    # ---- our nodes -------------------------------------------------------------------------

    def register(self, name: str, shape: Ask, **more: Any) -> None:
        request = RegisterRequest(
            registration_id=f"{self.workflow}-{name}",
            session_token=f"{self.workflow}-{name}-secret",
            hostname=name,
            pid=1,
            boot_id="boot",
            resources=NodeResources(
                num_cpus=shape.cpus,
                memory_bytes=shape.memory,
                num_gpus=shape.gpus,
                scheduler_config_id=self.config if shape.only_config else "",
            ),
            **more,
        )
        answer = self.write(
            nodes.register(TESTER, self.workflow, request, server_id="server", now_ms=self.now)
        )
        self.node_keys[name] = answer.compute_node

    def drain(self, name: str) -> None:
        self.write(nodes.drain(TESTER, self.workflow, self.node_keys[name]))

    def declare_lost(self, name: str) -> None:
        self.write(nodes.declare_lost(TESTER, self.workflow, self.node_keys[name], self.now))

    def sweep(self) -> int:
        lost: int = self._run(sweeper.sweep(self.database, self.now))
        return lost

    def sync(self, name: str, call: SyncCall) -> SyncAnswer:
        answer = self.raw_sync(name, call)
        claims = [(claim.attempt_id in self._handles, self._handle(claim)) for claim in answer.claims]
        orders = {order.kind for order in answer.orders}
        return SyncAnswer(
            [handle for known, handle in claims if not known],
            frozenset(handle for known, handle in claims if known),
            frozenset(self._handles[attempt_id] for order in answer.orders for attempt_id in order.attempts),
            frozenset(orders - {"kill"}),
            frozenset(self._handles[attempt_id] for attempt_id in answer.acknowledged),
            answer.is_complete,
        )

    def raw_sync(self, name: str, call: SyncCall) -> SyncResponse:
        """Send one request and return the answer as it is."""
        self._sequence += 1
        free = call.free
        request = SyncRequest(
            seq=self._sequence,
            held=[self._attempts[handle] for handle in call.held],
            started=[Started(attempt_id=self._attempts[handle], pid=1) for handle in call.started],
            ended=[self._ended(handle, report) for handle, report in call.ended],
            returned=[self._attempts[handle] for handle in call.returned],
            free=None
            if free is None
            else Free(
                num_cpus=free.cpus, memory_bytes=free.memory, num_gpus=free.gpus, max_jobs=call.max_jobs
            ),
            leave=call.leave,
            is_final=call.is_final,
            suspending=call.suspending,
        )
        work = sync(
            int(self.workflow),
            int(self.node_keys[name]),
            request,
            newest=lambda: call.is_newest,
            now_ms=self.now,
        )
        answer: SyncResponse = self.write(work)
        return answer

    def _handle(self, claim: Any) -> str:
        if claim.attempt_id not in self._handles:
            serial = len(self._handles) + 1
            handle = f"{claim.name}/{claim.run_id}/{claim.number}#{serial}"
            self._handles[claim.attempt_id] = handle
            self._attempts[handle] = claim.attempt_id
        return self._handles[claim.attempt_id]

    def _ended(self, handle: str, report: Report) -> Ended:
        status: Any = report.status.value
        return Ended(
            attempt_id=self._attempts[handle],
            cause=report.cause.value,
            return_code=report.return_code,
            exec_seconds=0.0,
            status=status,
        )
