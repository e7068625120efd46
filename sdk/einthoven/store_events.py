"""What happens to a store that its user must hear of. Values only.

They wait in the store until ``Store.take_events`` hands them out; a session passes them on. It deliberately
names no patient and holds no content.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from einthoven.store_values import ContentKind, DamageReason, DropReason

MAX_WAITING_EVENTS: Final = 1_000
"""Events kept until somebody takes them; the oldest go first."""


class ForkReason(Enum):
    """How a store that was turned back was found out."""

    TURNED_BACK = "turned_back"
    """The file is older than its anchor."""
    DIVERGED = "diverged"
    """The file is as old as its anchor says, but another one."""
    ANCHOR_MISSING = "anchor_missing"
    """There is no anchor beside a file that was written to."""
    ANCHOR_UNREADABLE = "anchor_unreadable"
    """The anchor's record was not written by this store."""
    COPIED = "copied"
    """The file is a copy: another may be in use elsewhere."""
    FOREIGN = "foreign"
    """The anchor belongs to another store."""
    SERVER_AHEAD = "server_ahead"
    """The server holds results of this epoch that this store does not."""
    COUNTER_REUSED = "counter_reused"
    """The server holds another result under a counter that was given here."""
    SERVER_BEHIND = "server_behind"
    """The server lacks results of this epoch that are no longer here, so that it can't take those that follow."""
    REPAIRED = "repaired"
    """Rows were lost to damage."""


@dataclass(frozen=True, slots=True)
class StoreForked:
    """The store was turned back, so it goes on in a new epoch: nothing it writes can be taken for what it wrote before.

    Attributes:
        old_epoch: The epoch that ended.
        new_epoch: The epoch that new rows are written in.
        reason: How it was found out.
    """

    old_epoch: int
    new_epoch: int
    reason: ForkReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDropped:
    """Content was dropped to keep within a limit.

    Attributes:
        kind: What.
        count: How many rows.
        dropped_bytes: Their stored bytes.
        unacknowledged: Of them, those that the server is not known to hold: lost for good.
        reason: Why.
    """

    kind: ContentKind
    count: int
    dropped_bytes: int
    unacknowledged: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class DamageQuarantined:
    """Something in the store is not what was written, and was set aside.

    Attributes:
        kind: What it was.
        place: Its key or range of keys, as far as known; opaque.
        reason: How it was found.
    """

    kind: ContentKind
    place: str
    reason: DamageReason


@dataclass(frozen=True, slots=True)
class StoreMigrated:
    """The file was brought to a newer version.

    Attributes:
        from_version: Version before.
        to_version: Version now.
    """

    from_version: int
    to_version: int


@dataclass(frozen=True, slots=True)
class AnchorFailed:
    """The anchor could not be written: until it can, a file turned back may not be noticed, and nothing is sent.

    Attributes:
        problem: One line, no content.
    """

    problem: str


StoreEvent = StoreForked | ContentDropped | DamageQuarantined | StoreMigrated | AnchorFailed
"""What happens to a store."""
