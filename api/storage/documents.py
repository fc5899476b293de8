"""Pages of rows through Tortoise's querysets, with true totals and one order on both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tortoise.expressions import Q, RawSQL
from tortoise.fields import TextField
from tortoise.queryset import QuerySet

from lading.api.storage.keys import is_integer_key
from lading.api.storage.orm import Orm
from lading.api.storage.tables import Row

KEY_COLUMN = "key"


class Term(NamedTuple):
    """One column to sort by."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class PageOfRows:
    rows: list[dict[str, Any]]
    total: int
    """Matches before paging."""


async def select_page(
    orm: Orm,
    model: type[Row],
    filters: Mapping[str, Any],
    order: Sequence[Term],
    *,
    skip: int,
    limit: int,
    key: str | None = None,
) -> PageOfRows:
    """Return the rows that equal the filters, from `skip` on, at most `limit` of them.

    The order ends with the id, so that it is total; `key` selects by a document's key.
    """

    async def select() -> PageOfRows:
        matching = model.filter(_key_condition(key), **filters)
        rows: list[dict[str, Any]] = []
        if limit:
            columns = list(model.columns())
            sorted_rows = _sorted(matching, model, order, orm.dialect)
            rows = [dict(row) for row in await sorted_rows.offset(skip).limit(limit).values(*columns)]
        # A page that is not full says the total itself.
        if (rows or not skip) and len(rows) < limit:
            return PageOfRows(rows, skip + len(rows))
        return PageOfRows(rows, await matching.count())

    return await orm.read(select)


def _key_condition(key: str | None) -> Q:
    if key is None:
        return Q()
    if not is_integer_key(key):
        return Q(key=key)
    return Q(key=key) | Q(id=int(key), key__isnull=True)


def _sorted(query: QuerySet[Any], model: type[Row], order: Sequence[Term], dialect: str) -> QuerySet[Any]:
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
