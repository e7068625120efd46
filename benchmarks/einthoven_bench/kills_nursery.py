"""Devices and servers as forks of one process that has their code loaded: a life that ends by kill -9 is short.

Loading the code takes more processor time than all that a process does before it is killed. So one process, the
nursery, loads it once and does nothing with it; each device and each server is a fork of it, with a process id, files,
connections and a log of its own. It deliberately opens no store, no socket and no event loop before it forks.

Orders come on its standard input, a line of JSON each, answers go to its standard output:
``{"program": NAME, "arguments": [...], "log": PATH}`` -> ``{"pid": N}``; ``{"poll": PID}`` -> ``{"status": N | null}``.

Invariants:
    1. A process id is a child's until its end was asked for and told: no other process can be killed by mistake.
    2. When its orders end, because its owner did, it ends all that it started, and then itself.
    3. A SIGTERM that comes before a program is ready for it waits, and is not its end.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.workers import SINGLE_THREAD

DEVICE: Final = "device"
SERVER: Final = "server"
STOP_TIMEOUT_S: Final = 20.0
"""Longest that a server may take to stop when the orders end."""
_POLL_S: Final = 0.005
_SIGNALS: Final = frozenset({signal.SIGTERM})


class Newborn:
    """A process that the nursery started: what ``subprocess.Popen`` offers of one, as far as it is needed.

    Args:
        nursery: Who started it.
        pid: Its id.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; ``None`` while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask(poll=self.pid)["status"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit status.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        stop_s = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if stop_s is not None and time.monotonic() > stop_s:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The owner's side of a nursery; a context manager."""

    def __init__(self) -> None:
        environment = {**dict.fromkeys(SINGLE_THREAD, "1"), **os.environ}
        self._process = subprocess.Popen(  # our own module
            [sys.executable, "-m", "einthoven_bench.kills_nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            # A Ctrl-C at the terminal is for the owner, which then ends the orders.
            start_new_session=True,
        )

    def start(self, program: str, arguments: Sequence[str], log: Path) -> Newborn:
        """Start a program.

        Args:
            program: ``DEVICE`` or ``SERVER``.
            arguments: Of its command line.
            log: Where what it says is appended.
        """
        return Newborn(self, self.ask(program=program, arguments=list(arguments), log=str(log))["pid"])

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            MeasurementFailed: The nursery has ended.
        """
        orders, answers = self._process.stdin, self._process.stdout
        if orders is None or answers is None:
            raise RuntimeError("the nursery was started without pipes")
        try:
            orders.write(json.dumps(order).encode("ascii") + b"\n")
            orders.flush()
            line = answers.readline()
        except (OSError, ValueError):  # the pipe is broken, or closed
            line = b""
        if not line:
            raise MeasurementFailed(
                "the process that starts the others has ended", "see what it said above; or look for lack of memory", 1
            )
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the orders, and with them all that was started."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _programs() -> dict[str, Callable[[], None]]:
    """What can be started; everything that they need is loaded here, once."""
    from einthoven_bench import kills_device  # noqa: PLC0415  # the owner's side needs none of it
    from einthoven_server import cli, postgres_embedded, serve  # noqa: PLC0415

    del postgres_embedded, serve
    return {DEVICE: kills_device.main, SERVER: cli.main}


def _run(program: Callable[[], None], order: dict[str, Any]) -> NoReturn:
    """Be the program, in a fork; return to nowhere."""
    status = 1
    try:
        os.setsid()
        nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, place)
        sys.argv = [order["program"], *order["arguments"]]
        if order["program"] == SERVER:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # the last frame of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_all(children: set[int]) -> None:
    stop_s = time.monotonic() + STOP_TIMEOUT_S
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    while children:
        for pid in list(children):
            if time.monotonic() > stop_s:
                os.kill(pid, signal.SIGKILL)
            if os.waitpid(pid, os.WNOHANG)[0]:
                children.discard(pid)
        time.sleep(_POLL_S)


def _status(children: set[int], pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """The nursery itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    programs, children = _programs(), set[int]()
    answers = os.dup(1)
    # What is loaded is nobody's to look through again, and its pages stay shared.
    gc.collect()
    gc.freeze()
    with os.fdopen(0, "rb", closefd=False) as orders:
        for line in orders:
            order = json.loads(line)
            if "poll" in order:
                answer: dict[str, int | None] = {"status": _status(children, order["poll"])}
            else:
                pid = os.fork()
                if not pid:
                    os.close(answers)
                    _run(programs[order["program"]], order)
                children.add(pid)
                answer = {"pid": pid}
            os.write(answers, json.dumps(answer).encode("ascii") + b"\n")
    _end_all(children)


if __name__ == "__main__":
    main()
