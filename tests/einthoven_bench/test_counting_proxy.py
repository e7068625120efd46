"""The proxy passes every byte on, and counts it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from einthoven_bench.counting_proxy import CountingProxy


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads until its caller is done, answers and hangs up; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                with accepted:
                    while accepted.recv(4096):
                        pass
                    accepted.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def asked(port: int, question: bytes) -> bytes:
    """What is answered to a question."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(question)
        with suppress(OSError):  # who hangs up at once may have done so by now
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(("question", "answer"), [(b"", b""), (b"x", b"yes"), (b"q" * 300_000, b"a" * 200_001)])
def test_every_byte_passes_and_is_counted(question: bytes, answer: bytes) -> None:
    with answering(answer) as port, CountingProxy(port) as proxy:
        assert asked(proxy.port, question) == answer
        seen = proxy.traffic()

        assert (seen.up, seen.down, seen.connections) == (len(question), len(answer), 1)
        assert seen.total == len(question) + len(answer)


def test_counting_begins_anew() -> None:
    with answering(b"yes") as port, CountingProxy(port) as proxy:
        asked(proxy.port, b"one")
        proxy.reset()
        asked(proxy.port, b"seven")
        seen = proxy.traffic()

        assert (seen.up, seen.down, seen.connections) == (5, 3, 1)


def test_a_server_that_is_not_there_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with CountingProxy(port) as proxy:
        assert asked(proxy.port, b"hello") == b""
        assert proxy.traffic().down == 0
