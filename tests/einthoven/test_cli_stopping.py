"""A command that stays ends when it is told to, also where a thread of it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from einthoven.cli_stopping import STOP_SIGNALS, stopped_by_signal

PATIENCE_S = 30

_DEAF = """
import sys, threading
from einthoven.cli_stopping import stopped_by_signal

def work():
    while True:
        pass

threading.Thread(target=work).start()
with stopped_by_signal(lambda: print("asked", flush=True)):
    print("ready", flush=True)
    work()
"""


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_process_whose_threads_go_on_ends_all_the_same(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _DEAF], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == 0
            assert process.stdout.read() == "asked\n"
        finally:
            process.kill()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_what_was_before_is_so_again(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    threads = threading.active_count()
    asked = threading.Event()
    with stopped_by_signal(asked.set, lambda status: None):
        os.kill(os.getpid(), number)
        assert asked.wait(PATIENCE_S)
    with stopped_by_signal(asked.clear):
        pass
    assert asked.is_set()
    assert [signal.getsignal(one) for one in STOP_SIGNALS] == before
    assert (signal.set_wakeup_fd(-1), threading.active_count()) == (-1, threads)


def test_it_asks_once_and_leaves_once_whatever_comes() -> None:
    asked, left, statuses = list[int](), threading.Event(), list[int]()

    def leave(status: int) -> None:
        statuses.append(status)
        left.set()

    with stopped_by_signal(lambda: asked.append(1), leave):
        for number in (*STOP_SIGNALS, *STOP_SIGNALS):
            os.kill(os.getpid(), number)
        assert left.wait(PATIENCE_S)
    assert (asked, statuses) == ([1], [0])


def test_other_signals_are_none_of_its_business() -> None:
    asked, heard = list[int](), threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.set())
    try:
        with stopped_by_signal(lambda: asked.append(1)):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert heard.wait(PATIENCE_S)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not asked
