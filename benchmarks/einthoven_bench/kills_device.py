"""A device under load, to be killed: a process that keeps results, signals, words and notes, and syncs, until told to.

``python -m einthoven_bench.kills_device HOME JOURNAL BOARD DEVICE DEVICES LIFE``. It deliberately catches nothing but
what a device meets in life (no server, a busy one): anything else ends it with a trace, which the harness reports.

Invariants:
    1. What the journal holds was durable before it was written there: ``a N`` result N is in the store, ``s N`` its
       signal is too, ``n N`` note N is; ``k N`` and ``m N`` the server acknowledged result and note N, ``u DIGEST`` it
       keeps that signal. Beside these, ``t N`` is a signal that is about to be kept, ``p OFFSET`` an upload that went
       on from there after it had been cut off, ``f 1`` a request of a repair, ``g N`` one that gives back N results
       that the server acknowledged and does not hold.
    2. No serial is used twice: each life of the process has its own.
    3. The board (``kills_phases``) says what it is doing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np

from einthoven import FileKeyProvider, SqlCipherStore, annotate, sync
from einthoven.clock import SystemClock
from einthoven.errors import InputError, ServerBusy, ServerUnreachable
from einthoven.identity import load_identity
from einthoven.noting import add_note
from einthoven.ports import Answer, Segment
from einthoven.segments import segment_digest
from einthoven.signal_upload import send_signals
from einthoven.signal_uploading import UPLOADS_PATH
from einthoven.sync_repairs import REPAIR_PATH
from einthoven.transport_https import HttpsTransport
from einthoven_bench.kills_phases import Board, Phase
from einthoven_bench.simulation.content import comment_text, make_result, note_text
from einthoven_protocol import codec, repair_codec

DEVICE_SERIALS: Final = 100_000_000
LIFE_SERIALS: Final = 20_000
"""Serials of one life of one device's process."""
SIGNAL_RATE_HZ: Final = 250
SIGNAL_SAMPLES: Final = 30 * SIGNAL_RATE_HZ
_URGENT_EVERY: Final = 5
_READ_BYTES: Final = 64 * 1024 * 1024
"""Of signals that wait, looked at at a time."""
_ROBBED_CHANCE: Final = 0.15
"""Of an exchange's answer, to arrive without some of its rows."""
_PIECE_CHANCE: Final = 0.7
"""Of an upload's body, to be sent in part only."""


def open_store(home: Path) -> SqlCipherStore:
    """The device's store; made if there is none."""
    return SqlCipherStore.open(home / "store.db", FileKeyProvider(home / "store.key", create=True))


def make_signal(serial: int) -> Segment:
    """The signal of a result: half a minute that no other is like, in microvolts."""
    steps = np.random.default_rng(serial).integers(-40, 41, SIGNAL_SAMPLES, dtype=np.int32)
    return Segment(Fraction(SIGNAL_RATE_HZ), steps.cumsum(dtype=np.int32))


class WatchedTransport:
    """The real way to the server; the board says when a request is on it.

    Some answers lose rows on it, and uploads go in pieces.

    Args:
        real: HTTPS.
        life: Whose.
    """

    def __init__(self, real: HttpsTransport, life: Life) -> None:
        self._real = real
        self._life = life
        self._rng = Random(life.serial)  # noqa: S311  # load, not secrets
        self._begun = False

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """See ``Transport.post``."""
        if path == REPAIR_PATH:
            self._life.note("f", [1])
            if given := repair_codec.decode_repair_request(body).given:
                self._life.note("g", [len(given)])
            with self._life.during(Phase.REPAIR):
                return await self._real.post(path, body, headers)
        with self._life.during(Phase.EXCHANGE):
            raw = await self._real.post(path, body, headers)
        return self._robbed(raw) if self._rng.random() < _ROBBED_CHANCE else raw

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        """See ``SignedTransport.request``."""
        if not path.startswith(UPLOADS_PATH):
            with self._life.during(Phase.EXCHANGE):
                return await self._real.request(method, path, body, headers, expected=expected)
        offset, self._begun = headers.get("Upload-Offset", "0"), self._begun or method == "POST"
        if method == "PATCH":
            if self._begun and offset != "0":
                self._life.note("p", [offset])
            self._begun = False
        # As on a network on which a body takes several requests.
        piece = body[: max(1, int(len(body) * self._rng.random()))] if self._rng.random() < _PIECE_CHANCE else body
        with self._life.during(Phase.UPLOAD):
            return await self._real.request(method, path, piece, headers, expected=expected)

    async def close(self) -> None:
        """Release connections."""
        await self._real.close()

    def _robbed(self, raw: bytes) -> bytes:
        """An answer without some of its rows, as a defect would lose them: the digests say so, and a repair follows."""
        answer = codec.decode_response(raw)
        return codec.encode_response(
            msgspec.structs.replace(
                answer,
                results=tuple(row for row in answer.results if self._rng.random() < 0.5),
                annotations=tuple(row for row in answer.annotations if self._rng.random() < 0.5),
                notes=tuple(row for row in answer.notes if self._rng.random() < 0.5),
            )
        )


