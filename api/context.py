"""What every handler is given: the services of this server, the caller, the decoded request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from lading.api.services.identity import Principal
from lading.api.services.resources import Services

SERVICES: web.AppKey[Services] = web.AppKey("services", Services)


@dataclass(slots=True)
class Call:
    """One request, decoded and validated; a handler returns what is to be encoded as JSON."""

    request: web.Request
    services: Services
    principal: Principal
    path: Mapping[str, str]
    """Path parameters, percent-decoded one by one."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Declared query parameters, converted, defaults filled in."""
    body: Any = None
    """An instance of the route's body model, a plain dictionary for free-form bodies, or None."""
    idempotency_key: str | None = None
    """Of a creating POST: hand it to `idempotency.once` together with `body_hash`."""
    body_hash: str = ""
    """Identifies method, path and body; set only with an idempotency key."""
