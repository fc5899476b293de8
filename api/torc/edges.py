"""The edges between documents."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.routing import Route
from lading.api.services import edges
from lading.api.torc.answers import PAGE, now_ms, paging_of, write
from lading.toolkit.wire import torc

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


ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, "list_edges", list_edges, "List the edges of a name.",
          response=torc.Page[torc.Edge], query=PAGE, tags=_TAGS),
    Route("POST", _ALL, "add_edge", add_edge, "Make an edge between two documents.",
          body=torc.Edge, response=torc.Edge, creates=True, tags=_TAGS),
    Route("DELETE", _ALL, "delete_edges", delete_edges, "Remove all edges of a name.",
          response=torc.Message, tags=_TAGS),
    Route("GET", _ONE, "get_edge", get_edge, "Return an edge.", response=torc.Edge, tags=_TAGS),
    Route("DELETE", _ONE, "remove_edge", remove_edge, "Remove an edge.", response=torc.Edge, tags=_TAGS),
)  # fmt: skip
