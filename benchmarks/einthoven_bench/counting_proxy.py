"""A TCP proxy on loopback that passes bytes on as they are and counts them: what a device's traffic really is.

Whatever crosses a socket is counted: TLS handshake and records, HTTP heads, bodies. It deliberately opens nothing (TLS
goes through it untouched) and does not count what TCP and IP add, which depends on the network.

Invariants:
    1. A byte is counted when it is read, before it is passed on: no answer arrives uncounted.
    2. Everything is closed when the context ends.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

READ_MAX_BYTES: Final = 1 << 16
"""Bytes read at a time."""
START_TIMEOUT_S: Final = 10.0


@dataclass(slots=True)
class Traffic:
    """Bytes since the last ``CountingProxy.reset``.

    Attributes:
        up: From clients to the server.
        down: From the server to clients.
        connections: Opened by clients.
    """

    up: int = 0
    down: int = 0
    connections: int = 0

    @property
    def total(self) -> int:
        """Both ways."""
        return self.up + self.down


class CountingProxy:
    """Listens on a free port while the context lasts, in a thread of its own.

    Args:
        port: Of the server on this machine.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._port = 0
        self._traffic = Traffic()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting-proxy", daemon=True)
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def reset(self) -> None:
        """Count from 0."""
        with self._lock:
            self._traffic = Traffic()

    def traffic(self) -> Traffic:
        """What passed since the last reset."""
        with self._lock:
            return Traffic(self._traffic.up, self._traffic.down, self._traffic.connections)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_TIMEOUT_S):
            raise TimeoutError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopped.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(0, 0, 1)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(self._pipe(reader, there_writer, up=True), self._pipe(there_reader, writer, up=False))
        finally:
            there_writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        while octets := await reader.read(READ_MAX_BYTES):
            self._count(len(octets) if up else 0, 0 if up else len(octets), 0)
            writer.write(octets)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _count(self, up: int, down: int, connections: int) -> None:
        with self._lock:
            self._traffic.up += up
            self._traffic.down += down
            self._traffic.connections += connections
