"""A server with its PostgreSQL and several devices, all real processes, and the ways to kill them.

It deliberately decides nothing: ``kills_plan`` says what dies when, ``kills_judging`` whether anything was lost.

Invariants:
    1. Only processes that it started, or that its server did, are killed, each by its id.
    2. Whatever happens, nothing is left running when its context ends.
    3. A device's files are copied and put back only while its process is dead.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.enrolling import enroll
from einthoven.tls import pinned_context
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.kills_device import open_store
from einthoven_bench.kills_judging import SignalDesk, Toll, judge
from einthoven_bench.kills_nursery import DEVICE, SERVER, Newborn, Nursery
from einthoven_bench.kills_phases import Board, Phase
from einthoven_demo.server_process import ServerProcess

PATIENTS: Final = 2
DEVICES_A_PATIENT: Final = 2
END_TIMEOUT_S: Final = 90.0
SUSPECT: Final = "suspect"
"""A file in an arena's folder in which something was lost, doubled, or different."""
_ANCHOR: Final = "store.db.anchor"
_LOOK_S: Final = 0.0005
"""Between two looks at the board."""
_BACKEND_WORD: Final = b"postgres: einthoven "
"""How the command line of a backend begins that works for the server."""


class Arena:
    """A server and the devices of some patients.

    Args:
        folder: An empty one.
        process: The server, running.
        nursery: Starts devices.
    """

    def __init__(self, folder: Path, process: ServerProcess, nursery: Nursery) -> None:
        self._folder = folder
        self._process = process
        self._authorization = Authorization(process.url, process.admin)
        self._nursery = nursery
        self._lives = 0
        self._workers: dict[int, Newborn] = {}
        self._backups: dict[int, int] = {}
        self.homes: list[Path] = []
        self.witnesses: list[Path] = []
        patients = self._enrol()
        self.board = Board(self.board_file, self.devices)
        clinician = Account()
        made = self._call("/v1/principals", {"role": "clinician", "jwks": clinician.public_jwks()})
        for patient in patients:
            self._call(f"/v1/patients/{patient}/care-team/{made['principal_id']}", method="PUT")
        self._desk = SignalDesk(process, clinician.named(str(made["principal_id"])))

    @property
    def devices(self) -> int:
        """How many devices work."""
        return len(self.homes)

    @property
    def backed_up(self) -> tuple[int, ...]:
        """Devices that have a backup."""
        return tuple(sorted(self._backups))

    @property
    def board_file(self) -> Path:
        """The board's file."""
        return self._folder / "board"

    def journal(self, number: int) -> Path:
        """Where a device notes what was durable."""
        return self._folder / f"journal-{number}"

    def start_device(self, number: int) -> None:
        """Start a device's process."""
        self._lives += 1
        arguments = [str(self.homes[number]), str(self.journal(number)), str(self.board_file)]
        arguments += [str(number), str(self.devices), str(self._lives)]
        self.board.set(number, Phase.STARTS)
        self._workers[number] = self._nursery.start(DEVICE, arguments, self._folder / f"device-{number}.log")

    def kill_devices(self, numbers: Iterable[int]) -> None:
        """kill -9 of devices' processes.

        Raises:
            MeasurementFailed: One had ended by itself.
        """
        killed = tuple(numbers)
        for number in killed:
            self._check(number)
            self._workers[number].kill()
        for number in killed:
            self._workers[number].wait()

    def back_up(self, number: int) -> None:
        """Keep a dead device's files, and how far its journal is."""
        backup = self._backup(number)
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self.homes[number], backup)
        journal = self.journal(number)
        self._backups[number] = journal.stat().st_size if journal.exists() else 0

    def restore(self, number: int) -> None:
        """Put a dead device's files back, and say so in its journal: what it kept since is gone with it."""
        home = self.homes[number]
        for file in home.iterdir():
            if file.name != _ANCHOR:
                file.unlink()
        for file in self._backup(number).iterdir():
            if file.name != _ANCHOR:
                shutil.copy2(file, home / file.name)
        with self.journal(number).open("a", encoding="ascii") as journal:
            journal.write(f"r {self._backups[number]}\n")

    def kill_server(self) -> None:
        """kill -9 of the server, which leaves its PostgreSQL behind."""
        self._process.kill()

    def start_server(self) -> None:
        """Start the server again; it ends what is left of its PostgreSQL and starts that.

        Raises:
            DemoError: It can't start.
        """
        self._process.start()

    def start_and_kill_server(self, after_s: float) -> None:
        """Start the server, and kill -9 it so soon after, ready or not."""
        self._process.launch()
        time.sleep(after_s)
        self._process.kill()

    def kill_postgres(self) -> None:
        """kill -9 of the server's PostgreSQL."""
        os.kill(self._postmaster(), signal.SIGKILL)

    def kill_backend(self, rng: Random) -> None:
        """kill -9 of one of the backends that work for the server, if there is one."""
        backends = _children(self._postmaster())
        working = [pid for pid in backends if _command(pid).startswith(_BACKEND_WORD)]
        if working:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(working), signal.SIGKILL)

    def stand_still(self, rng: Random, hold_s: float) -> None:
        """Stop a device, the server, or PostgreSQL with all its backends, and have it go on after so many seconds."""
        signalled = rng.choice(
            (self._workers[rng.randrange(self.devices)].send_signal, self._process.send_signal, None)
        )
        pids = [] if signalled is not None else [self._postmaster(), *_children(self._postmaster())]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            if signalled is not None:
                signalled(number)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number is signal.SIGSTOP:
                time.sleep(hold_s)

    def await_phase(self, numbers: Sequence[int], phase: Phase, timeout_s: float) -> int | None:
        """Wait until one of the devices is in a phase; return which, ``None`` if none came to it."""
        stop_s = time.monotonic() + timeout_s
        while time.monotonic() < stop_s:
            for number in numbers:
                if self.board[number] is phase:
                    return number
            time.sleep(_LOOK_S)
        return None

    def end_devices(self) -> None:
        """Let every device's process end by itself.

        Raises:
            MeasurementFailed: One failed.
        """
        for number in list(self._workers):
            self._check(number)
            self._workers[number].send_signal(signal.SIGTERM)
        for number, worker in list(self._workers.items()):
            if worker.wait(END_TIMEOUT_S) != 0:
                raise self._failed(number)
        self._workers.clear()

    def abandon(self) -> None:
        """Leave no device running."""
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.wait()
        self.board.close()

    def compare(self) -> Toll:
        """Compare everything; no device may be running."""
        tolls = []
        for patient in range(PATIENTS):
            numbers = [number for number in range(self.devices) if number % PATIENTS == patient]
            homes, journals = [self.homes[number] for number in numbers], [self.journal(number) for number in numbers]
            tolls.append(judge(homes, journals, self.witnesses[patient], self._desk))
        toll = Toll(**{name.name: sum(getattr(toll, name.name) for toll in tolls) for name in fields(Toll)})
        if not toll.none:
            (self._folder / SUSPECT).touch()
        return toll

    def _check(self, number: int) -> None:
        if self._workers[number].poll() is not None:
            raise self._failed(number)

    def _failed(self, number: int) -> MeasurementFailed:
        log = (self._folder / f"device-{number}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return MeasurementFailed(
            f"device {number} ended by itself: {log[-1] if log else 'no word'}", "run it with --keep for its log", 1
        )

    def _backup(self, number: int) -> Path:
        return self._folder / f"backup-{number}"

    def _postmaster(self) -> int:
        pid_file = self._folder / "server" / "data" / "postgres" / "postmaster.pid"
        return int(pid_file.read_text(encoding="ascii").splitlines()[0])

    def _enrol(self) -> list[str]:
        """Enrol the devices; return their patients."""
        patients = [str(self._call("/v1/patients")["patient_id"]) for _ in range(PATIENTS)]
        for number in range(PATIENTS * DEVICES_A_PATIENT):
            self.homes.append(self._enrolled(f"device-{number}", patients[number % PATIENTS]))
        self.witnesses = [self._enrolled(f"witness-{number}", patient) for number, patient in enumerate(patients)]
        return patients

    def _enrolled(self, name: str, patient_id: str) -> Path:
        home = self._folder / name
        home.mkdir()
        code = str(self._call(f"/v1/patients/{patient_id}/enrolment-codes")["code"])
        with open_store(home) as store:
            asyncio.run(enroll(store, code))
        return home

    def _call(self, path: str, body: object = None, *, method: str = "POST") -> dict[str, Any]:
        return asyncio.run(self._called(method, path, body or {}))

    async def _called(self, method: str, path: str, body: object) -> dict[str, Any]:
        connector = aiohttp.TCPConnector(ssl=pinned_context(self._process.ca_file.read_text(encoding="ascii")))
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.request(
                method,
                self._process.url + path,
                json=body,
                headers=await self._authorization.headers(client, method, path),
            ) as answer,
        ):
            if answer.status not in {200, 201}:
                raise MeasurementFailed(f"the server answered {answer.status} to {path}", "see its log", 1)
            found: dict[str, Any] = await answer.json()
            return found


@contextmanager
def running_arena(keep: Path | None = None) -> Iterator[Arena]:
    """A server and enrolled devices, none of them at work yet.

    Args:
        keep: Where its folder stays if something fails, or is found that should not be; nowhere if not given.
    """
    with _folder(keep) as folder, Nursery() as nursery:

        def spawn(arguments: Sequence[str], log: Path) -> Newborn:
            return nursery.start(SERVER, arguments, log)

        with ServerProcess(folder / "server" / "data", spawn) as process:
            process.start()
            arena = Arena(folder, process, nursery)
            try:
                yield arena
            finally:
                arena.abandon()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=keep, prefix="einthoven-kills-"))
    stays = keep is not None
    try:
        yield folder
        stays = stays and (folder / SUSPECT).exists()
    finally:
        if not stays:
            shutil.rmtree(folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
