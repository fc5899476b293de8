"""HTTP to the one server of a node: pinned, never redirected, found again when it has moved."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import msgspec

from lading.toolkit.errors import BadInput, Fenced, LadingError, Unavailable
from lading.toolkit.private_files import read_private
from lading.toolkit.wire.files import NodeFile, ServerFile

_CONNECT_SECONDS = 10.0
_OVER_THE_WAIT_SECONDS = 10.0
_FENCING_STATUSES = frozenset({401, 403, 404, 409, 410})
_SHOWN_CHARACTERS = 500


class _ErrorEnvelope(msgspec.Struct):
    """What our server's refusals look like."""

    errorNum: int  # noqa: N815 - the wire's name
    errorMessage: str = ""  # noqa: N815
    type: str = ""


class Connection:
    """Posts documents. Raises `Fenced`, `BadInput` or `Unavailable`; only the last is worth a retry."""

    def __init__(self, node_file: NodeFile) -> None:
        self._node_file = node_file
        self.url = node_file.url.rstrip("/")
        self.fingerprint = node_file.fingerprint
        # No cookies, no proxy from the environment, no compression of answers: local traffic mostly.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(
        self, path: str, body: bytes, *, token: str, wait: float = 0.0, idempotency_key: str | None = None
    ) -> bytes:
        """Send one document and return the answer's body; `wait` is how long the server may take."""
        timeout = aiohttp.ClientTimeout(
            total=wait + _OVER_THE_WAIT_SECONDS, sock_connect=min(_CONNECT_SECONDS, _OVER_THE_WAIT_SECONDS)
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        try:
            async with self._session.post(
                f"{self.url}{path}",
                data=body,
                headers=headers,
                timeout=timeout,
                ssl=self._trust(),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            await self._look_up_server()
            raise Unavailable(f"{self.url}: {str(error) or type(error).__name__}") from None
        if status == 200:
            return content
        raise await self._refusal(status, content)

    def _trust(self) -> aiohttp.Fingerprint | bool:
        if self.fingerprint is None:
            return True
        return aiohttp.Fingerprint(bytes.fromhex(self.fingerprint.replace(":", "")))

    async def _refusal(self, status: int, content: bytes) -> LadingError:
        try:
            envelope = msgspec.json.decode(content, type=_ErrorEnvelope)
        except msgspec.DecodeError:
            # Not our server's words: a proxy, or somebody else on a port that was ours.
            await self._look_up_server()
            return Unavailable(f"{self.url} answered with HTTP {status}, not as a Lading server does")
        message = f"HTTP {status}: {envelope.errorMessage[:_SHOWN_CHARACTERS]}"
        if status in _FENCING_STATUSES:
            before = self.url
            await self._look_up_server()
            # Refused by a server that is no longer ours: the one that is has to be asked first.
            return Fenced(message) if self.url == before else Unavailable(message)
        if 400 <= status < 500 and status not in {408, 429}:
            return BadInput(message)
        return Unavailable(message)

    async def _look_up_server(self) -> None:
        """Read the server's file again: a server that was started anew may have another port."""
        if self._node_file.server_file is None:
            return
        path = Path(self._node_file.server_file)
        try:
            # In a thread: it may lie on a network file system that hangs.
            content = await asyncio.to_thread(read_private, path)
            server = msgspec.json.decode(content, type=ServerFile)
        except (OSError, LadingError, msgspec.DecodeError):
            return
        # Another database's server gets no token of ours.
        if server.server_id == self._node_file.server_id:
            self.url = server.url.rstrip("/")
            self.fingerprint = server.fingerprint
