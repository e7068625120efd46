"""Real kills: a server with its PostgreSQL and several devices, all real and under load, and kill -9 of one at a time.

``python -m einthoven_bench.kills --rounds 500``. Real processes, TLS 1.3, SQLCipher, durable PostgreSQL. Each round
lets them work for a moment, kills a device, the server or PostgreSQL, starts it again and goes on; now and then, and at
the end, everything is compared (``kills_judging``). It deliberately cuts no power: what the kernel was given stays.

Invariants:
    1. Only processes that it started, or that its server did, are killed, each by its id.
    2. Whatever happens, nothing is left running when it ends.

Exit status: 0 nothing was lost, 1 something was, 2-3 as in ``einthoven_bench.errors``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from einthoven.enrolling import enroll
from einthoven.tls import pinned_context
from einthoven_bench.errors import BenchError, MeasurementFailed
from einthoven_bench.kills_device import open_store
from einthoven_bench.kills_judging import Toll, judge
from einthoven_demo.server_process import ServerProcess

PATIENTS: Final = 2
DEVICES_A_PATIENT: Final = 2
COMPARE_EVERY: Final = 50
"""Rounds between two comparisons."""
WORK_MAX_S: Final = 0.6
"""Longest that a round works before something is killed."""
END_TIMEOUT_S: Final = 90.0
VICTIMS: Final = ("device", "device", "server", "postgres")


class Arena:
    """A server and the devices of some patients.

    Args:
        folder: An empty one.
        process: The server, running.
    """

    def __init__(self, folder: Path, process: ServerProcess) -> None:
        self._folder = folder
        self._process = process
        self._lives = 0
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self.homes: list[Path] = []
        self.witnesses: list[Path] = []
        self._enrol()

    @property
    def devices(self) -> int:
        """How many devices work."""
        return len(self.homes)

    def journal(self, number: int) -> Path:
        """Where a device notes what was durable."""
        return self._folder / f"journal-{number}"

    def start_device(self, number: int) -> None:
        """Start a device's process."""
        self._lives += 1
        command = [sys.executable, "-m", "einthoven_bench.kills_device", str(self.homes[number])]
        command += [str(self.journal(number)), str(number), str(self._lives)]
        with (self._folder / f"device-{number}.log").open("ab") as log:
            self._workers[number] = subprocess.Popen(  # noqa: S603  # our own module with our own arguments
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill_device(self, number: int) -> None:
        """kill -9 of a device's process, and start it again.

        Raises:
            MeasurementFailed: It had ended by itself.
        """
        self._check(number)
        self._workers[number].kill()
        self._workers[number].wait()
        self.start_device(number)

    def kill_server(self) -> None:
        """kill -9 of the server, which leaves its PostgreSQL behind, and start it again."""
        self._process.kill()
        self._process.start()

    def kill_postgres(self) -> None:
        """kill -9 of the server's PostgreSQL, then of the server that lost it, and start both again."""
        pid_file = self._folder / "server" / "data" / "postgres" / "postmaster.pid"
        os.kill(int(pid_file.read_text(encoding="ascii").splitlines()[0]), signal.SIGKILL)
        time.sleep(0.2)
        self.kill_server()

    def end_devices(self) -> None:
        """Let every device's process end by itself.

        Raises:
            MeasurementFailed: One failed.
        """
        for number in list(self._workers):
            self._check(number)
            self._workers[number].terminate()
        for number, worker in list(self._workers.items()):
            if worker.wait(END_TIMEOUT_S) != 0:
                raise self._failed(number)
        self._workers.clear()

    def abandon(self) -> None:
        """Leave nothing running."""
        for worker in self._workers.values():
            worker.kill()
            worker.wait()

    def compare(self) -> Toll:
        """Compare everything; no device may be running."""
        tolls = []
        for patient in range(PATIENTS):
            numbers = [number for number in range(self.devices) if number % PATIENTS == patient]
            homes, journals = [self.homes[number] for number in numbers], [self.journal(number) for number in numbers]
            tolls.append(judge(homes, journals, self.witnesses[patient]))
        return Toll(**{name.name: sum(getattr(toll, name.name) for toll in tolls) for name in fields(Toll)})

    def _check(self, number: int) -> None:
        if self._workers[number].poll() is not None:
            raise self._failed(number)

    def _failed(self, number: int) -> MeasurementFailed:
        log = (self._folder / f"device-{number}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return MeasurementFailed(f"device {number} ended by itself: {log[-1] if log else 'no word'}", "see its log", 1)

    def _enrol(self) -> None:
        patients = [str(self._call("/v1/patients")["patient_id"]) for _ in range(PATIENTS)]
        for number in range(PATIENTS * DEVICES_A_PATIENT):
            self.homes.append(self._enrolled(f"device-{number}", patients[number % PATIENTS]))
        self.witnesses = [self._enrolled(f"witness-{number}", patient) for number, patient in enumerate(patients)]

    def _enrolled(self, name: str, patient_id: str) -> Path:
        home = self._folder / name
        home.mkdir()
        code = str(self._call(f"/v1/patients/{patient_id}/enrolment-codes")["code"])
        with open_store(home) as store:
            asyncio.run(enroll(store, code))
        return home

    def _call(self, path: str) -> dict[str, Any]:
        return asyncio.run(self._called(path))

    async def _called(self, path: str) -> dict[str, Any]:
        connector = aiohttp.TCPConnector(ssl=pinned_context(self._process.ca_file.read_text(encoding="ascii")))
        headers = {"Authorization": f"Bearer {self._process.admin_token}"}
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as client,
            client.post(self._process.url + path, json={}) as answer,
        ):
            if answer.status not in {200, 201}:
                raise MeasurementFailed(f"the server answered {answer.status} to {path}", "see its log", 1)
            found: dict[str, Any] = await answer.json()
            return found


@contextmanager
def running_arena(parent: Path | None = None) -> Iterator[Arena]:
    """A server and enrolled devices, none of them at work yet."""
    with tempfile.TemporaryDirectory(dir=parent, prefix="einthoven-kills-") as made:
        folder = Path(made)
        with ServerProcess(folder / "server" / "data") as process:
            process.start()
            arena = Arena(folder, process)
            try:
                yield arena
            finally:
                arena.abandon()


def run(
    rounds: int, seed: int, parent: Path | None = None, compare_every: int = COMPARE_EVERY
) -> tuple[Toll, dict[str, int]]:
    """Kill something so many times; return what that did, and what was killed how often.

    Raises:
        MeasurementFailed: A device or the server ended by itself.
        EinthovenError: A device can't sync though nothing is in its way.
    """
    rng = Random(seed)  # noqa: S311  # which process dies when
    killed = dict.fromkeys(VICTIMS, 0)
    with running_arena(parent) as arena:
        toll = Toll()
        for first in range(0, rounds, compare_every):
            for number in range(arena.devices):
                arena.start_device(number)
            for _ in range(min(compare_every, rounds - first)):
                time.sleep(rng.uniform(0.05, WORK_MAX_S))
                victim = rng.choice(VICTIMS)
                killed[victim] += 1
                if victim == "device":
                    arena.kill_device(rng.randrange(arena.devices))
                elif victim == "server":
                    arena.kill_server()
                else:
                    arena.kill_postgres()
            arena.end_devices()
            toll = arena.compare()
            sys.stderr.write(f"{min(first + compare_every, rounds)} of {rounds} rounds: {toll}\n")
            if not toll.none:
                break
    return toll, killed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m einthoven_bench.kills", description="kill -9 under load.")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="decides which process is killed, and when")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        toll, killed = run(options.rounds, options.seed)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    document = {"rounds": sum(killed.values()), "killed": killed, **asdict(toll)}
    document["seconds"] = round(time.monotonic() - began, 1)
    sys.stdout.write(json.dumps(document) + "\n" if options.json else f"{document}\n")
    return 0 if toll.none else 1


if __name__ == "__main__":
    sys.exit(main())
