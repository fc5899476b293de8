"""Tokens, for a person on the command line: through the server that owns the database, or directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lading.api.auth import server_owner
from lading.api.services import tokens
from lading.api.services.identity import Principal, Scope
from lading.api.storage.locks import DatabaseLock, find_holder
from lading.api.storage.opening import is_postgres, open_database, prepare_file, sqlite_path
from lading.api.storage.unit_of_work import Database
from lading.toolkit.client import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.clock import SystemClock, to_milliseconds
from lading.toolkit.errors import Conflict, NotFound

Document = dict[str, Any]
Answer = TypeVar("Answer")

_MOST_LISTED = 1_000_000


class TokenAccess(Protocol):
    """Three verbs, wherever the tokens are."""

    def create(
        self,
        scopes: Sequence[str],
        *,
        user: str | None,
        workflow: str | None,
        expires_seconds: float | None,
        label: str,
    ) -> Document:
        """Make a token; the answer alone has its secret."""
        ...

    def list(self) -> Sequence[Document]:
        """Return all tokens that are not revoked."""
        ...

    def revoke(self, token_id: str) -> Document:
        """End a token."""
        ...


def token_access(
    *, target: Target | None = None, location: str | None = None, create: bool = False
) -> TokenAccess:
    """Choose the way: a server that is named, the one that owns a file, or the database itself.

    `create`: a SQLite file that is not there is made.
    """
    if target is not None:
        return _ThroughServer(target)
    assert location is not None  # noqa: S101 - one of the two is given
    if is_postgres(location):
        return _Direct(location)
    path = sqlite_path(location)
    holder = find_holder(path)
    if holder is not None:
        if not holder.server_file:
            raise Conflict(f"The database {path} is in use by {holder}; try again when it is done.")
        return _ThroughServer(Target.from_server_file(Path(holder.server_file)))
    if not path.is_file() and not create:
        raise NotFound(f"There is no database {path}; `lading serve` makes one.")
    return _Direct(location)


class _ThroughServer:
    def __init__(self, target: Target) -> None:
        self._target = target

    def create(
        self,
        scopes: Sequence[str],
        *,
        user: str | None,
        workflow: str | None,
        expires_seconds: float | None,
        label: str,
    ) -> Document:
        with Lading(self._target) as client:
            return client.create_token(
                scopes, user=user, workflow=workflow, expires_seconds=expires_seconds, label=label
            )

    def list(self) -> Sequence[Document]:
        with Lading(self._target) as client:
            return list(client.list_tokens())

    def revoke(self, token_id: str) -> Document:
        with Lading(self._target) as client:
            return client.revoke_token(token_id)


class _Direct:
    """Opens the database for each verb; a SQLite file is locked meanwhile."""

    def __init__(self, location: str) -> None:
        self._location = location
        # Who can write the file can do anything to it already.
        self._caller = Principal(user=server_owner(), scope=Scope.ADMIN)

    def create(
        self,
        scopes: Sequence[str],
        *,
        user: str | None,
        workflow: str | None,
        expires_seconds: float | None,
        label: str,
    ) -> Document:
        return self._run(
            lambda database: tokens.create(
                database,
                self._caller,
                _now_ms(),
                scopes=list(scopes),
                user=user,
                workflow=workflow,
                expires_seconds=expires_seconds,
                label=label,
            )
        )

    def list(self) -> Sequence[Document]:
        found, _ = self._run(
            lambda database: tokens.list_tokens(
                database, self._caller, include_revoked=False, skip=0, limit=_MOST_LISTED
            )
        )
        return found

    def revoke(self, token_id: str) -> Document:
        return self._run(lambda database: tokens.revoke(database, self._caller, token_id, _now_ms()))

    def _run(self, use_case: Callable[[Database], Awaitable[Answer]]) -> Answer:
        async def run() -> Answer:
            async with AsyncExitStack() as stack:
                if not is_postgres(self._location):
                    path = sqlite_path(self._location)
                    prepare_file(path)
                    stack.enter_context(DatabaseLock(path, "command `lading token`"))
                database = await open_database(self._location, now_ms=_now_ms())
                stack.push_async_callback(database.close)
                return await use_case(database)

        return asyncio.run(run())


def _now_ms() -> int:
    return to_milliseconds(SystemClock().wall())