class Life:
    """One life of a device's process.

    Args:
        home: Where its store lies.
        journal: Where it notes what was durable.
        board: Where it says what it does.
        device: Its number.
        first_serial: From here on.
    """

    def __init__(self, home: Path, journal: Path, board: Board, device: int, first_serial: int) -> None:
        self._board = board
        self._device = device
        board.set(device, Phase.STARTS)
        self._store = open_store(home)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.serial = first_serial
        self._last = first_serial + LIFE_SERIALS
        self._rng = Random(first_serial)  # noqa: S311  # load, not secrets
        self._results: list[int] = []
        self._notes: list[int] = []
        self._transport = self._connected()
        self.ended = False

    def during(self, phase: Phase) -> AbstractContextManager[None]:
        """Say what it does in a block."""
        return self._board.during(self._device, phase)

    def note(self, kind: str, what: Iterable[object]) -> None:
        """Write to the journal."""
        os.write(self._journal, "".join(f"{kind} {one}\n" for one in what).encode("ascii"))

    async def run(self) -> None:
        """Work until ended."""
        try:
            while not self.ended and self.serial + 16 < self._last:
                with self.during(Phase.KEEPS):
                    self._keep_results()
                    self._keep_signals()
                    self._write_words()
                with self.during(Phase.SETTLES):
                    await self._talk()
        finally:
            await self._transport.close()
            self._store.close()
            os.close(self._journal)

    def _keep_results(self) -> None:
        serials = [self._next() for _ in range(self._rng.randint(1, 8))]
        now_ms = SystemClock().now_ms()
        self._store.append_results(
            [make_result(serial, now_ms, urgent=serial % _URGENT_EVERY == 0) for serial in serials]
        )
        self.note("a", serials)
        self._results += serials

    def _keep_signals(self) -> None:
        if self._rng.random() < 0.75:
            return
        serials = [self._next() for _ in range(self._rng.randint(1, 6))]
        now_ms, windows = SystemClock().now_ms(), []
        for serial in serials:
            segment = make_signal(serial)
            result = make_result(serial, now_ms, urgent=False)
            windows.append((replace(result, segment_digest=segment_digest(segment)), segment))
        self.note("t", serials)
        self._store.append_windows(windows)
        self.note("a", serials)
        self.note("s", serials)
        self._results += serials

    def _write_words(self) -> None:
        if self._rng.random() < 0.5:
            serial = self._next()
            add_note(self._store, note_text(serial))
            self.note("n", [serial])
            self._notes.append(serial)
        replicas = self._store.replicas(0, 2**60, limit=50)
        if replicas and self._rng.random() < 0.5:
            found = self._rng.choice(replicas)
            annotate(
                self._store,
                found.row.counter,
                epoch=found.epoch,
                device_alias=found.device_alias,
                comment=comment_text(self._next()),
            )
            return
        state = self._store.sync_state()
        if state.last_counter:
            try:
                annotate(self._store, self._rng.randint(1, state.last_counter), comment=comment_text(self._next()))
            except InputError:
                return

    async def _talk(self) -> None:
        """Sync, and sometimes send signals, as far as there is a server."""
        results, notes = list(self._results), list(self._notes)
        try:
            await sync(self._store, transport=self._transport)
            self.note("k", results)
            self.note("m", notes)
            del self._results[: len(results)], self._notes[: len(notes)]
            if self._rng.random() < 0.4:
                await self._send_signals()
        except (ServerUnreachable, ServerBusy):
            await asyncio.sleep(0.05)
        if self._rng.random() < 0.2:
            # As an app that is opened, syncs and is put away: with a connection of its own.
            await self._transport.close()
            self._transport = self._connected()

    async def _send_signals(self) -> None:
        waited = self._signals_that_wait()
        if not waited:
            return
        try:
            await send_signals(self._store, transport=self._transport)
        finally:
            self.note("u", sorted(digest.hex() for digest in waited - self._signals_that_wait()))

    def _signals_that_wait(self) -> set[bytes]:
        return {one.digest for one in self._store.segments_to_send(limit_bytes=_READ_BYTES)}

    def _connected(self) -> WatchedTransport:
        return WatchedTransport(HttpsTransport(load_identity(self._store)), self)

    def _next(self) -> int:
        self.serial += 1
        return self.serial


def main() -> None:
    """Run one life."""
    home, journal, board = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    device, devices, life = int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
    worker = Life(home, journal, Board(board, devices), device, device * DEVICE_SERIALS + life * LIFE_SERIALS)

    def end(number: int, frame: object) -> None:
        del number, frame
        worker.ended = True

    signal.signal(signal.SIGTERM, end)
    # The nursery holds it back until now: asked to end before it could, it ends after one round of work.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    asyncio.run(worker.run())


if __name__ == "__main__":
    main()
