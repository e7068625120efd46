"""Whether a store's file is the one that was written last, decided against a small record kept outside it. Pure.

Encryption and authentication tell a forged page from a true one, not an old one from a new one: a file that was
replaced by last month's backup opens without a word. So after each commit a record of where the file stands is kept
outside it (port ``Anchor``), under a code that only this store can make, and on opening the file is held against it.
Whatever does not fit makes the store go on in a new epoch: counters that were given before are never given again.

It deliberately reads no file, keeps no anchor and forks nothing (``store_anchoring``, ``store_opening``). It can't see
a file and an anchor that were turned back together: that is for the server to notice (``store_rules``, R2').

Record, big-endian: version u8 | store id (16) | epoch u32 | commit_seq u64 | state digest (16) | inode u64 | next inode
u64 | keyed BLAKE2b (32) over all before, under the store's integrity key.

Invariants:
    1. A record counts only if its code is right: nobody without the store's integrity key can make the file pass for
       the newest.
    2. A file that is equal to its record, or ahead of it in the same epoch or a later one (a crash between commit and
       record), goes on: no crash forks.
    3. A file that is behind its record, in commits or epochs, does not go on, and neither does one that has as many
       commits and other content.
    4. A file without a record goes on only if nothing was ever written to it.
    5. A file that is another than the record's by its inode was copied, unless the record says that it was about to
       take the other's place. Only what 3 and 4 let pass is looked at for it.
    6. Decoding ends for all bytes with a record or ``None``; encoding is the one form of a record.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from einthoven.store_events import ForkReason

RECORD_VERSION: Final = 1
"""Version of the record's layout."""
STATE_DIGEST_BYTES: Final = 16
"""Length of a state's digest."""
CONTINUES: Final = None
"""Verdict on a file that goes on as it is."""

_STORE_ID_BYTES: Final = 16
_CODE_BYTES: Final = 32
_PERSON: Final = b"einthoven anchor"
_CONTENT: Final = struct.Struct(f">B{_STORE_ID_BYTES}sIQ{STATE_DIGEST_BYTES}sQQ")
RECORD_BYTES: Final = _CONTENT.size + _CODE_BYTES
"""Length of a record; within ``MAX_ANCHOR_RECORD_BYTES``."""
_MAX_COMMIT_SEQ: Final = 2**63 - 1
_INODE_MODULUS: Final = 2**64


@dataclass(frozen=True, slots=True)
class StoredState:
    """Where a store's file stands, by its own word.

    Attributes:
        store_id: 16 random bytes, made with the store.
        epoch: Epoch that new rows are written in.
        highest_epoch: Highest that it knows of.
        commit_seq: Number of its last commit.
        state_digest: Over all it holds, 16 bytes (``store_tags``).
        pristine: Whether nothing was ever written to it but what made it.
    """

    store_id: bytes
    epoch: int
    highest_epoch: int
    commit_seq: int
    state_digest: bytes
    pristine: bool = False


@dataclass(frozen=True, slots=True)
class AnchorRecord:
    """What an anchor remembers of a file.

    Attributes:
        store_id: Of this store, 16 bytes.
        epoch: Epoch at that commit.
        commit_seq: Number of that commit.
        state_digest: Content at that commit, 16 bytes.
        inode: Number of the file in its file system.
        next_inode: Of the file that is about to take its place; 0 for none.
    """

    store_id: bytes
    epoch: int
    commit_seq: int
    state_digest: bytes
    inode: int
    next_inode: int = 0


def record_of(state: StoredState, inode: int, next_inode: int = 0) -> AnchorRecord:
    """The record of a file that stands there."""
    return AnchorRecord(state.store_id, state.epoch, state.commit_seq, state.state_digest, inode, next_inode)


def encode_record(record: AnchorRecord, integrity_key: bytes) -> bytes:
    """The record's bytes, ``RECORD_BYTES`` long.

    Args:
        record: What to remember.
        integrity_key: The store's, 32 bytes.

    Raises:
        ValueError: A field does not fit.
    """
    try:
        content = _CONTENT.pack(
            RECORD_VERSION,
            record.store_id,
            record.epoch,
            record.commit_seq,
            record.state_digest,
            # Some file systems number their files beyond 64 bits; equality is all that is asked of it.
            record.inode % _INODE_MODULUS,
            record.next_inode % _INODE_MODULUS,
        )
    except struct.error as error:
        raise ValueError("a field of the anchor's record is out of range") from error
    if len(record.store_id) != _STORE_ID_BYTES or len(record.state_digest) != STATE_DIGEST_BYTES:
        raise ValueError("a field of the anchor's record has the wrong length")
    return content + _code(content, integrity_key)


def decode_record(octets: bytes | None, integrity_key: bytes) -> AnchorRecord | None:
    """The record, if this store wrote it; ``None`` for anything else.

    Args:
        octets: What the anchor keeps.
        integrity_key: The store's, 32 bytes.
    """
    if octets is None or len(octets) != RECORD_BYTES or octets[0] != RECORD_VERSION:
        return None
    content, code = octets[: _CONTENT.size], octets[_CONTENT.size :]
    if not hmac.compare_digest(_code(content, integrity_key), code):
        return None
    return _record(content)


def claimed_record(octets: bytes | None) -> AnchorRecord | None:
    """What bytes claim to be the record of, unproved: for telling one mishap from another, never for trust."""
    if octets is None or len(octets) != RECORD_BYTES or octets[0] != RECORD_VERSION:
        return None
    return _record(octets[: _CONTENT.size])


def judge(state: StoredState, anchored: bytes | None, integrity_key: bytes, inode: int) -> ForkReason | None:
    """Hold a file against its anchor.

    Args:
        state: Where the file stands.
        anchored: What the anchor keeps; ``None`` if it keeps nothing.
        integrity_key: The store's, 32 bytes.
        inode: Number of the file in its file system.

    Returns:
        ``CONTINUES``, or why the store must go on in a new epoch.
    """
    if anchored is None:
        return CONTINUES if state.pristine else ForkReason.ANCHOR_MISSING
    record = decode_record(anchored, integrity_key)
    if record is None or record.store_id != state.store_id:
        claimed = claimed_record(anchored)
        foreign = claimed is not None and claimed.store_id != state.store_id
        return ForkReason.FOREIGN if foreign else ForkReason.ANCHOR_UNREADABLE
    if state.commit_seq < record.commit_seq:
        return ForkReason.TURNED_BACK
    if state.epoch < record.epoch or _differs(state, record):
        return ForkReason.DIVERGED
    if inode % _INODE_MODULUS not in (record.inode, record.next_inode or record.inode):
        return ForkReason.COPIED
    return CONTINUES


def highest_known_epoch(state: StoredState, anchored: AnchorRecord | None) -> int:
    """The epoch above which a fork must begin its own (``store_rules.next_epoch``).

    Args:
        state: Where the file stands.
        anchored: The anchor's record where its code is right.
    """
    return max(state.epoch, state.highest_epoch, anchored.epoch if anchored is not None else 0)


def _differs(state: StoredState, record: AnchorRecord) -> bool:
    if state.commit_seq != record.commit_seq:
        return False
    return state.epoch != record.epoch or not hmac.compare_digest(state.state_digest, record.state_digest)


def _code(content: bytes, integrity_key: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CODE_BYTES, key=integrity_key, person=_PERSON).digest()


def _record(content: bytes) -> AnchorRecord:
    _, store_id, epoch, commit_seq, state_digest, inode, next_inode = _CONTENT.unpack(content)
    return AnchorRecord(store_id, epoch, commit_seq, state_digest, inode, next_inode)
