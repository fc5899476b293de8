"""Events of a workflow as they happen: server-sent events that resume where a client was cut off."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import orjson
from aiohttp import web

from lading.api.auth import AUTHENTICATOR
from lading.api.context import Call
from lading.api.middlewares import REQUEST_ID, STREAMING
from lading.api.services.streams import PAGE, EventPage, events_after
from lading.api.state import STATE
from lading.toolkit.errors import BadInput, LadingError

HEARTBEAT_SECONDS = 15.0
_SEQUENCE = re.compile(r"[0-9]{1,18}")


async def stream(call: Call) -> web.StreamResponse:
    """Send every event after `after` or Last-Event-ID, then each new one when it is committed."""
    sequence = _start(call)
    workflow = call.path["workflow"]
    # The first page decides between 404 and a stream; after the head was sent nothing can be refused.
    page = await events_after(call.services.database, call.principal, workflow, sequence)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            # A buffering proxy would hold events back.
            "X-Accel-Buffering": "no",
            "X-Request-Id": call.request[REQUEST_ID],
        }
    )
    await response.prepare(call.request)
    call.request[STREAMING] = True
    if call.request.method == "HEAD":
        return response
    # A client that goes away ends the stream here; so do a workflow that is deleted, a token that is
    # revoked, and a database that does not answer: the client comes back with Last-Event-ID.
    with suppress(ConnectionError, LadingError):
        await _send_all(call, response, page, sequence)
    return response


async def _send_all(call: Call, response: web.StreamResponse, page: EventPage, sequence: int) -> None:
    stopping = call.request.app[STATE].stopping
    authenticator = call.request.app[AUTHENTICATOR]
    workflow = call.path["workflow"]
    await response.write(b": connected\n\n")
    with call.services.wakeups.progress(page.workflow_id) as event:
        while not stopping.is_set():
            # Cleared before the look: what is committed during it wakes the wait that follows.
            event.clear()
            await authenticator.principal(call.request)
            page = await events_after(call.services.database, call.principal, workflow, sequence)
            if page.events:
                await response.write(b"".join(_line(number, document) for number, document in page.events))
                sequence = page.events[-1][0]
            if len(page.events) == PAGE:
                continue
            try:
                await asyncio.wait_for(event.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                await response.write(b": still here\n\n")


def _line(sequence: int, document: object) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (sequence, orjson.dumps(document))


def _start(call: Call) -> int:
    # What the client saw last outranks the address it first called: a browser repeats both.
    last = call.request.headers.get("Last-Event-ID")
    if last is None:
        return int(call.query["after"])
    if _SEQUENCE.fullmatch(last) is None:
        raise BadInput(f"Last-Event-ID: {last!r} is not accepted; accepted is the number of an event.")
    return int(last)
