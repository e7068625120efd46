"""Ends a command that stays when a signal asks it to: in order if that is quick, and else at once all the same.

A thread that works in the store can't be interrupted, and comparing a hundred thousand rows takes it seconds. It
deliberately does not wait for it: after ``STOP_GRACE_S`` the process ends as if it had been killed. That loses nothing,
for a store takes over each answer in one transaction or not at all.

Invariants:
    1. From the first signal on the process lives ``STOP_GRACE_S`` longer at most, whatever its threads do, the main one
       among them: it may be waiting for the disk, and then no handler of Python's runs.
    2. Signal handlers are as before when the context ends.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
STOP_GRACE_S: Final = 0.3
"""What a signal leaves to what is under way: with all else, less than a second from the signal to the end."""
_ENDED: Final = b"\0"
"""No signal has this number."""


@contextmanager
def stopped_by_signal(ask: Callable[[], object], leave: Callable[[int], object] = os._exit) -> Iterator[None]:
    """Have SIGINT and SIGTERM end what runs in the context; for the main thread.

    Args:
        ask: Called with the first signal, in a thread of its own: asks for an end in order.
        leave: Called with the exit status, there, once ``STOP_GRACE_S`` are over and the context has not ended.
    """
    ended = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)

    def listen() -> None:
        while (octet := heard.recv(1)) != _ENDED:
            if octet[0] in STOP_SIGNALS:
                ask()
                if not ended.wait(STOP_GRACE_S):
                    leave(0)
                return

    listener = threading.Thread(target=listen, name="einthoven-stop", daemon=True)
    # The number of a signal is written by the C handler, at once and in whatever thread it comes.
    before_fd = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    before = [(number, signal.signal(number, lambda number, frame: None)) for number in STOP_SIGNALS]
    listener.start()
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        ended.set()
        told.send(_ENDED)
        listener.join()
        heard.close()
        told.close()
