"""The end of a history: all faults stop, and everyone syncs until nothing changes any more.

Where old versions are left, every other history first upgrades them all.

It deliberately judges only that it comes to an end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from einthoven.ports import SyncState
from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.participants import Participant
from einthoven_bench.simulation.world import Failed, World
from einthoven_protocol.messages import Cursor

MAX_ROUNDS: Final = 12
"""Rounds in which everyone syncs once; what one learns late makes one more for the others."""


async def quiesce(world: World) -> None:
    """Let everything settle.

    Raises:
        Failed: It does not, or an app can't sync though nothing is in its way.
    """
    world.server.heal()
    upgrade = world.history.seed % 2 == 0
    world.server.old = world.server.old and not upgrade
    for device in _alive(world):
        device.old_app = device.old_app and not upgrade
        device.clock.offset_ms = 0
        device.disk_full = False
        world.restart(device)
        if world.server.registry.devices[device.identity.device_id].revoked:
            world.enrol_anew(device, revoke=False)
    before: tuple[Cursor, list[SyncState]] | None = None
    for number in range(MAX_ROUNDS):
        for device in _alive(world):
            await _sync(world, device, number)
        now = (await world.server.position(), [_standing(device) for device in _alive(world)])
        if now == before:
            world.say(f"at rest after {number} rounds")
            return
        before = now
    raise Failed(f"no rest after {MAX_ROUNDS} rounds in which everyone synced")


async def _sync(world: World, device: Participant, number: int) -> None:
    world.say(f"quiescing: device {device.number}")
    task = world.start_sync(device, h.Sync(device=device.number, seed=world.history.seed + number))
    if task is not None:
        await task
    world.raise_failure()
    if device.last_error is not None:
        raise Failed(f"device {device.number} can't sync though nothing is in its way: {device.last_error!r}")


def _standing(device: Participant) -> SyncState:
    return replace(device.store.sync_state(), last_exchange_ms=None)


def _alive(world: World) -> list[Participant]:
    return [device for device in world.devices if not device.destroyed]
