"""A real server on a real port inside the test's process, and short ways to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
import orjson

from lading.api.server_process import Server, ServerOptions, serving
from lading.api.services.resources import Services
from lading.api.storage.unit_of_work import Database
from lading.toolkit.clock import Clock


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)

    @property
    def error(self) -> str:
        """The text of a refusal, whose envelope is checked on the way."""
        document = self.json
        assert document["error"] is True
        assert document["code"] == document["errorNum"] == self.status
        return str(document["errorMessage"])


@dataclass(slots=True)
class Service:
    server: Server
    session: aiohttp.ClientSession
    options: ServerOptions

    @property
    def base_url(self) -> str:
        return self.server.url

    @property
    def token(self) -> str:
        """Of an administrator."""
        return self.server.token

    @property
    def services(self) -> Services:
        return self.server.services

    @property
    def database(self) -> Database:
        return self.server.services.database

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """Send one request; `token` None sends none, '' the administrator's."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.token}")
        if json is not None:
            data = orjson.dumps(json)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        if isinstance(data, bytes) and len(data) > 2**20:
            data = BytesIO(data)
        url = f"{self.base_url}{path}"
        async with self.session.request(method, url, data=data, params=params, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def ok(self, method: str, path: str, **given: Any) -> Any:
        """Send one request that must succeed; return its document."""
        answer = await self.call(method, path, **given)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.content[:500]!r}"
        return answer.json


@asynccontextmanager
async def running_service(options: ServerOptions, clock: Clock | None = None) -> AsyncIterator[Service]:
    """Run a server and a session that talks to it."""
    connector = aiohttp.TCPConnector(limit=0)
    async with serving(options, clock) as server, aiohttp.ClientSession(connector=connector) as session:
        yield Service(server, session, options)
