"""The tables of the encrypted store: their statements by version, and the shape that every row is tagged in.

A version that was ever released is never changed: a later one is added, and ``store_migrations`` leads to it. It
deliberately holds no query, runs nothing and knows nothing of keys.

Invariants:
    1. ``PRAGMA user_version`` is the version of a file; ``PRAGMA application_id`` says that the file is ours.
    2. ``TABLES`` names every table but ``store``, and ``stored_columns`` is the order of each one's records.
    3. Every table of version 2 keeps its rows in an ordinary b-tree (no ``WITHOUT ROWID``), so that all content lies in
       the leaves of table b-trees, and what lies anywhere else can be made anew.
    4. No table refers to another by a foreign key: a row that is lost takes no other with it.

Tables (version 2):
    store       One line: identity, key of the tags, number of the last commit, sums of the tags, head of the audit.
    epoch       Highest counter given, highest acknowledged and first one kept, for each epoch.
    segment     Signals by the SHA-256 of their canonical bytes, and where they lie; a result may outlive its signal.
    signal_page What the signals lie in (``sqlcipher_signals``).
    result      Canonical row bytes by ``position``: epoch * 2**32 + counter.
    beat_run    Beats in order of time, packed (``beat_runs``).
    annotation  The local row, and the row that the server is known to hold; one's own waits while they differ.
    setting     Small values by name.
    refusal     Verdicts of the server that are neither accepted nor duplicate.
    sync        One line: current epoch, cursor, running digest and what it was keyed with, last exchange.
    quarantine  What was lost to damage.
    audit       The local audit trail, a hash chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from einthoven.errors import StoreTooNew
from einthoven.store_values import ContentKind

APPLICATION_ID: Final = 0x45494E31
"""``EIN1`` in the database's header."""
SCHEMA_VERSION: Final = 2
"""What this version of the SDK reads and writes."""
COUNTER_BITS: Final = 32
"""Bits of a result's position that hold its counter; the epoch stands above them."""
STORE_ID_BYTES: Final = 16
"""Length of a store's identity."""
INTEGRITY_KEY_BYTES: Final = 32
"""Length of the key of the tags."""


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of one table are stored and tagged.

    Attributes:
        name: Its name.
        columns: All but ``tag``, in stored order; a tag is over their values in this order.
        key: Those that name a row.
        row_id: Whether the first column is the b-tree's integer key, so that the record itself holds NULL for it.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    row_id: bool

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """All columns, ``tag`` among them, in the order of a record."""
        return (*self.columns, "tag")


TABLES: Final = (
    Table("epoch", ("epoch", "last_counter", "acknowledged", "first_kept"), ("epoch",), True),
    Table("segment", ("id", "digest", "acknowledged", "started_at_ms", "first_byte", "n_bytes"), ("id",), True),
    Table("signal_page", ("id", "body"), ("id",), True),
    Table("result", ("position", "started_at_ms", "body", "segment_digest"), ("position",), True),
    Table("beat_run", ("id", "started_at_ms", "ended_at_ms", "n_beats", "body"), ("id",), True),
    Table(
        "annotation",
        ("device_alias", "epoch", "counter", "author", "local_body", "known_body", "own"),
        ("device_alias", "epoch", "counter", "author"),
        False,
    ),
    Table("setting", ("name", "value"), ("name",), False),
    Table("refusal", ("epoch", "counter", "code", "reason"), ("epoch", "counter"), False),
    Table(
        "sync",
        (
            "only_line",
            "epoch",
            "cursor_shard_epoch",
            "cursor_commit_seq",
            "digest_count",
            "digest_total",
            "digest_key",
            "digest_device_alias",
            "last_exchange_ms",
            "last_digest_equal",
        ),
        ("only_line",),
        True,
    ),
    Table("quarantine", ("id", "kind", "name", "reason", "found_at_ms"), ("id",), True),
    Table("audit", ("seq", "at_ms", "action", "subject", "entry_hash"), ("seq",), True),
)
"""Every tagged table; sums are kept in this order, so a new table is appended."""
TABLE_BY_NAME: Final = {table.name: table for table in TABLES}
"""The same, by name."""
CONTENT_KINDS: Final = {
    "epoch": ContentKind.SYNC,
    "segment": ContentKind.SEGMENT,
    "signal_page": ContentKind.SEGMENT,
    "result": ContentKind.RESULT,
    "beat_run": ContentKind.BEATS,
    "annotation": ContentKind.ANNOTATION,
    "setting": ContentKind.SETTING,
    "refusal": ContentKind.SYNC,
    "sync": ContentKind.SYNC,
    "quarantine": ContentKind.AUDIT,
    "audit": ContentKind.AUDIT,
}
"""What a table's rows are to the user."""

_TAG: Final = "tag BLOB NOT NULL CHECK (length(tag) = 16)"

