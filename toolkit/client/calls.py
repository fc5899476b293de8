"""The shapes of calls that all verbs of the client share."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self, TypeAlias, TypeVar

import msgspec

from lading.toolkit.client.session import Call, Patience, QueryValue, Session, path_of
from lading.toolkit.client.target import Target

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]

PAGE_SIZE: Final = 10_000
BULK_TIMEOUT_SECONDS: Final = 900.0


class _Page(msgspec.Struct):
    """The list envelope."""

    items: list[Any]
    has_more: bool = False


class Calls:
    """A connection to one server; a base of the client."""

    def __init__(self, target: Target | str, *, patience: Patience | None = None) -> None:
        if isinstance(target, str):
            target = Target(target)
        self._session = Session(target, patience=patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    @property
    def target(self) -> Target:
        """The server this client talks to."""
        return self._session.target

    async def _get(self, *segments: str) -> Document:
        return await self._session.fetch(Call("GET", path_of(*segments)), Document)

    async def _post(self, *segments: str, body: object = None) -> Document:
        return await self._session.fetch(Call("POST", path_of(*segments), body=body), Document)

    async def _repeatable_post(self, *segments: str) -> Document:
        return await self._session.fetch(Call("POST", path_of(*segments), repeatable=True), Document)

    async def _create(self, path: str, body: object, key: str | None, seconds: float = 60.0) -> Document:
        call = Call(
            "POST", path, body=body, timeout=seconds, idempotency_key=key or secrets.token_urlsafe(24)
        )
        return await self._session.fetch(call, Document)

    async def _replace(self, path: str, body: Mapping[str, Any]) -> Document:
        # Harmless when it arrives twice only with a revision: the second one is refused then.
        call = Call("PUT", path, body=body, repeatable=bool(body.get("_rev")))
        return await self._session.fetch(call, Document)

    async def _delete(self, *segments: str) -> Document:
        call = Call("DELETE", path_of(*segments), timeout=BULK_TIMEOUT_SECONDS)
        return await self._session.fetch(call, Document)

    async def _pages(
        self,
        path: str,
        kind: type[T],
        limit: int | None,
        filters: Mapping[str, QueryValue],
        *,
        method: str = "GET",
        body: object = None,
    ) -> AsyncIterator[T]:
        """Yield the items of all pages; the next page is asked for when the last item was taken."""
        skip = int(filters.get("skip") or 0)
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            query = {**filters, "skip": skip, "limit": size}
            call = Call(method, path, query, body=body, repeatable=True)
            page = await self._session.fetch(call, _Page)
            for item in page.items:
                yield msgspec.convert(item, type=kind)
            skip += len(page.items)
            if left is not None:
                left -= len(page.items)
            if not page.has_more or not page.items:
                return
