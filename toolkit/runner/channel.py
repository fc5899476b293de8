"""The runner's end of the socket pair to its guardian."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec


class GuardianChannel(asyncio.Protocol):
    """Sends and receives JSON lines; tells when the guardian is gone."""

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self._decoder = msgspec.json.Decoder(dict[str, Any])

    @classmethod
    async def open(
        cls, descriptor: int, on_message: Callable[[dict[str, Any]], None], on_lost: Callable[[], None]
    ) -> GuardianChannel:
        """Take over the socket that the guardian handed us; no program we start inherits it."""
        end = socket.socket(fileno=descriptor)
        end.set_inheritable(False)
        end.setblocking(False)
        channel = cls(on_message, on_lost)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=end)
        return channel

    def send(self, op: str, **fields: Any) -> None:
        """Send a message; one to a dead guardian is dropped, `on_lost` tells of its death."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(msgspec.json.encode({"op": op, **fields}) + b"\n")

    def close(self) -> None:
        """Close after everything has been sent."""
        if self._transport is not None:
            self._on_lost = _ignore
            self._transport.close()

    # ---- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - a stream socket's is one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_message(self._decoder.decode(line))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._on_lost()


def _ignore() -> None:
    pass
