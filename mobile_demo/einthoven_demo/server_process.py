"""A real server in a process of its own, for as long as the demo needs it.

It deliberately uses only what an operator has: the `einthoven-server` command, its ready file, and signals.

Invariants:
    1. Whatever happens, no process is left running when the context ends.
    2. The server counts as started only when its ready file says so.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from einthoven.account import Account, load_account
from einthoven_demo.errors import DemoError

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.02
_LOG_TAIL_CHARS: Final = 500


class Child(Protocol):
    """A process that was started, as ``subprocess.Popen`` is one."""

    def poll(self) -> int | None:
        """Its exit status; ``None`` while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


def spawned(arguments: Sequence[str], log: Path) -> Child:
    """Start the server's command with these arguments; what it says is appended to ``log``."""
    with log.open("ab") as open_log:
        # A session of its own: a Ctrl-C at the terminal is for the demo, which then stops the server.
        return subprocess.Popen(
            [sys.executable, "-m", "einthoven_server", *arguments],
            stdout=open_log,
            stderr=open_log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


class ServerProcess:
    """`einthoven-server all` on its embedded default.

    Args:
        folder: The server's data folder.
        spawn: Starts it.
    """

    def __init__(self, folder: Path, spawn: Callable[[Sequence[str], Path], Child] = spawned) -> None:
        self._folder = folder
        self._spawn = spawn
        self._port = _free_port()
        self._log = folder.parent / "server.log"
        self._ready = folder.parent / "ready.json"
        self._process: Child | None = None

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the server's own authority."""
        return Path(self._read_ready()["ca_file"])

    @property
    def admin(self) -> Account:
        """The first administrator's key, which the server left in its data folder."""
        return load_account(self._folder / "admin-key.json")

    def launch(self) -> Child:
        """Start without waiting for anything."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._ready.unlink(missing_ok=True)
        arguments = ["all", "--data", str(self._folder), "--port", str(self._port), "--ready-file", str(self._ready)]
        self._process = self._spawn(arguments, self._log)
        return self._process

    def start(self) -> float:
        """Start and wait until it accepts connections; return the seconds that took.

        Raises:
            DemoError: It ended, or was not ready in time.
        """
        began = time.monotonic()
        process = self.launch()
        while not self._ready.exists():
            if process.poll() is not None:
                raise DemoError("the server ended at once", f"its last words: {self._last_words()}")
            if time.monotonic() - began > START_TIMEOUT_S:
                raise DemoError(f"the server was not ready in {START_TIMEOUT_S:.0f} s", f"see {self._log}")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, nothing finished."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send_signal(self, number: int) -> None:
        """Send it to the server, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and see to it that it does.

        One that was killed, also while it started, may have left its PostgreSQL running, as a crash would: it is
        started once more, which recovers the database, and then ended properly.
        """
        if self._process is None:
            return
        if self._process.poll():
            with suppress(DemoError):
                self.start()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ready.read_text(encoding="utf-8"))
        return found

    def _last_words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return text[-_LOG_TAIL_CHARS:].splitlines()[-1] if text else "none"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
