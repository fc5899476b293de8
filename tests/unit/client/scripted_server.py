"""A real HTTP server on a real port whose answers a test decides."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Take the request and close the connection without an answer."""
    text: str | None = None


Script = Answer | Callable[[Seen], Answer]


def page(items: list[Any], *, has_more: bool = False) -> dict[str, Any]:
    return {"items": items, "skip": 0, "max_limit": 100_000, "count": len(items), "has_more": has_more}


def refusal(status: int, message: str, **more: Any) -> Answer:
    return Answer(
        {"error": True, "errorNum": status, "errorMessage": message, "code": status, **more}, status
    )


class ScriptedServer:
    """Answers by (method, path): a queue whose last answer stays."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.seen: list[Seen] = []
        self._scripts: dict[tuple[str, str], deque[Script]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, *scripts: Script) -> None:
        self._scripts[method, path] = deque(scripts)

    def calls(self, method: str, path: str) -> list[Seen]:
        return [item for item in self.seen if (item.method, item.path) == (method, path)]

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        path = request.raw_path.partition("?")[0]
        seen = Seen(request.method, path, dict(request.query), dict(request.headers), body)
        self.seen.append(seen)
        scripts = self._scripts.get((request.method, path))
        if scripts is None:
            answer = refusal(404, f"nothing is scripted for {request.method} {path}")
        else:
            script = scripts.popleft() if len(scripts) > 1 else scripts[0]
            answer = script if isinstance(script, Answer) else script(seen)
        if answer.drop:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if answer.text is not None:
            return web.Response(text=answer.text, status=answer.status, headers=answer.headers)
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)
