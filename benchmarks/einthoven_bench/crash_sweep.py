"""One workload, broken at one point after another, and judged after each.

It deliberately knows no particular workload and prints nothing.

Invariants:
    1. A point counts only if its fault came about: its call was reached, its state was laid out.
    2. The same workload, fault and number is the same point.
"""

from __future__ import annotations

import copy
import errno
import os
import pickle  # our own values, from our own child
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_slots import read_slots
from einthoven_bench.crash_arena import Arena, Picture
from einthoven_bench.crash_disk_states import DiskState, disk_states
from einthoven_bench.crash_judging import Judge
from einthoven_bench.crash_recording import read_changes
from einthoven_bench.crash_script import Hands, Told, play, read_told
from einthoven_bench.crash_server import HonestServer
from einthoven_bench.crash_shim import CALLS, CHANGES, TAKES_ROOM, CallKind, Mode, Shim
from einthoven_bench.crash_steps import DEVICE_ALIAS, SYNC_KEY
from einthoven_bench.crash_verifying import Lost, Observation, Verdict, observe
from einthoven_bench.crash_workloads import Workload

STORE_NAME: Final = "ecg.db"
KEY_NAME: Final = "device/wrapping.key"


class FaultKind(Enum):
    """What is done to a process or its disk."""

    KILL = "kill -9"
    TEAR = "torn write, then kill -9"
    EIO_ONCE = "EIO once"
    EIO_ON = "EIO from there on"
    ENOSPC_ONCE = "ENOSPC once"
    FULL = "disk full from there on"
    POWER_CUT = "power cut: unsynced writes lost, torn, reordered"


@dataclass(frozen=True)
class Fault:
    """One point, but for power cuts.

    Attributes:
        kind: What is done.
        at: Number of the call, from 1, among those that this kind counts.
        cut_permille: Of a torn write, how much is done, in 1/1000.
        to_sector: Whether it is torn at a multiple of 512 bytes.
    """

    kind: FaultKind
    at: int
    cut_permille: int = 0
    to_sector: bool = False


@dataclass(frozen=True)
class Point:
    """A point that came about, and what was found.

    Attributes:
        workload: Its name.
        kind: What was done.
        at: Where: number of the call, or of the change.
        what: The call, or which parts of what was not synced were there.
        verdict: What was found afterwards.
    """

    workload: str
    kind: FaultKind
    at: int
    what: str
    verdict: Verdict


_MODES: Final = {
    FaultKind.KILL: (Mode.KILL, CHANGES, 0),
    FaultKind.TEAR: (Mode.TEAR, frozenset({CallKind.WRITE}), 0),
    FaultKind.EIO_ONCE: (Mode.FAIL_ONCE, CALLS, errno.EIO),
    FaultKind.EIO_ON: (Mode.FAIL_ON, CALLS, errno.EIO),
    FaultKind.ENOSPC_ONCE: (Mode.FAIL_ONCE, TAKES_ROOM, errno.ENOSPC),
    FaultKind.FULL: (Mode.FULL, TAKES_ROOM, errno.ENOSPC),
}
TEARS: Final = ((1, False), (400, True), (500, False), (900, True), (999, False))
"""Where writes are torn: 1/1000 of their bytes, to a sector or not."""
TRIES_UNDER_FAULT: Final = {FaultKind.EIO_ON: 2, FaultKind.FULL: 2}


