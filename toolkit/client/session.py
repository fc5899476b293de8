"""One HTTP session with one server: the token, the timeouts, the retries, the errors.

A call is repeated only when repeating it does no harm: reads, deletions, replacements that carry a
revision, and creations with an `Idempotency-Key`, whose first answer the server keeps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from lading.toolkit.client.envelope import error_of
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput, Conflict, LadingError, NotFound, Unauthenticated, Unavailable

T = TypeVar("T")
QueryValue = str | int | float | bool | None

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 10.0
_LONGEST_ERROR_BYTES: Final = 4 * 1024 * 1024
_REREADS: Final = 4
_REREAD_SECONDS: Final = 0.1
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "DELETE"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a repeatable call keeps trying: full jitter below a growing ceiling, in seconds."""

    tries: int = 5
    first_ceiling: float = 0.2
    last_ceiling: float = 3.0

    def pause(self, failures: int, draw: float) -> float:
        """Return the seconds before the next try; `draw` is random in [0, 1)."""
        ceiling = min(self.last_ceiling, self.first_ceiling * 2.0 ** min(failures - 1, 30))
        return ceiling * draw


BETWEEN_JOBS: Final = Patience(tries=16, last_ceiling=6.0)
"""For a server in Slurm: the next job takes its place within half a minute, if the cluster has room."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as often as it takes."""

    method: str
    path: str
    """Percent-encoded, from the first slash; see `path_of`."""
    query: Mapping[str, QueryValue] | None = None
    body: object = None
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    repeatable: bool = False
    """Known to be harmless when it arrives twice; reads and deletions always are."""
    idempotency_key: str | None = None

    @property
    def may_repeat(self) -> bool:
        return self.repeatable or self.method in _SAFE_METHODS or self.idempotency_key is not None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def path_of(*segments: str | int) -> str:
    """Return a path of percent-encoded segments; a slash within a segment stays part of it."""
    for segment in segments:
        # Empty, '.' and '..' would change which resource is meant on their way through the network.
        if str(segment) in {"", ".", ".."}:
            raise BadInput(f"{segment!r} is not a key.")
    return "".join("/" + quote(str(segment), safe="") for segment in segments)


