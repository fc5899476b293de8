"""Who calls: bearer tokens, found by their hash, remembered for at most a second.

Tokens are looked up by SHA-256, so that nothing here compares secrets byte by byte, and a stolen
database opens nothing.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Mapping

from aiohttp import hdrs, web

from lading.api.routing import Route
from lading.api.services import tokens
from lading.api.services.identity import Principal, Scope
from lading.api.storage.unit_of_work import Database
from lading.toolkit.clock import Clock, to_milliseconds
from lading.toolkit.errors import Forbidden, Unauthenticated

CACHE_SECONDS = 1.0
"""A revoked token may live so long on another server of the same database."""
REGISTRATION = "register_compute_node"
"""The one operation that the token of a node's file opens."""
_MOST_CACHED = 10_000
_READING = frozenset({"GET", "HEAD"})

ANONYMOUS = Principal(user="", scope=Scope.READ)
"""Calls the public paths; it owns nothing, so it sees nothing."""


def server_owner() -> str:
    """Return the login name of the person this process runs for."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user without an entry in the password database.
        return str(os.getuid())


class Authenticator:
    """Turns the Authorization header into a principal."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        required: bool = True,
        fixed: Mapping[str, Principal] | None = None,
    ) -> None:
        """`fixed` are tokens of this process alone (hash -> principal), for a database that cannot be
        written.
        """
        self._database = database
        self._clock = clock
        self._everybody = None if required else Principal(user=server_owner(), scope=Scope.ADMIN)
        self._fixed = dict(fixed or {})
        self._cache: dict[str, tuple[Principal, float]] = {}

    def forget(self) -> None:
        """Look every token up anew: one was revoked or changed."""
        self._cache.clear()

    async def authorize(self, request: web.Request, route: Route) -> Principal:
        """Return who calls; raises Unauthenticated or Forbidden when this route is not for them."""
        if route.public:
            return ANONYMOUS
        principal = await self.principal(request)
        if principal.scope not in route.scopes or (
            principal.scope is Scope.READ and request.method not in _READING
        ):
            raise Forbidden(
                f"A token of scope {principal.scope} may not {request.method} {route.path}; "
                f"accepted: {_accepted(route)}."
            )
        if _is_of_node_file(principal) and route.operation_id != REGISTRATION:
            raise Forbidden("The token of a node's file opens its registration and nothing else.")
        return principal

    async def principal(self, request: web.Request) -> Principal:
        """Return the principal of the request's bearer token. Raises Unauthenticated."""
        if self._everybody is not None:
            # Who works as a node is still told by its session token: `sync` is of one node alone.
            found = await self._find(request)
            return found if found is not None and found.compute_node_id is not None else self._everybody
        found = await self._find(request)
        if found is not None:
            return found
        if _secret(request) is None:
            raise Unauthenticated("A token is needed: send the header `Authorization: Bearer lading_…`.")
        raise Unauthenticated("The token is unknown, expired or revoked.")

    async def _find(self, request: web.Request) -> Principal | None:
        secret = _secret(request)
        if secret is None:
            return None
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        now = self._clock.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and now < cached[1]:
            return cached[0]
        found = self._fixed.get(digest) or await tokens.find(
            self._database, digest, to_milliseconds(self._clock.wall())
        )
        if found is None:
            self._cache.pop(digest, None)
            return None
        if len(self._cache) >= _MOST_CACHED:
            self._cache.clear()
        # Counted from before the look: a revocation during it must not be outlived by a second.
        self._cache[digest] = (found, now + CACHE_SECONDS)
        return found


def _secret(request: web.Request) -> str | None:
    kind, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return secret.strip() or None if kind.lower() == "bearer" else None


def _is_of_node_file(principal: Principal) -> bool:
    return principal.allocation_id is not None and principal.compute_node_id is None


AUTHENTICATOR: web.AppKey[Authenticator] = web.AppKey("authenticator", Authenticator)


def _accepted(route: Route) -> str:
    return ", ".join(
        scope
        for scope in Scope
        if scope in route.scopes and (scope is not Scope.READ or route.method == "GET")
    )
