"""The one way in which a use case speaks to a database: a generator that yields statements.

A use case is a generator. It yields a `Statement` and receives its rows, yields a `Many` (one text,
many parameter sets) and receives nothing, and returns its answer. It never awaits: SQLite's driver
runs the whole generator inside the database's own thread, PostgreSQL's awaits between the yields.

SQL is written once. Parameters are `:name`. Three marks differ by dialect and are replaced:
`IN_LIST(:ids)` for membership in a list parameter, `FOR_UPDATE` for a row lock (SQLite's write
transaction already excludes every other writer), `{id}` in migrations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson


class Row(Protocol):
    """What both drivers return: a row whose columns are read by name."""

    def __getitem__(self, name: str, /) -> Any: ...
    def keys(self) -> Any: ...


class Statement(NamedTuple):
    text: str
    parameters: Mapping[str, Any] = {}


class Many(NamedTuple):
    """One statement for each parameter set; no rows come back."""

    text: str
    parameter_sets: Sequence[Mapping[str, Any]]


Rows = Sequence[Any]
UseCase = Generator[Statement | Many, Rows, Any]


@dataclass(slots=True)
class Effects:
    """What the world must hear once the transaction has been committed, and not before."""

    ready: dict[int, int] = field(default_factory=dict)
    """Workflow id -> how many jobs became claimable: so many fitting waiters are woken."""
    events: set[int] = field(default_factory=set)
    """Workflows whose event sequence advanced."""
    nodes: set[int] = field(default_factory=set)
    """Compute nodes that have orders waiting."""
    finished: set[int] = field(default_factory=set)
    """Workflows that became complete or canceled: all their waiters are woken."""
    demand: bool = False
    """The submitter has something to look at."""
    tokens: bool = False
    """Cached principals must be forgotten."""

    def add_ready(self, workflow_id: int, number: int) -> None:
        if number > 0:
            self.ready[workflow_id] = self.ready.get(workflow_id, 0) + number

    def __bool__(self) -> bool:
        return bool(self.ready or self.events or self.nodes or self.finished or self.demand or self.tokens)


Work = Callable[[Effects], UseCase]
"""Makes the generator anew for every try: a serialisation failure starts the use case again."""

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_IN_LIST = re.compile(r"IN_LIST\(:([a-z_][a-z0-9_]*)\)")


TAKE_IDS = "TAKE_IDS(:n)"
RAISE_IDS = "RAISE_IDS(:n)"
_SQLITE_TEXTS = {
    TAKE_IDS: "UPDATE key_sequence SET next_id = next_id + :n WHERE id = 1 RETURNING next_id - :n AS id",
    RAISE_IDS: "UPDATE key_sequence SET next_id = max(next_id, :n + 1) WHERE id = 1",
}
# A sequence, not a row: a row's lock would make every writer wait for every other one's commit.
_POSTGRES_TEXTS = {
    TAKE_IDS: "SELECT nextval('key_sequence') AS id FROM generate_series(1, CAST(:n AS BIGINT))",
    RAISE_IDS: "SELECT setval('key_sequence', greatest(nextval('key_sequence'), CAST(:n AS BIGINT)))",
}


@lru_cache(maxsize=1024)
def for_sqlite(text: str) -> str:
    """Translate the marks for SQLite, which knows `:name` itself."""
    text = _SQLITE_TEXTS.get(text, text)
    text = _IN_LIST.sub(r"IN (SELECT value FROM json_each(:\1))", text)
    return text.replace("FOR_UPDATE", "")


def sqlite_parameters(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Encode lists as the JSON that `json_each` reads."""
    for value in parameters.values():
        if isinstance(value, list):
            return {
                name: orjson.dumps(item).decode() if isinstance(item, list) else item
                for name, item in parameters.items()
            }
    return parameters


@lru_cache(maxsize=1024)
def for_postgres(text: str) -> tuple[str, tuple[str, ...]]:
    """Translate to `$n` and say which parameter each stands for."""
    text = _POSTGRES_TEXTS.get(text, text)
    text = _IN_LIST.sub(r"= ANY(:\1)", text).replace("FOR_UPDATE", "FOR UPDATE")
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, text), tuple(names)
