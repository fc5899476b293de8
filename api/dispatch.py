"""From a request to its handler and back: route, principal, body, query, call, answer."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import Any

import msgspec
import orjson
from aiohttp import web
from pydantic import BaseModel

from lading.api.auth import Authenticator
from lading.api.context import Call
from lading.api.decoding import decode_body, decode_query, read_body
from lading.api.middlewares import ROUTE_PATH, STREAMING
from lading.api.router import Router
from lading.api.routing import Route
from lading.api.services.idempotency import check_key
from lading.api.services.resources import Services
from lading.api.state import ServerState
from lading.toolkit.errors import Unavailable

_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Dispatcher:
    """The one aiohttp handler behind which all routes are."""

    def __init__(
        self, router: Router, services: Services, authenticator: Authenticator, state: ServerState
    ) -> None:
        self._router = router
        self._services = services
        self._authenticator = authenticator
        self._state = state
        self._handling: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; every failure is an exception for the middlewares."""
        if self._state.stopping.is_set():
            raise _stopping()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiohttp runs handlers in tasks
        self._handling.add(task)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            if task not in self._ended or STREAMING in request:
                raise
            task.uncancel()
            raise _stopping() from None
        finally:
            self._handling.discard(task)
            self._ended.discard(task)
            if not self._handling:
                self._idle.set()

    async def end_all(self, grace: float) -> None:
        """Let what is being handled finish within `grace` seconds, then answer the rest with 503.

        Use cases go on to their end; only who waits for news or for a slow client's body is cut off.
        """
        if not self._handling:
            return
        # New requests are refused by now, so the set only shrinks. The tasks themselves cannot be
        # awaited: a connection's outlives its requests.
        self._idle.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        for task in self._handling:
            self._ended.add(task)
            task.cancel()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = request.raw_path
        route, path = self._router.resolve(request.method, target)
        request[ROUTE_PATH] = route.path
        principal = await self._authenticator.authorize(request, route)
        content = await read_body(request, route.maximum_body)
        call = Call(
            request=request,
            services=self._services,
            principal=principal,
            path=path,
            query=decode_query(route.query, target),
            body=await decode_body(route, content),
        )
        if route.creates:
            _add_idempotency(call, route, content)
        return encode(await route.handler(call))


def _stopping() -> Unavailable:
    return Unavailable("The server is stopping.")


def _add_idempotency(call: Call, route: Route, content: bytes) -> None:
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return
    check_key(key)
    call.idempotency_key = key
    # The path too: the same body means another thing in another workflow.
    digest = hashlib.sha256(route.operation_id.encode())
    for name, value in sorted(call.path.items()):
        digest.update(f"\n{len(name)}:{name}={len(value)}:{value}".encode())
    digest.update(b"\n\n" + content)
    call.body_hash = digest.hexdigest()


def encode(answer: Any) -> web.StreamResponse:
    """Return the response for what a handler returned: success is always 200."""
    if isinstance(answer, web.StreamResponse):
        return answer
    if isinstance(answer, msgspec.Struct):
        body = msgspec.json.encode(answer)
    else:
        body = orjson.dumps(answer, default=_plain)
    return web.Response(body=body, headers=_HEADERS)


def _plain(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__name__} cannot be encoded")