class Session:
    """Calls to one server. Make it and use it within one event loop."""

    def __init__(self, target: Target, *, patience: Patience | None = None) -> None:
        self.target = target
        self._patience = patience or (Patience() if target.chain is None else BETWEEN_JOBS)
        self._random = random.Random()
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def fetch(self, call: Call, kind: type[T]) -> T:
        """Make a call and decode its answer."""
        body = await self.send(call)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            message = f"The answer to {call.name} is not what this client understands: {error}."
            raise LadingError(message) from error

    async def send(self, call: Call) -> bytes:
        """Make a call, repeated where that is harmless, and return the body of its answer."""
        failures = refusals = 0
        while True:
            try:
                return await self._once(call)
            except Unauthenticated:
                # Nothing was done. A server that was started anew at the same address has another token,
                # and writes it down just after it began to listen.
                refusals += 1
                if self.target.server_file is None or refusals > _REREADS:
                    raise
                if not self._follow_server():
                    await asyncio.sleep(_REREAD_SECONDS * refusals)
            except Unavailable as error:
                failures += 1
                self._follow_server()
                if not call.may_repeat or failures >= self._patience.tries:
                    raise
                pause = max(
                    self._patience.pause(failures, self._random.random()), getattr(error, "retry_after", 0.0)
                )
                await asyncio.sleep(pause)
            except (Conflict, NotFound) as error:
                if failures and call.method in {"PUT", "DELETE"}:
                    # The answer to the first try was lost: it may be the cause of this refusal.
                    error.add_note(
                        "An earlier try of this call was not answered and may have been carried out."
                    )
                raise

    @asynccontextmanager
    async def stream(self, call: Call, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """Open an answer without an end; nothing is repeated. `call.timeout` limits each silence."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=call.timeout)
        try:
            async with self._request(call, timeout, headers) as response:
                if response.status != 200:
                    raise await self._refusal(call, response)
                yield response.content
        except (aiohttp.ClientError, TimeoutError) as error:
            self._follow_server()
            raise self._unreachable(call, error) from error

    async def _once(self, call: Call) -> bytes:
        timeout = aiohttp.ClientTimeout(total=call.timeout, sock_connect=_CONNECT_SECONDS)
        try:
            async with self._request(call, timeout, {}) as response:
                if response.status != 200:
                    raise await self._refusal(call, response)
                return await response.read()
        except aiohttp.ServerFingerprintMismatch as error:
            raise Unauthenticated(
                f"The server at {self.target.url} shows another certificate than the one that is pinned; "
                "nothing was sent to it."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(call, error) from error

    def _request(
        self, call: Call, timeout: aiohttp.ClientTimeout, headers: Mapping[str, str]
    ) -> aiohttp.client._RequestContextManager:
        target = self.target
        if not target.url:
            raise Unavailable(
                f"The first job of the server still waits in Slurm's queue ({target.found_by})."
            )
        sent = {"Accept": "application/json", **headers}
        if target.token is not None:
            sent["Authorization"] = f"Bearer {target.token}"
        if call.idempotency_key is not None:
            sent["Idempotency-Key"] = call.idempotency_key
        data = None
        if call.method in {"POST", "PUT"}:
            sent["Content-Type"] = "application/json"
            data = msgspec.json.encode({} if call.body is None else call.body)
        return self._open().request(
            call.method,
            URL(target.url.rstrip("/") + call.path + _query_text(call.query), encoded=True),
            data=data,
            headers=sent,
            timeout=timeout,
            # The token is for this server only, so no other place is followed to.
            allow_redirects=False,
            ssl=_pin(target.fingerprint),
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._client is None:
            connector = aiohttp.TCPConnector(limit=16, limit_per_host=16)
            self._client = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
            # aiohttp repeats GET, PUT and DELETE by itself on a broken connection; here a PUT is repeated
            # only when it is known to be harmless. There is no public switch for it.
            self._client._retry_connection = False  # noqa: SLF001 - see above
        return self._client

    async def _refusal(self, call: Call, response: aiohttp.ClientResponse) -> LadingError:
        if 300 <= response.status < 400:
            place = response.headers.get("Location", "nowhere")
            return BadInput(
                f"{call.name} at {self.target.url} was redirected to {place}; redirects are not followed, "
                "so that the token goes nowhere else. Give the final address."
            )
        body = await response.content.read(_LONGEST_ERROR_BYTES)
        error = error_of(response.status, body, call.name)
        if isinstance(error, Unavailable):
            # Read by `send`: the server knows best when to come back.
            vars(error)["retry_after"] = _retry_after(response.headers.get("Retry-After"))
        return error

    def _unreachable(self, call: Call, error: BaseException) -> Unavailable:
        reason = str(error) or (
            "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        )
        moving = (
            "" if self.target.chain is None else " It lives in Slurm, and its next job may still wait there."
        )
        return Unavailable(
            f"The server at {self.target.url} (found by {self.target.found_by}) "
            f"did not answer {call.name}: {reason}.{moving}"
        )

    def _follow_server(self) -> bool:
        """Read the server's file again, and return whether it said something new."""
        fresh = self.target.reread()
        self.target = fresh or self.target
        return fresh is not None


def _pin(fingerprint: str | None) -> aiohttp.Fingerprint | bool:
    """Return what aiohttp checks a certificate with: the pin, or the usual authorities."""
    if fingerprint is None:
        return True
    try:
        return aiohttp.Fingerprint(bytes.fromhex(fingerprint.replace(":", "")))
    except ValueError as error:
        raise BadInput(
            f"The certificate's fingerprint {fingerprint!r} is not a SHA-256 in hexadecimal (64 digits)."
        ) from error


def _query_text(query: Mapping[str, QueryValue] | None) -> str:
    given = {name: _plain(value) for name, value in (query or {}).items() if value is not None}
    return "?" + urlencode(given, quote_via=quote) if given else ""


def _plain(value: QueryValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_after(text: str | None) -> float:
    try:
        return min(30.0, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0
