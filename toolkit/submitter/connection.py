"""The submitter's two calls to the server, through the client's session."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from lading.toolkit.client.session import Call, Patience, Session, path_of
from lading.toolkit.client.target import Target
from lading.toolkit.errors import Unauthenticated
from lading.toolkit.wire.submissions import NodeTokenResponse, SubmitterSyncRequest, SubmitterSyncResponse

_ANSWER_SECONDS: Final = 15.0
T = TypeVar("T")


class Connection:
    """Talks to the server of one `server.json`, wherever that server has moved to."""

    def __init__(self, server_file: Path) -> None:
        self.server_file = server_file
        target = Target.from_server_file(server_file)
        self.server_id = target.server_id or ""
        # One try each: the loop decides when to try again, and with which reports.
        self._session = Session(target, patience=Patience(tries=1))

    @property
    def target(self) -> Target:
        """Where the server was last known to be."""
        return self._session.target

    async def sync(
        self, request: SubmitterSyncRequest, *, answer_seconds: float | None = None
    ) -> SubmitterSyncResponse:
        """Report and receive; the answer may take as long as the request is willing to wait."""
        limit = request.wait + (_ANSWER_SECONDS if answer_seconds is None else answer_seconds)
        call = Call("POST", "/submitter/sync", body=request, timeout=limit)
        return await self._fetch(call, SubmitterSyncResponse)

    async def node_token(self, workflow: str, allocation: str) -> NodeTokenResponse:
        """Get the token that opens the registration of one allocation row."""
        path = path_of("workflows", workflow, "scheduled_compute_nodes", allocation, "node_token")
        return await self._fetch(Call("POST", path, timeout=_ANSWER_SECONDS), NodeTokenResponse)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _fetch(self, call: Call, kind: type[T]) -> T:
        try:
            return await self._session.fetch(call, kind)
        except Unauthenticated:
            # A server that was started anew may have another token.
            fresh = self.target.reread()
            if fresh is None:
                raise
            self._session.target = fresh
            return await self._session.fetch(call, kind)
