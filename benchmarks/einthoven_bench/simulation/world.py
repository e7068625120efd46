"""Where a history is played: devices, their processes, the server and the network between them, on virtual time.

It deliberately judges nothing (``judging``) but what no app may ever do: fail in a way that it does not name.

Invariants:
    1. An app syncs once at a time; a step that asks for another while one runs does nothing.
    2. Nothing but ``EinthovenError`` and a kill ends a sync; anything else fails the history, and so does
       ``SyncError``: this server tells the truth.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

from einthoven import syncing
from einthoven.errors import StoreError, SyncError, TransportError
from einthoven.identity import find_identity, save_identity
from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.console import Console
from einthoven_bench.simulation.devices import CipherDisk, MemoryDisk
from einthoven_bench.simulation.network import SimulatedTransport
from einthoven_bench.simulation.occurring import Occurred, in_setup
from einthoven_bench.simulation.participants import Participant
from einthoven_bench.simulation.planting import NOTHING_PLANTED, Planted
from einthoven_bench.simulation.processes import Killed, Process
from einthoven_bench.simulation.server import SimulatedServer
from einthoven_bench.simulation.truth import Truth
from einthoven_bench.simulation.virtual_time import DeviceClock, VirtualLoop
from einthoven_protocol.limits import SESSION_BYTES


class Failed(Exception):
    """The history showed a defect; the text says which."""


class World:
    """Everything that a history needs.

    Args:
        history: What is to happen.
        loop: Virtual time.
        folder: Where encrypted stores lie.
        planted: A bug that is to be found.
        trace: Told what happens, line by line; ``None`` for nobody.
    """

    def __init__(
        self,
        history: h.History,
        loop: VirtualLoop,
        folder: Path,
        planted: Planted = NOTHING_PLANTED,
        trace: list[str] | None = None,
    ) -> None:
        self.history = history
        self.loop = loop
        self.truth = Truth(seen=in_setup(history))
        self.planted = planted
        self._folder = folder
        self._trace = trace
        self._tasks: set[asyncio.Task[Any]] = set()
        self.server = SimulatedServer(
            loop,
            history.seed,
            old=history.old_server,
            signed_time=history.signed_time,
            push_max=history.push_max,
            page_rows=history.page_rows,
            wrap=planted.server,
            seen=self.truth.seen,
        )
        self.devices = [self._new_device(number, setup) for number, setup in enumerate(history.devices)]
        self.console = Console(self.server, self.truth)
        self.syncs = 0
        self._failure: BaseException | None = None

    # ---- play ----

    async def settle(self) -> None:
        """Let what is under way end."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.raise_failure()

    async def end(self) -> None:
        """Stop the server, close the stores."""
        for task in self._tasks:
            task.cancel()
        await self.server.stop()
        for device in self.devices:
            device.disk.close()

    def raise_failure(self) -> None:
        """Fail, if something that went on by itself did."""
        if self._failure is not None:
            raise self._failure

    def say(self, *parts: object) -> None:
        """Put a line on the trace."""
        if self._trace is not None:
            self._trace.append(f"{self.loop.time():14.3f} {' '.join(map(str, parts))}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start what goes on by itself; a failure of it fails the history."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is None:
            self._failure = error

    # ---- devices ----

    def _new_device(self, number: int, setup: h.DeviceSetup) -> Participant:
        rng = Random(f"einthoven device {self.history.seed} {number}")  # noqa: S311
        clock = DeviceClock(self.loop)
        disk = CipherDisk(self._folder / str(number), clock, rng) if setup.encrypted else MemoryDisk(clock, rng)
        identity, sync_key = self.server.registry.enrol(setup.patient)
        store = disk.open()
        save_identity(store, identity, sync_key)
        return Participant(
            number=number,
            patient=setup.patient,
            clock=clock,
            disk=disk,
            rng=rng,
            old_app=setup.old_app,
            identity=identity,
            process=Process(self.planted.device(store)),
        )

    def restart(self, device: Participant) -> Process:
        """Whatever ran on a device is no more, and its app starts again."""
        device.process.dead = True
        store = self.planted.device(device.disk.open())
        process = device.process = Process(store)
        process.disk_full = device.disk_full
        return process

    def start_sync(self, device: Participant, step: h.Sync) -> asyncio.Task[None] | None:
        """Have an app sync; ``None`` if it does already."""
        if device.busy or device.destroyed:
            return None
        if device.process.dead:
            self.restart(device)
        device.process.arm(step.dies_at, step.fills_at)
        device.syncing = self.spawn(self._sync(device, device.process, step))
        return device.syncing

    async def _sync(self, device: Participant, process: Process, step: h.Sync) -> None:
        rng = Random(f"einthoven sync {step.seed}")  # noqa: S311
        transport = SimulatedTransport(
            self.server,
            process,
            device.identity,
            device.clock,
            step.faults,
            rng,
            self.spawn,
            old_app=device.old_app,
            restored=device.restored,
            truth=self.truth,
        )
        process.saw = transport.saw
        self.syncs += 1
        try:
            report = await syncing.sync(
                process.store,
                transport=transport,
                clock=device.clock,
                new_session=lambda: rng.randbytes(SESSION_BYTES),
            )
        except (Killed, TransportError, StoreError) as error:
            self._note_end(error)
            self.say(f"    sync of {device.number} ended: {type(error).__name__}: {error}")
            device.last_error = error
        except SyncError as error:
            raise Failed(f"device {device.number}: {error} ({error.__cause__})") from error
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise Failed(f"device {device.number}: {type(error).__name__} at {where.name}: {error}") from error
        else:
            device.last_error = None
            if report.forked:
                self.truth.seen.add(Occurred.NEW_EPOCH)
            self.say("    sync of", device.number, "done:", report)
        finally:
            process.arm(0, 0)

    def _note_end(self, error: BaseException) -> None:
        if isinstance(error, Killed):
            self.truth.seen.add(Occurred.KILLED_IN_SYNC)
        elif isinstance(error, StoreError):
            self.truth.seen.add(Occurred.FULL_IN_SYNC)

    def name_again(self, device: Participant) -> None:
        """The app starts, and is who its files say it is."""
        process = self.restart(device)
        identity = find_identity(process.store)
        if identity is None:
            raise Failed(f"device {device.number}: its enrolment is gone")
        device.identity = identity

    def enrol_anew(self, device: Participant, *, revoke: bool) -> None:
        """Another name on the same server, for the same patient."""
        self.restart(device)
        former = device.identity
        identity, sync_key = self.server.registry.enrol(device.patient)
        save_identity(device.store, identity, sync_key)
        device.former_aliases.add(former.device_alias)
        device.identity = identity
        device.life += 1
        self.truth.forgot()
        if revoke:
            self.server.registry.revoke(former.device_id)
