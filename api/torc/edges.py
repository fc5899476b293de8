"""The edges between documents."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.routing import Handler, Query, Route
from lading.api.services import edges, joins
from lading.api.services.documents.reading import Paging
from lading.api.torc.answers import PAGE, now_ms, paging_of, write
from lading.toolkit.wire import torc, torc_answers

_ALL = "/workflows/{workflow}/edges/{name}"
_ONE = _ALL + "/{key}"
_TAGS = ("edges",)


async def list_edges(call: Call) -> Any:
    """Return a page of edges."""
    return await edges.list_edges(
        call.services, call.principal, call.path["workflow"], call.path["name"], paging_of(call)
    )


async def add_edge(call: Call) -> Any:
    """Make an edge."""
    document = call.body.filled()
    return await write(
        call,
        lambda effects: edges.add_edge(
            call.principal, call.path["workflow"], call.path["name"], document, now_ms(call), effects
        ),
    )


async def delete_edges(call: Call) -> Any:
    """Remove all edges of a name."""
    return await write(
        call,
        lambda effects: edges.remove_edges(
            call.principal, call.path["workflow"], call.path["name"], now_ms(call), effects
        ),
    )


async def get_edge(call: Call) -> Any:
    """Return an edge."""
    return await edges.get_edge(
        call.services, call.principal, call.path["workflow"], call.path["name"], call.path["key"]
    )


async def remove_edge(call: Call) -> Any:
    """Remove an edge."""
    path = call.path
    return await write(
        call,
        lambda effects: edges.remove_edge(
            call.principal, path["workflow"], path["name"], path["key"], now_ms(call), effects
        ),
    )


async def join_by_outbound_edge(call: Call) -> Any:
    """Return documents with what their edges lead to."""
    return await _join(call, "outbound")


async def join_by_inbound_edge(call: Call) -> Any:
    """Return documents with what leads to them."""
    return await _join(call, "inbound")


async def _join(call: Call, direction: joins.Direction) -> Any:
    return await joins.join(
        call.services,
        call.principal,
        call.path["key"],
        direction,
        call.path["collection"],
        call.path["edge"],
        call.body,
        Paging(skip=call.query["skip"], limit=call.query["limit"]),
    )


def _join_route(direction: joins.Direction, handler: Handler) -> Route:
    return Route(
        "POST", f"/workflows/{{key}}/join_by_{direction}_edge/{{collection}}/{{edge}}",
        f"join_collections_by_{direction}_edge", handler,
        "Return one row for each edge of the documents that equal the members of the body.",
        body=dict, response=torc_answers.Page[torc_answers.JoinedRow],
        query=(*PAGE, *(Query(name, str, description="Without effect.") for name in _WITHOUT_EFFECT)),
        tags=_TAGS,
    )  # fmt: skip


_WITHOUT_EFFECT = ("collection_key", "collection_name")

ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, "list_edges", list_edges, "List the edges of a name.",
          response=torc_answers.Page[torc.Edge], query=PAGE, tags=_TAGS),
    Route("POST", _ALL, "add_edge", add_edge, "Make an edge between two documents.",
          body=torc.Edge, response=torc.Edge, creates=True, tags=_TAGS),
    Route("DELETE", _ALL, "delete_edges", delete_edges, "Remove all edges of a name.",
          response=torc_answers.Message, tags=_TAGS),
    Route("GET", _ONE, "get_edge", get_edge, "Return an edge.", response=torc.Edge, tags=_TAGS),
    Route("DELETE", _ONE, "remove_edge", remove_edge, "Remove an edge.", response=torc.Edge, tags=_TAGS),
    _join_route("inbound", join_by_inbound_edge),
    _join_route("outbound", join_by_outbound_edge),
)  # fmt: skip
