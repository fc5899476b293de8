"""A proxy between a client and a server of ours that loses answers: the request arrives, the answer does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Loses = Callable[[str, int], bool]
"""(path, how many requests to that path came before) -> whether this one's answer is lost."""


class LossyProxy:
    """Forwards HTTP/1.1 with `Content-Length` bodies; runs in a thread of its own."""

    def __init__(self, host: str, port: int, loses: Loses) -> None:
        self._upstream = (host, port)
        self._loses = loses
        self._counts: dict[str, int] = {}
        self.lost = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        except asyncio.CancelledError:
            # Only `_close` cancels: nothing is left to be forwarded.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Forward one request and its answer; False when the client's connection is to be closed."""
        request = await _message(reader)
        path = request.split(b" ", 2)[1].decode("ascii")
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
        try:
            upstream.write(request)
            answering = asyncio.ensure_future(_message(upstream_reader))
            leaving = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                # The client went away while its request waited: the server must see that too.
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                return False
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            answer = answering.result()
        finally:
            upstream.close()
        if self._loses(path, number):
            self.lost += 1
            return False
        writer.write(answer)
        await writer.drain()
        return True


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)
