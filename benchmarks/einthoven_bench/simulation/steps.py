"""What each kind of step does to a world.

It deliberately waits for nothing: what takes time goes on by itself.

Invariants:
    1. A step that speaks of what is not there, or of a device that is gone, does nothing.
    2. What a step does on a device, its app does: a killed one is started first.
"""

from __future__ import annotations

import asyncio
from functools import singledispatchmethod
from typing import Final

from einthoven import annotating, noting
from einthoven.errors import InputError, StoreError
from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.content import RHYTHMS, comment_text, make_result, note_text
from einthoven_bench.simulation.occurring import Occurred, in_step
from einthoven_bench.simulation.participants import Participant
from einthoven_bench.simulation.processes import Killed
from einthoven_bench.simulation.server import ServerGone
from einthoven_bench.simulation.truth import comment_serials
from einthoven_bench.simulation.world import World
from einthoven_protocol.messages import RowKind, Tombstone
from einthoven_server.errors import RequestRefused

PICKED_FROM: Final = 50
"""Rows that a step picks from: the newest so many."""


class Steps:
    """Does steps.

    Args:
        world: Where.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    @singledispatchmethod
    async def do(self, step: h.Step) -> None:
        """Do it."""
        raise NotImplementedError(type(step).__name__)

    @do.register
    async def _(self, step: h.Append) -> None:
        if (device := self._app(step.device)) is None:
            return
        serials = [self._world.truth.next_serial() for _ in range(step.count)]
        if step.urgent:
            self._world.truth.urgent.add(serials[-1])
        now_ms = device.clock.now_ms()
        device.store.append_results(
            [
                make_result(serial, now_ms + place, urgent=serial in self._world.truth.urgent)
                for place, serial in enumerate(serials)
            ]
        )

    @do.register
    async def _(self, step: h.Say) -> None:
        if (device := self._app(step.device)) is None:
            return
        targets = self._targets(device)
        if not targets:
            return
        alias, epoch, counter = targets[-1 - step.pick % len(targets)]
        serial = self._world.truth.next_serial() if step.fields & 2 else 0
        own = alias == device.alias
        before = device.process.behind.annotations()
        try:
            annotating.annotate(
                device.store,
                counter,
                epoch=epoch,
                device_alias=None if own else alias,
                rhythm=RHYTHMS[step.pick % len(RHYTHMS)] if step.fields & 1 else None,
                comment=comment_text(serial) if serial else None,
                clock=device.clock,
            )
        finally:
            # Also where the process died of it: what it wrote before is there.
            for row in device.process.behind.annotations():
                if serial and serial in comment_serials([row]):
                    shown = [held for held in before if (held.target, held.author) == (row.target, row.author)]
                    self._world.truth.said(device.number, device.life, row, shown)

    @do.register
    async def _(self, step: h.WriteDiary) -> None:
        if (device := self._app(step.device)) is None:
            return
        serial = self._world.truth.next_serial()
        row = noting.add_note(device.store, note_text(serial), clock=device.clock)
        self._world.truth.written_notes[serial] = device.number
        self._world.say("   ", row)

    @do.register
    async def _(self, step: h.TakeBack) -> None:
        if (device := self._app(step.device)) is None:
            return
        if step.words:
            rows = [
                row
                for row in device.store.annotations()
                if row.author in (device.identity.device_id, device.identity.patient_id)
            ]
            if not rows:
                return
            row = rows[step.pick % len(rows)]
            target = row.target
            self._world.truth.took_back_words(row)
            device.store.delete(
                Tombstone(RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, row.author)
            )
            return
        notes = [
            note
            for note in device.store.notes(0, 2**60)
            if note.device_alias in (0, device.alias) and note.author == device.identity.patient_id
        ]
        if notes:
            note = notes[step.pick % len(notes)]
            self._world.truth.took_back_note(note)
            device.store.delete(Tombstone(RowKind.NOTE, note.device_alias, note.epoch, note.counter))

    @do.register
    async def _(self, step: h.Sync) -> None:
        if (device := self._device(step.device)) is not None:
            self._world.start_sync(device, step)

    @do.register
    async def _(self, step: h.KillDevice) -> None:
        if (device := self._device(step.device)) is not None:
            self._world.restart(device)

    @do.register
    async def _(self, step: h.KillServer) -> None:
        self._world.server.kill_at(step.at, step.down_ms)

    @do.register
    async def _(self, step: h.Clinician) -> None:
        await self._world.console.annotate(step.patient, step.pick, step.fields)

    @do.register
    async def _(self, step: h.ConsoleNote) -> None:
        await self._world.console.note(step.patient)

    @do.register
    async def _(self, step: h.ConsoleDelete) -> None:
        await self._world.console.delete(step.patient, step.pick, step.kind)

    @do.register
    async def _(self, step: h.Decide) -> None:
        await self._world.console.decide(step.patient, step.name)

    @do.register
    async def _(self, step: h.BackUp) -> None:
        if (device := self._device(step.device)) is not None:
            device.process.dead = True
            device.disk.back_up()
            self._world.restart(device)

    @do.register
    async def _(self, step: h.Restore) -> None:
        device = self._device(step.device)
        if device is None:
            return
        device.process.dead = True
        if device.disk.restore(noticed=step.noticed, at_ms=device.clock.now_ms()):
            device.life += 1
            device.restored += 1
            self._world.truth.forgot()
            seen = self._world.truth.seen
            seen.add(Occurred.RESTORED_NOTICED if step.noticed else Occurred.RESTORED_UNNOTICED)
            if device.restored > 1:
                seen.add(Occurred.RESTORED_AGAIN)
        self._world.name_again(device)

    @do.register
    async def _(self, step: h.TurnClock) -> None:
        if (device := self._device(step.device)) is not None:
            device.clock.offset_ms = step.offset_ms

    @do.register
    async def _(self, step: h.FillDisk) -> None:
        if (device := self._device(step.device)) is not None:
            device.disk_full = device.process.disk_full = step.full

    @do.register
    async def _(self, step: h.LoseCursor) -> None:
        if (device := self._device(step.device)) is not None and device.disk.lose_cursor():
            self._world.truth.seen.add(Occurred.CURSOR_LOST)

    @do.register
    async def _(self, step: h.EnrolAnew) -> None:
        if (device := self._app(step.device)) is None or device.disk_full:
            return
        self._world.enrol_anew(device, revoke=step.revoke)

    @do.register
    async def _(self, step: h.Destroy) -> None:
        device = self._device(step.device)
        if device is None or sum(not other.destroyed for other in self._world.devices) == 1:
            return
        device.process.dead = True
        device.destroyed = True
        device.disk.close()
        self._world.server.registry.revoke(device.identity.device_id)

    @do.register
    async def _(self, step: h.Upgrade) -> None:
        if step.device < 0:
            self._world.server.old = False
        elif (device := self._device(step.device)) is not None:
            self._world.restart(device)
            device.old_app = False

    @do.register
    async def _(self, step: h.PushNewer) -> None:
        if not self._world.server.old:
            await self._world.console.push_newer(step.patient, step.count)

    @do.register
    async def _(self, step: h.Replicate) -> None:
        self._world.server.replicate()

    @do.register
    async def _(self, step: h.FailOver) -> None:
        kept = self._world.server.fail_over(step.down_ms)
        if kept is not None:
            self._world.truth.failed_over(kept)

    @do.register
    async def _(self, step: h.Collect) -> None:
        await self._world.server.collect()

    def _device(self, number: int) -> Participant | None:
        device = self._world.devices[number]
        return None if device.destroyed else device

    def _app(self, number: int) -> Participant | None:
        """A device whose app runs."""
        device = self._device(number)
        if device is not None and device.process.dead:
            self._world.restart(device)
        return device

    def _targets(self, device: Participant) -> list[tuple[int, int, int]]:
        """Results that the device shows, oldest first: alias, epoch, counter."""
        own = [
            (stored.result.started_at_ms, device.alias, stored.epoch, stored.result.counter)
            for stored in device.store.results_between(0, 2**60)
        ]
        others = [
            (found.row.started_at_ms, found.device_alias, found.epoch, found.row.counter)
            for found in device.store.replicas(0, 2**60)
        ]
        return [place[1:] for place in sorted(own + others)[-PICKED_FROM:]]


async def play(world: World) -> None:
    """Do every step at its time, whatever is still under way, then let that end."""
    steps = Steps(world)
    for number, step in enumerate(world.history.steps):
        if step.after_ms:
            await asyncio.sleep(step.after_ms / 1000)
        world.say("step", number, step)
        world.truth.seen |= in_step(step)
        try:
            await steps.do(step)
        except (Killed, InputError, StoreError, RequestRefused, ServerGone) as error:
            world.say(f"    {type(error).__name__}: {error}")
        await asyncio.sleep(0)
        world.raise_failure()
    await world.settle()
