"""What surrounds every request: its id, the log line, the numbers, the envelope of errors.

This is the only place where an HTTP code is chosen.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Collection
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from lading.api.decoding import HOT_SUFFIX
from lading.api.metrics import Metrics
from lading.api.router import MethodNotAllowed
from lading.toolkit.errors import (
    BadInput,
    Conflict,
    Forbidden,
    LadingError,
    NotFound,
    TooLarge,
    TransientError,
    Unauthenticated,
    Unavailable,
    Violation,
)

log = logging.getLogger("lading.api")
access_log = logging.getLogger("lading.api.access")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
ROUTE_PATH: web.RequestKey[str] = web.RequestKey("route_path", str)
"""Path of the route with its parameters' names; set by the dispatcher."""

STREAMING: web.RequestKey[bool] = web.RequestKey("streaming", bool)
"""Set when the head of an answer has been sent: no other answer is possible from then on."""

_STATUS: tuple[tuple[type[LadingError], int], ...] = (
    (BadInput, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (Conflict, 409),
    (TooLarge, 413),
    (Unavailable, 503),
    (TransientError, 503),
)
CLIENT_GONE = 499
"""In numbers and logs only: the client closed the connection and the handler was cancelled."""
_RETRY_AFTER_SECONDS = "1"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNKNOWN_PATH = "(unknown)"
_LOCAL_NAMES = frozenset({"localhost", "ip6-localhost"})


def status_of(error: LadingError) -> int:
    """Return the HTTP code of an error that was raised on purpose."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


def error_response(error: LadingError) -> web.Response:
    """Return the envelope of an error."""
    status = status_of(error)
    document: dict[str, Any] = _envelope(status, str(error), error.code)
    headers: dict[str, str] = {}
    if isinstance(error, BadInput) and error.violations:
        document["violations"] = [_violation(violation) for violation in error.violations]
    if isinstance(error, Unauthenticated):
        headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="lading"'
    if isinstance(error, MethodNotAllowed):
        headers[hdrs.ALLOW] = ", ".join(error.allowed)
    if status == 503:
        headers[hdrs.RETRY_AFTER] = _RETRY_AFTER_SECONDS
    response = _json(status, document, headers)
    if isinstance(error, TooLarge):
        # The rest of the body is still on its way; reading it would be what the limit forbids.
        response.force_close()
    return response


def observing(metrics: Metrics) -> Middleware:
    """Give each request an id, count it, log it, and turn every error into the envelope."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        request[REQUEST_ID] = request_id
        start = time.perf_counter()
        metrics.in_flight += 1
        status = CLIENT_GONE
        try:
            response = await _answer(request, handler, request_id)
            status = response.status
            if not response.prepared:
                response.headers["X-Request-Id"] = request_id
            return response
        finally:
            metrics.in_flight -= 1
            seconds = time.perf_counter() - start
            path = request.get(ROUTE_PATH, _UNKNOWN_PATH)
            # A method is whatever the caller wrote; only those of known paths become labels.
            metrics.observe(request.method if path != _UNKNOWN_PATH else "-", path, status, seconds)
            _log_access(request, path, status, seconds, request_id)

    return observe


def guarding_host(allowed: Collection[str] | None) -> Middleware:
    """Refuse requests that a browser was tricked into sending to this machine.

    A page of a foreign site can rebind its name to 127.0.0.1 and then talk to every server that
    listens there; it cannot choose the Host header. `allowed` None: bound to more than loopback.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST, "")
        if allowed is not None and not _is_local(host) and host_name(host) not in allowed:
            raise Forbidden(f"The Host header {host!r} is not this server's; use its own address.")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Forbidden(f"Requests from pages of {origin!r} are not accepted.")
        return await handler(request)

    return guard


def host_name(host: str) -> str:
    """Return a Host header's name in lower case, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


@lru_cache(maxsize=64)
def _is_local(host: str) -> bool:
    name = host_name(host)
    if name in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _answer(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except LadingError as error:
        return error_response(error)
    except web.HTTPException as error:
        return _json(error.status, _envelope(error.status, error.reason, "error"), {})
    except ConnectionError:
        # The client closed its side while an answer was streamed: nobody is left to be told.
        raise
    except Exception:
        # The text of an unexpected error may hold anything, a secret too: it is for the log alone.
        log.exception(
            "A request failed unexpectedly.",
            extra={"request_id": request_id, "method": request.method, "path": request.get(ROUTE_PATH, "")},
        )
        if STREAMING in request:
            # Only closing the connection tells the client that this was not the end.
            raise
        message = f"Internal Server Error (request {request_id}; the server's log has the reason)"
        return _json(500, _envelope(500, message, "internal"), {})


def _envelope(status: int, message: str, kind: str) -> dict[str, Any]:
    return {"error": True, "errorNum": status, "errorMessage": message, "code": status, "type": kind}


def _json(status: int, document: dict[str, Any], headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), status=status, headers=headers, content_type="application/json"
    )


def _violation(violation: Violation) -> dict[str, Any]:
    value = violation.value
    document: dict[str, Any] = {
        "path": violation.path,
        "message": violation.message,
        "value": value if isinstance(value, str | int | float | bool | None) else str(value),
        "accepted": violation.accepted,
        "suggestion": violation.suggestion,
        "line": violation.line,
        "column": violation.column,
    }
    return {name: member for name, member in document.items() if member is not None}


def _log_access(request: web.Request, path: str, status: int, seconds: float, request_id: str) -> None:
    # Thousands of answered reads and syncs a second are for the metrics; changes and faults are told.
    quiet = request.method in {"GET", "HEAD"} or path.endswith(HOT_SUFFIX)
    is_told = status >= 400 and status != CLIENT_GONE
    level = logging.WARNING if status >= 500 else logging.INFO if is_told or not quiet else logging.DEBUG
    if not access_log.isEnabledFor(level):
        return
    access_log.log(
        level,
        "%s %s %d",
        request.method,
        # Without the query: it is not ours to know what somebody puts there.
        request.path if path != _UNKNOWN_PATH else path,
        status,
        extra={"request_id": request_id, "route": path, "milliseconds": round(seconds * 1000, 1)},
    )
