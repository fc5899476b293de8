"""Pages of rows through Tortoise's querysets, with true totals and one order on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tortoise.expressions import Q, RawSQL
from tortoise.fields import TextField
from tortoise.queryset import QuerySet

from lading.api.storage.keys import is_integer_key
from lading.api.storage.orm import Orm
from lading.api.storage.tables import Row

PIECE = 500
"""Rows that are converted without a pause: some 30 ms; heartbeats of nodes must not wait longer."""

Query = QuerySet[Any]
Rows = list[dict[str, Any]]
Encode = Callable[[Mapping[str, Any]], dict[str, Any]]


class Term(NamedTuple):
    """One column to sort by."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    items: list[dict[str, Any]]
    total: int
    """Matches before paging."""


async def select_page(
    orm: Orm,
    model: type[Row],
    filters: Mapping[str, Any],
    order: Sequence[Term],
    encode: Encode,
    *,
    skip: int,
    limit: int,
    key: str | None = None,
) -> Page:
    """Return the rows that equal the filters, encoded, from `skip` on, at most `limit` of them.

    The order ends with the id, so that it is total; `key` selects by a document's key.
    """

    async def select() -> Page:
        matching = model.filter(_key_condition(key), **filters)
        items: list[dict[str, Any]] = []
        if limit:
            ordered = _sorted(matching, model, order, orm.dialect).offset(skip)
            pieces = (
                _in_one_query(ordered, model, limit) if order else _by_id(ordered, matching, model, limit)
            )
            async for rows in pieces:
                items += [encode(row) for row in rows]
        # A page that is not full says the total itself.
        if (items or not skip) and len(items) < limit:
            return Page(items, skip + len(items))
        return Page(items, await matching.count())

    return await orm.read(select)


async def _by_id(first: Query, matching: Query, model: type[Row], limit: int) -> AsyncIterator[Rows]:
    """Yield pieces in the order of ids: whoever waits for the event loop gets it between two of them."""
    query, left = first, limit
    while left:
        size = min(left, PIECE)
        rows = await query.limit(size).values(*model.columns())
        yield rows
        if len(rows) < size:
            return
        left -= size
        query = matching.filter(id__gt=rows[-1]["id"]).order_by("id")


async def _in_one_query(ordered: Query, model: type[Row], limit: int) -> AsyncIterator[Rows]:
    """Yield pieces of a result that is sorted by something else, and would be sorted for each anew."""
    rows = await ordered.limit(limit).values(*model.columns())
    for start in range(0, len(rows), PIECE):
        yield rows[start : start + PIECE]
        await asyncio.sleep(0)


def _key_condition(key: str | None) -> Q:
    if key is None:
        return Q()
    if not is_integer_key(key):
        return Q(key=key)
    return Q(key=key) | Q(id=int(key), key__isnull=True)


def _sorted(query: Query, model: type[Row], order: Sequence[Term], dialect: str) -> Query:
    terms: list[str] = []
    for number, (column, descending) in enumerate(order):
        minus = "-" if descending else ""
        field = model.columns()[column]
        if dialect == "postgres":
            # SQLite's order is taken for both: absent values first, texts by code point.
            if field.null:
                name = f"absent_{number}"
                query = query.annotate(**{name: RawSQL(f'("{column}" IS NOT NULL)')})
                terms.append(minus + name)
            if isinstance(field, TextField):
                name = f"text_{number}"
                query = query.annotate(**{name: RawSQL(f'"{column}" COLLATE "C"')})
                terms.append(minus + name)
                continue
        terms.append(minus + column)
    last_descending = bool(order) and order[-1].descending
    return query.order_by(*terms, "-id" if last_descending else "id")
