"""What the handlers of this dialect share: paging parameters, writing with idempotency, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lading.api.context import Call
from lading.api.routing import Query
from lading.api.services.documents.reading import MAXIMUM_PAGE, Paging
from lading.api.services.idempotency import once
from lading.api.services.workflows import Steps
from lading.api.storage.statements import Effects, UseCase
from lading.toolkit.clock import to_milliseconds

PAGE = (
    Query("skip", int, 0, minimum=0, description="Items to leave out at the beginning."),
    Query("limit", int, MAXIMUM_PAGE, minimum=0, description="Items to return at most."),
)
SORTED_PAGE = (
    *PAGE,
    Query("sort_by", str, None, description="Members to sort the whole result by, separated by commas."),
    Query("reverse_sort", bool, default=False, description="Sort in descending order."),
)
_PAGING = frozenset(query.name for query in SORTED_PAGE)


def paging_of(call: Call) -> Paging:
    """Read the paging parameters; every other declared parameter is a filter."""
    query: Mapping[str, Any] = call.query
    return Paging(
        skip=query["skip"],
        limit=query["limit"],
        sort_by=query.get("sort_by"),
        reverse=query.get("reverse_sort", False),
        filters={name: value for name, value in query.items() if name not in _PAGING},
    )


def now_ms(call: Call) -> int:
    """Return the server's time in milliseconds."""
    return to_milliseconds(call.services.clock.wall())


async def write(call: Call, steps: Callable[[Effects], Steps]) -> Any:
    """Run a use case in one transaction; a creating call that is repeated gets its first answer."""
    now = now_ms(call)

    def work(effects: Effects) -> UseCase:
        return (
            yield from once(call.principal, call.idempotency_key, call.body_hash, now, lambda: steps(effects))
        )

    return await call.services.database.write(work)