class Sweep:
    """One workload in one folder."""

    def __init__(self, workload: Workload, arena: Arena, shim: Shim) -> None:
        """Make what the workload begins with, and learn what it does when nothing fails."""
        self._workload, self._arena, self._shim = workload, arena, shim
        self._path = arena.folder / STORE_NAME
        shim.watch(arena.folder)
        arena.clear()
        hands = self._hands(create=True)
        if workload.leaves_open:
            arena.play_apart(lambda tell: workload.prepare(hands))
        else:
            workload.prepare(hands)
        self._server = hands.server
        self._before = arena.picture()
        key_before = self._key()
        self._judge = Judge(workload, self._path, self._states_after_each_step(), key_before, self._hands_after)

    def counts(self) -> dict[FaultKind, int]:
        """Calls that each kind of fault can be put at."""
        self._lay_out()
        told, end = self._played(FaultKind.KILL, lambda: self._shim.arm(Mode.COUNT, CALLS))
        if told.broke or end != "ended":
            raise Lost(f"{self._workload.name} fails without any fault: {told.broke or end}")
        return {kind: sum(call in kinds for call in told.calls) for kind, (_, kinds, _) in _MODES.items()}

    def faults(self) -> list[Fault]:
        """Every point but for power cuts."""
        return [
            Fault(kind, at, *tear)
            for kind, count in self.counts().items()
            for at in range(1, count + 1)
            for tear in (TEARS if kind is FaultKind.TEAR else ((0, False),))
        ]

    def fault(self, fault: Fault) -> Point | None:
        """Break it at one point; ``None`` if that was not reached."""
        mode, kinds, error = _MODES[fault.kind]
        self._lay_out()
        told, end = self._played(
            fault.kind,
            lambda: self._shim.arm(
                mode, kinds, at=fault.at, error=error, cut_permille=fault.cut_permille, to_sector=fault.to_sector
            ),
        )
        killed = fault.kind in (FaultKind.KILL, FaultKind.TEAR)
        if end == "ended" and not told.fired and not told.broke:
            return None
        what = f"after {told.done} steps"
        if told.broke or end != ("killed" if killed else "ended"):
            problem = told.broke or f"the process {end}"
            return Point(self._workload.name, fault.kind, fault.at, what, Verdict(problem, "?", False, None))
        return Point(self._workload.name, fault.kind, fault.at, what, self._judge.judge(told, killed=killed))

    def power_cuts(self, wanted: int, seed: int) -> list[DiskState]:
        """States that a power cut may leave, at most as many as wanted."""
        before, recording, inodes = self.recorded()
        return list(disk_states(before, str(self._arena.folder), inodes, read_changes(recording), wanted, seed))

    def recorded(self) -> tuple[Picture, bytes, dict[int, str]]:
        """What is there before, all changes that the script makes to it, and the folders' inodes."""
        self._lay_out()
        folder = self._arena.folder
        inodes = {folder.stat().st_ino: ""}
        inodes |= {path.stat().st_ino: str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()}
        recording = self._arena.kept / "recording"
        descriptor = os.open(recording, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:

            def arm() -> None:
                self._shim.record_to(descriptor, self._arena.kept)
                self._shim.arm(Mode.COUNT, CALLS)

            told, end = self._played(FaultKind.POWER_CUT, arm)
        finally:
            os.close(descriptor)
        if told.broke or end != "ended":
            raise Lost(f"{self._workload.name} fails without any fault: {told.broke or end}")
        return self._before, recording.read_bytes(), inodes

    def power_cut(self, state: DiskState) -> Point:
        """Lay out what a power cut left and judge it."""
        self._arena.lay_out(state.picture)
        told = Told(done=int(state.marks or 0))
        what = f"after {told.done} steps, names {state.names.value}, contents {state.contents.value}"
        return Point(self._workload.name, FaultKind.POWER_CUT, state.at, what, self._judge.judge(told, killed=True))

    def _lay_out(self) -> None:
        self._arena.lay_out(self._before)

    def _hands(self, *, create: bool, server: HonestServer | None = None) -> Hands:
        key_path = self._arena.folder / KEY_NAME
        return Hands(
            path=self._path,
            key_path=key_path,
            key_provider=FileKeyProvider(key_path, create=create),
            open_store=lambda path, provider: self._workload.opener(path, provider, create),
            server=server or HonestServer(SYNC_KEY, DEVICE_ALIAS),
        )

    def _hands_after(self, told: Told) -> Hands:
        """What a user has after a crash; who saw the store being made does not make another."""
        create = self._workload.makes_store and told.done == 0
        return self._hands(create=create, server=told.server or self._server)

    def _played(self, kind: FaultKind, arm: Callable[[], None]) -> tuple[Told, str]:
        """Play the whole script apart, with something armed."""
        hands = self._hands(create=self._workload.makes_store, server=self._server)

        def apart(tell: Callable[[bytes], None]) -> None:
            arm()
            play(
                self._workload.steps,
                hands,
                tell,
                lift=self._shim.lift,
                mark=self._shim.mark,
                tries_under_fault=TRIES_UNDER_FAULT.get(kind, 1),
            )
            calls = bytes(self._shim.kind_at(number) for number in range(1, self._shim.counted() + 1))
            tell(b"C" + bytes([self._shim.fired()]) + calls)

        lines, end = self._arena.play_apart(apart)
        return read_told(lines), end

    def _states_after_each_step(self) -> list[Observation | None]:
        """What the store shows at first and after each step; ``None`` where it is gone."""
        self._lay_out()
        workload = self._workload
        hands = self._hands(create=workload.makes_store, server=copy.deepcopy(self._server))

        def look(tell: Callable[[bytes], None], number: int) -> None:
            if workload.ends_store and number > 0 and not self._path.exists():
                tell(b"O" + pickle.dumps(None))
                return
            was_open = hands.store is not None
            tell(b"O" + pickle.dumps(observe(hands.opened())))
            if not was_open:
                hands.closed()

        def apart(tell: Callable[[bytes], None]) -> None:
            look(tell, 0)
            for number, step in enumerate(workload.steps, 1):
                play((step,), hands, tell, lift=lambda: None, mark=lambda _: None, tries_under_fault=1)
                look(tell, number)
            hands.closed()

        lines, end = self._arena.play_apart(apart)
        told = read_told(lines)
        states = [pickle.loads(line[1:]) for line in lines if line[:1] == b"O"]  # noqa: S301 - from our own child
        if told.broke or told.failed or end != "ended" or len(states) != len(workload.steps) + 1:
            raise Lost(f"{workload.name} fails without any fault: {told.broke or told.failed or end}")
        return states

    def _key(self) -> bytes | None:
        """The data key that opens what there is before; ``None`` if there is no store, or one of version 1."""
        slots = read_slots(self._path)
        if slots is None:
            return None
        return self._hands(create=False).key_provider.unwrap(slots.slots[0].wrapped, slots.store_id)