VERSION_2: Final = (
    f"""CREATE TABLE store (
        only_line INTEGER PRIMARY KEY CHECK (only_line = 1),
        store_id BLOB NOT NULL CHECK (length(store_id) = {STORE_ID_BYTES}),
        integrity_key BLOB NOT NULL CHECK (length(integrity_key) = {INTEGRITY_KEY_BYTES}),
        commit_seq INTEGER NOT NULL,
        sums BLOB NOT NULL,
        audit_head BLOB NOT NULL CHECK (length(audit_head) = 32)
    ) STRICT""",
    f"""CREATE TABLE epoch (
        epoch INTEGER PRIMARY KEY CHECK (epoch >= 1),
        last_counter INTEGER NOT NULL,
        acknowledged INTEGER NOT NULL CHECK (acknowledged BETWEEN 0 AND last_counter),
        first_kept INTEGER NOT NULL CHECK (first_kept BETWEEN 1 AND last_counter + 1),
        {_TAG}
    ) STRICT""",
    f"""CREATE TABLE segment (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        acknowledged INTEGER NOT NULL CHECK (acknowledged IN (0, 1)),
        started_at_ms INTEGER NOT NULL,
        first_byte INTEGER NOT NULL CHECK (first_byte >= 0),
        n_bytes INTEGER NOT NULL CHECK (n_bytes >= 1),
        {_TAG}
    ) STRICT""",
    f"CREATE TABLE signal_page (id INTEGER PRIMARY KEY, body BLOB NOT NULL, {_TAG}) STRICT",
    f"""CREATE TABLE result (
        position INTEGER PRIMARY KEY,
        started_at_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        segment_digest BLOB NOT NULL CHECK (length(segment_digest) = 32),
        {_TAG}
    ) STRICT""",
    "CREATE INDEX result_started ON result (started_at_ms)",
    f"""CREATE TABLE beat_run (
        id INTEGER PRIMARY KEY,
        started_at_ms INTEGER NOT NULL,
        ended_at_ms INTEGER NOT NULL CHECK (ended_at_ms >= started_at_ms),
        n_beats INTEGER NOT NULL,
        body BLOB NOT NULL,
        {_TAG}
    ) STRICT""",
    "CREATE INDEX beat_run_started ON beat_run (started_at_ms, ended_at_ms)",
    f"""CREATE TABLE annotation (
        device_alias INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        author TEXT NOT NULL,
        local_body BLOB NOT NULL,
        known_body BLOB,
        own INTEGER NOT NULL CHECK (own IN (0, 1)),
        {_TAG},
        PRIMARY KEY (device_alias, epoch, counter, author)
    ) STRICT""",
    """CREATE INDEX annotation_waiting ON annotation (device_alias, epoch, counter, author)
        WHERE own AND local_body IS NOT known_body""",
    f"CREATE TABLE setting (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, {_TAG}) STRICT",
    f"""CREATE TABLE refusal (
        epoch INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        code INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        {_TAG},
        PRIMARY KEY (epoch, counter)
    ) STRICT""",
    f"""CREATE TABLE sync (
        only_line INTEGER PRIMARY KEY CHECK (only_line = 1),
        epoch INTEGER NOT NULL,
        cursor_shard_epoch INTEGER NOT NULL,
        cursor_commit_seq INTEGER NOT NULL,
        digest_count INTEGER NOT NULL,
        digest_total BLOB NOT NULL CHECK (length(digest_total) = 16),
        digest_key BLOB,
        digest_device_alias INTEGER,
        last_exchange_ms INTEGER,
        last_digest_equal INTEGER,
        {_TAG}
    ) STRICT""",
    f"""CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        reason INTEGER NOT NULL,
        found_at_ms INTEGER NOT NULL,
        {_TAG}
    ) STRICT""",
    f"""CREATE TABLE audit (
        seq INTEGER PRIMARY KEY CHECK (seq >= 1),
        at_ms INTEGER NOT NULL,
        action INTEGER NOT NULL,
        subject TEXT NOT NULL,
        entry_hash BLOB NOT NULL CHECK (length(entry_hash) = 32),
        {_TAG}
    ) STRICT""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 2",
)
"""Statements that make the empty tables of version 2; no line is in them."""


def position_of(epoch: int, counter: int) -> int:
    """Where a result stands among those of all epochs."""
    return epoch << COUNTER_BITS | counter


def epoch_and_counter(position: int) -> tuple[int, int]:
    """What a position is of."""
    return position >> COUNTER_BITS, position & (1 << COUNTER_BITS) - 1


def check_version(user_version: int, file_name: str) -> None:
    """Refuse a file from the future.

    Raises:
        StoreTooNew: It was written by a newer version.
    """
    if user_version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{file_name} has format {user_version}, this version reads up to {SCHEMA_VERSION}", "update this software"
        )


def place_of(table: str, values: Sequence[int | str | bytes | None]) -> str:
    """What to call a row when it is damaged: its key, and no content.

    Args:
        table: Its table.
        values: Its columns but the tag, in the order of ``TABLES``.
    """
    shape = TABLE_BY_NAME[table]
    if table == "result" and isinstance(values[0], int):
        return ":".join(map(str, epoch_and_counter(values[0])))
    key = ("digest",) if table == "segment" else shape.key
    parts = (values[shape.columns.index(column)] for column in key)
    return ":".join(part.hex() if isinstance(part, bytes) else str(part) for part in parts)
