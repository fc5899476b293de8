"""Keys of documents: integers from one growing sequence, or the text that a caller chose.

A caller's key of digits becomes the integer itself when that is free, and the sequence is raised
past it, so that no generated key can ever read like a key that somebody chose.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from lading.api.storage.statements import RAISE_IDS, TAKE_IDS, Many, Rows, Statement
from lading.toolkit.errors import BadInput

FURTHEST_JUMP = 10**12
"""A chosen number further ahead than this stays text: nobody may use the sequence up."""


def take_ids(number: int) -> Generator[Statement | Many, Rows, list[int]]:
    """Take that many new ids, ascending."""
    if number <= 0:
        return []
    rows = yield Statement(TAKE_IDS, {"n": number})
    if len(rows) == number:
        return [row["id"] for row in rows]
    first = rows[0]["id"]
    return list(range(first, first + number))


def chosen_id(
    table: str, workflow_id: int | None, key: str, *, kind: str | None = None
) -> Generator[Statement | Many, Rows, tuple[int, str | None]]:
    """Return (id, text key or None) for a document whose caller chose its `_key`.

    Raises BadInput when it is no possible key, and when the collection has it already: the published
    API answers 400 there, and 409 only for revisions.
    """
    check_key(key)
    scope = "" if workflow_id is None else " AND workflow_id = :workflow_id"
    scope += "" if kind is None else " AND kind = :kind"
    parameters: dict[str, Any] = {"key": key}
    if workflow_id is not None:
        parameters["workflow_id"] = workflow_id
    if kind is not None:
        parameters["kind"] = kind
    taken = yield Statement(f"SELECT id FROM {table} WHERE key = :key{scope}", parameters)
    if taken:
        raise BadInput(f"_key: {key!r} is in use.")
    [fresh] = yield from take_ids(1)
    if not is_integer_key(key):
        return fresh, key
    number = int(key)
    rows = yield Statement(f"SELECT id, {'workflow_id' if workflow_id is not None else 'id AS workflow_id'} "
                           f"FROM {table} WHERE id = :id", {"id": number})  # fmt: skip
    if rows:
        if workflow_id is None or rows[0]["workflow_id"] == workflow_id:
            raise BadInput(f"_key: {key!r} is in use.")
        return fresh, key
    if number >= fresh + FURTHEST_JUMP:
        return fresh, key
    yield Statement(RAISE_IDS, {"n": number})
    return number, None


def is_integer_key(key: str) -> bool:
    """Tell whether a key is the canonical text of a positive 63-bit integer."""
    return key.isascii() and key.isdigit() and key[0] != "0" and len(key) <= 18


def check_key(key: str) -> None:
    """Refuse what cannot stand in an `_id` or a path: it becomes part of both."""
    allowed = all(character.isascii() and (character.isalnum() or character in "_-") for character in key)
    if not key or len(key) > 254 or not allowed:
        raise BadInput(f"_key: {key!r} is not a key; accepted: 1 to 254 letters, digits, '_' and '-'.")


def key_filter(key: str, parameters: dict[str, Any], *, alias: str = "") -> str:
    """Return the SQL condition that finds the document of that key, and bind its parameters."""
    prefix = f"{alias}." if alias else ""
    parameters["key"] = key
    if not is_integer_key(key):
        return f"{prefix}key = :key"
    parameters["id"] = int(key)
    return f"(({prefix}id = :id AND {prefix}key IS NULL) OR {prefix}key = :key)"


def key_of(row: Any) -> str:
    """Return the `_key` of a row that has `id` and `key`."""
    return row["key"] if row["key"] is not None else str(row["id"])
