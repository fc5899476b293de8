"""A workflow in a real database, for the tests to work in and to look at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from lading.api.services.documents import collections, workflows, writing
from lading.api.services.identity import Principal, Scope
from lading.api.services.job_documents import revision
from lading.api.services.verify import verify
from lading.api.storage.statements import Effects, Statement, UseCase, Work
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import LadingError
from tests.engine.model import LEASE_MS, Refused

TESTER = Principal("tester", Scope.ADMIN)
CONFIG = {"name": "cluster", "max_allocations": 4, "num_cpus": 4, "memory": "8g"}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


_JOBS = "SELECT name, status FROM job WHERE workflow_id = :workflow"
_ATTEMPTS = (
    "SELECT j.name, a.state, a.run_id, a.number, a.cause FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :workflow ORDER BY a.run_id, a.number"
)
_RESULTS = (
    "SELECT j.name, r.run_id, r.status, r.return_code FROM result r JOIN job j ON j.id = r.job_id "
    "WHERE r.workflow_id = :workflow"
)
_NODES = "SELECT hostname, state FROM compute_node WHERE workflow_id = :workflow"
_WORKFLOW = "SELECT run_id, is_canceled FROM workflow WHERE id = :workflow"


@dataclass(frozen=True)
class Picture:
    """What can be seen of a workflow: of the model's, or of one in a database."""

    run_id: int
    is_canceled: bool
    statuses: dict[str, str]
    opened: dict[str, tuple[str, int, int]]
    """Job -> (state, run, number) of its open attempt."""
    causes: dict[str, list[tuple[int, int, str]]]
    """Job -> (run, number, cause) of its ended attempts."""
    results: dict[tuple[str, int], tuple[str, int]]
    """(job, run) -> (status, return code)."""
    nodes: dict[str, str | None]


class StoredWorkflow:
    """Made empty. `run` carries a coroutine to the database's event loop and returns its outcome."""

    def __init__(self, database: Database, run: Run, now: int) -> None:
        self.database = database
        self.now = now
        self._run = run
        self.keys: dict[str, str] = {}
        document = self.write(lambda _: workflows.add_workflow(TESTER, {"name": "engine"}, now))
        self.workflow: str = document["_key"]
        settings = {"lease_seconds": LEASE_MS / 1000}
        self.write(lambda _: workflows.modify_config(TESTER, self.workflow, settings))
        self.config = self.add(collections.SCHEDULERS["local_schedulers"], CONFIG)

    def write(self, work: Work) -> Any:
        """Perform a use case; a refusal carries the name of its error."""
        try:
            return self._run(self.database.write(work))
        except LadingError as error:
            raise Refused(type(error).__name__) from error

    def query(self, text: str, **parameters: Any) -> list[Any]:
        def work(_effects: Effects) -> UseCase:
            return (yield Statement(text, {"workflow": int(self.workflow), **parameters}))

        rows: list[Any] = self._run(self.database.read(work))
        return rows

    def add(self, collection: collections.Collection, document: dict[str, Any]) -> str:
        """Store a document; return its `_id`."""
        stored = self.write(
            lambda effects: writing.add_document(
                TESTER, self.workflow, collection, document, self.now, effects
            )
        )
        return str(stored["_id"])

    def remove(self) -> None:
        """Delete the workflow with everything in it."""
        self.write(lambda effects: workflows.remove_workflow(TESTER, self.workflow, effects))

    def violations(self) -> list[str]:
        found: list[str] = self._run(verify(self.database))
        return found

    def id_of(self, job: str) -> str:
        return f"jobs__{self.workflow}/{self.keys[job]}"

    def revision_of(self, job: str, *, fresh: bool) -> str:
        [row] = self.query("SELECT rev FROM job WHERE id = :id", id=int(self.keys[job]))
        return revision(row["rev"] if fresh else row["rev"] + 1)

    def run_id(self, *, same_run: bool) -> int:
        [row] = self.query("SELECT run_id FROM workflow WHERE id = :workflow")
        return int(row["run_id"]) + (not same_run)

    # ---- looking ---------------------------------------------------------------------------

    def look(self) -> Picture:
        """Return everything that the model speaks of, of one moment."""

        def work(_effects: Effects) -> UseCase:
            parameters = {"workflow": int(self.workflow)}
            return (
                (yield Statement(_JOBS, parameters)),
                (yield Statement(_ATTEMPTS, parameters)),
                (yield Statement(_RESULTS, parameters)),
                (yield Statement(_NODES, parameters)),
                (yield Statement(_WORKFLOW, parameters)),
            )

        jobs, attempts, results, nodes, [workflow] = self._run(self.database.read(work))
        opened = [row for row in attempts if row["state"] != "ended"]
        assert len({row["name"] for row in opened}) == len(opened), "a job has two open attempts"
        causes: dict[str, list[tuple[int, int, str]]] = {}
        for row in attempts:
            if row["state"] == "ended":
                causes.setdefault(row["name"], []).append((row["run_id"], row["number"], row["cause"]))
        return Picture(
            run_id=workflow["run_id"],
            is_canceled=bool(workflow["is_canceled"]),
            statuses={row["name"]: row["status"] for row in jobs},
            opened={row["name"]: (row["state"], row["run_id"], row["number"]) for row in opened},
            causes=causes,
            results={(row["name"], row["run_id"]): (row["status"], row["return_code"]) for row in results},
            nodes={row["hostname"]: row["state"] for row in nodes},
        )
