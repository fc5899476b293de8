"""`lading stats`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from lading.toolkit.cli.context import Session, chosen_workflow, printing, reading
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.errors import BadInput, NotFound

_PREFIX: Final = "compute_node_"
_TARGET: Final = "process_stats.sqlite"


@click.group(
    epilog=examples(
        "lading stats concatenate-process output/stats",
        "lading nodes list-resource-stats",
    )
)
def stats() -> None:
    """Work with the samples that runners leave in OUTPUT/stats (monitor type `periodic`)."""


@stats.command("concatenate-process")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@printing
@click.pass_obj
def concatenate_process(session: Session, *, directory: Path, style: str | None, quiet: bool) -> None:
    """Gather the samples of jobs of all nodes into one file, DIRECTORY/process_stats.sqlite."""
    sources = sorted(directory.glob(f"{_PREFIX}*.sqlite"))
    if not sources:
        raise NotFound(
            f"{directory} has no file {_PREFIX}*.sqlite; runners write them with monitor type periodic."
        )
    target = directory / _TARGET
    target.unlink(missing_ok=True)
    number = 0
    with closing(sqlite3.connect(target)) as connection:
        connection.execute(
            "CREATE TABLE process (compute_node TEXT, timestamp REAL, job_key TEXT, run_id INTEGER, "
            "cpu_percent REAL, rss REAL)"
        )
        for source in sources:
            rows = _rows(source)
            node = source.stem.removeprefix(_PREFIX)
            connection.executemany(
                "INSERT INTO process VALUES (?, ?, ?, ?, ?, ?)", ((node, *row) for row in rows)
            )
            number += len(rows)
        connection.commit()
    answer = {"file": str(target), "num_nodes": len(sources), "num_samples": number}
    text = f"{number} samples of {len(sources)} nodes are in {target}."
    session.output(style, quiet=quiet).done(text, answer)


def _rows(source: Path) -> list[tuple[Any, ...]]:
    try:
        # Read-only: a runner may still be writing there.
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT timestamp, job_key, run_id, cpu_percent, rss FROM process ORDER BY timestamp"
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise BadInput(f"{source} cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{source} is not a file of samples: {error}") from None


_RESOURCE_COLUMNS = [
    Column("host", "hostname"),
    Column("time", "timestamp"),
    Column("resource", "resource_type"),
    Column("job", "job_key"),
    Column("what", "name"),
    Column("minimum", "minimum", right=True),
    Column("average", "average", right=True),
    Column("maximum", "maximum", right=True),
    Column("samples", "num_samples", right=True),
]


@click.command("list-resource-stats", epilog=examples("lading nodes list-resource-stats --exclude-process"))
@click.option("-x", "--exclude-process", is_flag=True, help="Only of nodes, not of single jobs.")
@reading
@click.pass_obj
def list_resource_stats(
    session: Session,
    *,
    exclude_process: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List what nodes and jobs used, as far as it was measured."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        rows = (
            {
                "hostname": document["hostname"], "timestamp": document["timestamp"],
                "resource_type": entry["resource_type"], "job_key": entry.get("job_key"), "name": name,
                "minimum": entry["minimum"].get(name), "average": average,
                "maximum": entry["maximum"].get(name), "num_samples": entry["num_samples"],
            }
            for document in client.list_documents(key, "compute_node_stats")
            for entry in document.get("stats", ())
            if not (exclude_process and entry["resource_type"] == "Process")
            for name, average in entry["average"].items()
        )  # fmt: skip
        session.output(style, quiet=quiet).rows("stats", _RESOURCE_COLUMNS, rows)
