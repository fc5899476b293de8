"""A workflow to work in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.lib.service import Answer, Service


@dataclass(slots=True)
class Workflow:
    """Short ways to call below one workflow's path."""

    server: Service
    key: str

    @property
    def path(self) -> str:
        return f"/workflows/{self.key}"

    def id_of(self, collection: str, key: str) -> str:
        return f"{collection}__{self.key}/{key}"

    async def call(self, method: str, path: str, **given: Any) -> Answer:
        return await self.server.call(method, f"{self.path}/{path}", **given)

    async def ok(self, method: str, path: str, **given: Any) -> Any:
        return await self.server.ok(method, f"{self.path}/{path}", **given)

    async def add(self, collection: str, **document: Any) -> dict[str, Any]:
        return await self.ok("POST", collection, json=document)

    async def refused(self, status: int, method: str, path: str, **given: Any) -> str:
        answer = await self.call(method, path, **given)
        assert answer.status == status, f"{method} {path}: {answer.status} {answer.content[:500]!r}"
        return answer.error


@pytest.fixture
async def workflow(server: Service) -> Workflow:
    """An empty workflow."""
    document = await server.ok("POST", "/workflows", json={"name": "test", "user": "someone"})
    return Workflow(server, document["_key"])
