"""What a route is: one line per endpoint in each dialect's `routes.py`; the OpenAPI document and the
router are both made from these lines, so that neither can know an endpoint that the other does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lading.api.context import Call
from lading.api.services.identity import Scope

Handler = Callable[[Call], Awaitable[Any]]

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE

PEOPLE = frozenset({Scope.USER, Scope.ADMIN, Scope.READ})
"""READ passes for GET only; the router sees to it."""
NODES = frozenset({Scope.NODE, Scope.USER, Scope.ADMIN})
ANYBODY: frozenset[Scope] = frozenset(Scope)
ADMINISTRATORS = frozenset({Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter; unknown ones are ignored, a value of the wrong type is refused."""

    name: str
    type: type = str
    """str, int, float or bool. Integers also arrive as `0.0`, booleans as `true` or `false`."""
    default: Any = None
    minimum: float | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """With `{name}` parameters, without any prefix."""
    operation_id: str
    handler: Handler
    summary: str
    body: Any = None
    """A pydantic model, a msgspec structure, `dict` for a free-form object, or None: no body needed."""
    response: Any = None
    """Model of the answer, for the document only: answers are never trimmed."""
    content_type: str = "application/json"
    """Of the answer; also for the document only."""
    query: tuple[Query, ...] = ()
    scopes: frozenset[Scope] = PEOPLE
    public: bool = False
    """True: needs no token (ping, version, health)."""
    maximum_body: int = 1 * MEBIBYTE
    creates: bool = False
    """True: takes `Idempotency-Key`."""
    tags: tuple[str, ...] = ()
