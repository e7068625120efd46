"""Keeps a store's anchor up with its file while the store is open.

After each commit the record is written without waiting for the disk: a killed process leaves it one commit behind at
most, and a file that is ahead of its anchor goes on. Before rows leave the device it is made durable: what a server was
given can't be turned back unnoticed, not even by a power cut.

It deliberately decides nothing (``rollback``) and reads no file.

Invariants:
    1. ``committed``, ``moved`` and ``close`` never raise: a commit that is durable is not reported as failed because
       its anchor is not. ``AnchorFailed`` is reported once, and again only after a write that succeeded.
    2. After ``barrier`` the anchor holds, durably, the last commit that was reported.
    3. Records are written in the order of their commits, from whatever thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from einthoven.errors import StoreError, StoreIOError
from einthoven.ports import Anchor
from einthoven.rollback import AnchorRecord, encode_record
from einthoven.store_events import AnchorFailed, StoreEvent


class Continuity:
    """The anchor of one open store."""

    def __init__(
        self, anchor: Anchor, record: AnchorRecord, integrity_key: bytes, report: Callable[[StoreEvent], None]
    ) -> None:
        """Anchor the file as it stands, durably.

        Args:
            anchor: Where to.
            record: Of the file that was opened.
            integrity_key: The store's, 32 bytes.
            report: Told of ``AnchorFailed``; must not raise.
        """
        self._anchor = anchor
        self._record = record
        self._integrity_key = integrity_key
        self._report = report
        self._lock = threading.Lock()
        self._durable = False
        self._failed = False
        with self._lock:
            self._try_to_write(durable=True)

    @property
    def record(self) -> AnchorRecord:
        """What the anchor holds, or should."""
        return self._record

    def committed(self, epoch: int, commit_seq: int, state_digest: bytes) -> None:
        """Note a commit that is durable in the file.

        Args:
            epoch: The store's epoch after it.
            commit_seq: Its number.
            state_digest: Over what the store then holds, 16 bytes.
        """
        with self._lock:
            if commit_seq <= self._record.commit_seq:
                return
            before = self._record
            self._record = AnchorRecord(before.store_id, epoch, commit_seq, state_digest, before.inode)
            self._durable = False
            self._try_to_write(durable=False)

    def barrier(self) -> None:
        """Make the anchor durable before rows leave the device.

        Raises:
            StoreIOError: It can't be made so; nothing must be handed out.
        """
        with self._lock:
            if self._durable:
                return
            try:
                self._write(durable=True)
            except (StoreError, OSError) as error:
                self._note(error)
                raise StoreIOError(
                    "the store's anchor can't be written, so nothing is handed out to be sent",
                    "see to where the anchor is kept, then try again",
                ) from error

    def moving(self, next_inode: int) -> None:
        """Note, durably, that another file is about to take the store's place.

        Args:
            next_inode: Its number in the file system.

        Raises:
            StoreIOError: It can't be noted; the file must stay where it is.
        """
        with self._lock:
            self._record = replace(self._record, next_inode=next_inode)
            self._write(durable=True)

    def moved(self, record: AnchorRecord) -> None:
        """Anchor the file that is in place now, durably; never raises.

        Args:
            record: Of that file.
        """
        with self._lock:
            self._record = record
            self._durable = False
            self._try_to_write(durable=True)

    def close(self) -> None:
        """Make the anchor durable if it can be; the file is closed."""
        with self._lock:
            if not self._durable:
                self._try_to_write(durable=True)

    def _try_to_write(self, *, durable: bool) -> None:
        try:
            self._write(durable=durable)
        except (StoreError, OSError) as error:
            self._note(error)

    def _write(self, *, durable: bool) -> None:
        self._anchor.write(encode_record(self._record, self._integrity_key), durable=durable)
        self._durable = durable
        self._failed = False

    def _note(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._report(AnchorFailed(str(error)))
