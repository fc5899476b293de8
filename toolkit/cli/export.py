"""`lading export`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from lading.toolkit.cli.context import Session, output_option, printing
from lading.toolkit.cli.output import examples, json_text
from lading.toolkit.client.sync import Lading
from lading.toolkit.errors import BadInput

_BATCH_ROWS: Final = 1_000


@click.group(epilog=examples("lading export sqlite all.sqlite", "lading export sqlite one.sqlite 12 13"))
def export() -> None:
    """Copy what a server holds into a file for other programs."""


@export.command(
    epilog=examples(
        "lading export sqlite all.sqlite",
        "lading export sqlite night.sqlite 12 --force",
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("workflow", nargs=-1)
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
@output_option
@printing
@click.pass_obj
def sqlite(
    session: Session,
    *,
    file: Path,
    workflow: tuple[str, ...],
    force: bool,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Write workflows (by default all) to a SQLite file.

    There is one table for each collection, with a column `workflow_key`; lists and objects are JSON text.
    """
    if file.exists() and not force:
        raise BadInput(f"{file} exists; replace it with --force, or name another file.")
    # Beside its final place, so that a broken export leaves nothing that looks whole.
    draft = file.with_name(f".{file.name}.part")
    draft.unlink(missing_ok=True)
    with session.reader(folder) as client:
        try:
            counts = _export(client, draft, workflow)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    answer = {"file": str(file), "num_workflows": counts["workflows"], "num_documents": sum(counts.values())}
    text = f"{answer['num_workflows']} workflows with {answer['num_documents']} documents are in {file}."
    session.output(style, quiet=quiet).done(text, answer)


def _export(client: Lading, path: Path, keys: tuple[str, ...]) -> dict[str, int]:
    workflows = [client.get_workflow(key) for key in keys] or _all_workflows(client)
    with closing(sqlite3.connect(path)) as connection:
        tables = _Tables(connection)
        tables.insert("workflows", workflows, None)
        for workflow in workflows:
            key = str(workflow["_key"])
            tables.insert("workflow_configs", [client.workflow_config(key)], key)
            tables.insert("workflow_statuses", [client.workflow_status(key)], key)
            for full_name in client.collection_names(key):
                base = full_name.partition("__")[0]
                tables.insert(base, _documents(client, key, base), key)
        connection.commit()
        return tables.counts


def _all_workflows(client: Lading) -> list[dict[str, Any]]:
    return [*client.list_workflows(is_archived=False), *client.list_workflows(is_archived=True)]


_EDGES: Final = frozenset(
    {
        "blocks", "executed", "needs", "node_used", "process_used", "produces", "requires", "returned",
        "scheduled_bys", "consumes", "stores",
    }
)  # fmt: skip


def _documents(client: Lading, workflow: str, base: str) -> Iterator[dict[str, Any]]:
    if base in _EDGES:
        return client.list_edges(workflow, base)
    return client.list_documents(workflow, base)


class _Tables:
    """Tables that grow a column when a document has a member that none before it had."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._columns: dict[str, list[str]] = {}
        self.counts: dict[str, int] = {}

    def insert(self, table: str, documents: Iterable[dict[str, Any]], workflow: str | None) -> None:
        """Add documents; the table exists afterwards even if there are none."""
        self._require(table, ["workflow_key", "_key"])
        self.counts.setdefault(table, 0)
        rest = iter(documents)
        while batch := list(islice(rest, _BATCH_ROWS)):
            rows = [{"workflow_key": workflow or item["_key"], **item} for item in batch]
            for row in rows:
                self._require(table, row)
            names = self._columns[table]
            marks = ", ".join("?" for _ in names)
            self._connection.executemany(
                f"INSERT INTO {_quoted(table)} ({', '.join(map(_quoted, names))}) VALUES ({marks})",
                ([_cell(row.get(name)) for name in names] for row in rows),
            )
            self.counts[table] += len(rows)

    def _require(self, table: str, names: Iterable[str]) -> None:
        known = self._columns.get(table)
        if known is None:
            known = self._columns[table] = list(names)
            self._connection.execute(f"CREATE TABLE {_quoted(table)} ({', '.join(map(_quoted, known))})")
            return
        for name in names:
            # SQLite takes `Name` and `name` for one column; the first one has it.
            if name not in known and name.lower() not in {item.lower() for item in known}:
                known.append(name)
                self._connection.execute(f"ALTER TABLE {_quoted(table)} ADD COLUMN {_quoted(name)}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _cell(value: object) -> object:
    return json_text(value) if isinstance(value, list | dict) else value
