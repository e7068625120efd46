"""The tables of the encrypted store: their statements by version, and the shape that every row is tagged in.

A version that was ever released is never changed: a later one is added, and ``store_migrations`` leads to it. It
deliberately holds no query, runs nothing and knows nothing of keys.

Invariants:
    1. ``PRAGMA user_version`` is the version of a file; ``PRAGMA application_id`` says that the file is ours.
    2. ``TABLES`` names every table but ``store``, and ``stored_columns`` is the order of each one's records.
    3. Every table of version 2 keeps its rows in an ordinary b-tree (no ``WITHOUT ROWID``), so that all content lies in
       the leaves of table b-trees, and what lies anywhere else can be made anew.
    4. No table refers to another by a foreign key: a row that is lost takes no other with it.

Tables (all of version 2, and from ``own_note`` on of version 3):
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
    own_note    Canonical bytes of this device's notes by ``position``, as of alias 0; whether listed, why refused.
    note_log    Highest counter of notes given and highest acknowledged, for each epoch.
    note        Notes that came down, and whether the server is known to hold them.
    replica     Results that came down, and the history in which they were last heard of.
    superseded  Losers of conflicts, by SHA-256.
    document    What the server decided, by name.
    owner       Keys of the devices whose rows this one may see.
    bucket      Running digests of all buckets but the own records', and what the server said of each.
    deletion    What is to be deleted, was, or may not be.
    alert_sent  Results that went ahead, and whether the server holds them.
    to_give     Results that the server lost.
    dropped_run Shares of consecutive results that were dropped (``store_rules``, R20).
    draft       Base marks of an annotation that waits, what of it was overtaken, or why it was refused.
    link        One line: what the server said last of itself and of the own records, whether to compare, and how many
                histories there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from einthoven.errors import StoreTooNew
from einthoven.store_values import ContentKind

APPLICATION_ID: Final = 0x45494E31
"""``EIN1`` in the database's header."""
SCHEMA_VERSION: Final = 3
"""What this version of the SDK reads and writes."""
COUNTER_BITS: Final = 32
"""Bits of a result's position that hold its counter; the epoch stands above them."""
FIRST_TAGGED_VERSION: Final = 2
"""The oldest version that keeps tags, sums and an identity."""
N_TABLES_OF_VERSION_2: Final = 11
"""Tables that version 2 keeps sums of."""
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
    Table("own_note", ("position", "at_ms", "shown", "refused", "body"), ("position",), True),
    Table("note_log", ("epoch", "last_counter", "acknowledged"), ("epoch",), True),
    Table(
        "note",
        ("device_alias", "epoch", "counter", "at_ms", "known", "hidden", "body"),
        ("device_alias", "epoch", "counter"),
        False,
    ),
    Table(
        "replica",
        ("device_alias", "position", "started_at_ms", "history", "body"),
        ("device_alias", "position"),
        False,
    ),
    Table(
        "superseded",
        ("device_alias", "epoch", "counter", "name", "known", "body"),
        ("device_alias", "epoch", "counter", "name"),
        False,
    ),
    Table("document", ("name", "version", "issued_at_ms", "signature", "body"), ("name",), False),
    Table("owner", ("device_alias", "sync_key"), ("device_alias",), True),
    Table(
        "bucket",
        ("device_alias", "kind", "count", "total", "server_count", "server_total"),
        ("device_alias", "kind"),
        False,
    ),
    Table(
        "deletion",
        ("kind", "device_alias", "epoch", "counter", "author", "state", "hlc"),
        ("kind", "device_alias", "epoch", "counter", "author"),
        False,
    ),
    Table("alert_sent", ("position", "held"), ("position",), True),
    Table("to_give", ("position",), ("position",), True),
    Table(
        "dropped_run",
        ("device_alias", "first_position", "last_position", "shares"),
        ("device_alias", "first_position"),
        False,
    ),
    Table(
        "draft",
        (
            "device_alias",
            "epoch",
            "counter",
            "author",
            "rhythm_base",
            "comment_base",
            "refused",
            "overtaken_rhythm_base",
            "overtaken_comment_base",
            "overtaken_body",
        ),
        ("device_alias", "epoch", "counter", "author"),
        False,
    ),
    Table(
        "link",
        (
            "only_line",
            "capabilities",
            "max_results",
            "max_annotations",
            "min_interval_s",
            "rebaseline",
            "owners_asked",
            "history",
            "server_count",
            "server_total",
        ),
        ("only_line",),
        True,
    ),
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
    "own_note": ContentKind.NOTE,
    "note_log": ContentKind.SYNC,
    "note": ContentKind.NOTE,
    "replica": ContentKind.REPLICA,
    "superseded": ContentKind.ANNOTATION,
    "document": ContentKind.DOCUMENT,
    "owner": ContentKind.SYNC,
    "bucket": ContentKind.SYNC,
    "deletion": ContentKind.SYNC,
    "alert_sent": ContentKind.SYNC,
    "to_give": ContentKind.SYNC,
    "dropped_run": ContentKind.SYNC,
    "draft": ContentKind.ANNOTATION,
    "link": ContentKind.SYNC,
}
"""What a table's rows are to the user."""

TABLES_BY_POSITION: Final = ("result", "own_note", "alert_sent", "to_give")
"""Tables whose rows are numbered by ``position_of``."""
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

_POSITION: Final = "position INTEGER PRIMARY KEY"
_NAME_OF_RESULT: Final = "device_alias INTEGER NOT NULL, epoch INTEGER NOT NULL, counter INTEGER NOT NULL"
_TIER_BYTE: Final = 43
"""Where a result's canonical bytes hold its tier, counted from 1 as SQL does."""
IS_URGENT: Final = f"substr(body, {_TIER_BYTE}, 1) = x'03'"
"""Of a result: ``store_rules`` R14. The index below is used only by exactly this."""

VERSION_3: Final = (
    f"CREATE INDEX result_urgent ON result (position) WHERE {IS_URGENT}",
    f"""CREATE TABLE own_note (
        {_POSITION},
        at_ms INTEGER NOT NULL,
        shown INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        body BLOB NOT NULL,
        {_TAG}
    ) STRICT""",
    "CREATE INDEX own_note_at ON own_note (at_ms)",
    f"""CREATE TABLE note_log (
        epoch INTEGER PRIMARY KEY CHECK (epoch >= 1),
        last_counter INTEGER NOT NULL,
        acknowledged INTEGER NOT NULL CHECK (acknowledged BETWEEN 0 AND last_counter),
        {_TAG}
    ) STRICT""",
    f"""CREATE TABLE note (
        {_NAME_OF_RESULT},
        at_ms INTEGER NOT NULL,
        known INTEGER NOT NULL,
        hidden INTEGER NOT NULL CHECK (hidden IN (0, 1)),
        body BLOB NOT NULL,
        {_TAG},
        PRIMARY KEY (device_alias, epoch, counter)
    ) STRICT""",
    "CREATE INDEX note_at ON note (at_ms)",
    f"""CREATE TABLE replica (
        device_alias INTEGER NOT NULL,
        position INTEGER NOT NULL,
        started_at_ms INTEGER NOT NULL,
        history INTEGER NOT NULL,
        body BLOB NOT NULL,
        {_TAG},
        PRIMARY KEY (device_alias, position)
    ) STRICT""",
    "CREATE INDEX replica_started ON replica (started_at_ms)",
    f"""CREATE TABLE superseded (
        {_NAME_OF_RESULT},
        name BLOB NOT NULL CHECK (length(name) = 32),
        known INTEGER NOT NULL CHECK (known IN (0, 1)),
        body BLOB NOT NULL,
        {_TAG},
        PRIMARY KEY (device_alias, epoch, counter, name)
    ) STRICT""",
    f"""CREATE TABLE document (
        name TEXT PRIMARY KEY NOT NULL,
        version INTEGER NOT NULL CHECK (version >= 1),
        issued_at_ms INTEGER NOT NULL,
        signature BLOB NOT NULL,
        body BLOB NOT NULL,
        {_TAG}
    ) STRICT""",
    f"CREATE TABLE owner (device_alias INTEGER PRIMARY KEY, sync_key BLOB NOT NULL, {_TAG}) STRICT",
    f"""CREATE TABLE bucket (
        device_alias INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        count INTEGER NOT NULL,
        total BLOB NOT NULL CHECK (length(total) = 16),
        server_count INTEGER,
        server_total BLOB,
        {_TAG},
        PRIMARY KEY (device_alias, kind)
    ) STRICT""",
    f"""CREATE TABLE deletion (
        kind INTEGER NOT NULL,
        {_NAME_OF_RESULT},
        author TEXT NOT NULL,
        state INTEGER NOT NULL,
        hlc INTEGER NOT NULL,
        {_TAG},
        PRIMARY KEY (kind, device_alias, epoch, counter, author)
    ) STRICT""",
    f"CREATE TABLE alert_sent ({_POSITION}, held INTEGER NOT NULL CHECK (held IN (0, 1)), {_TAG}) STRICT",
    f"CREATE TABLE to_give ({_POSITION}, {_TAG}) STRICT",
    f"""CREATE TABLE dropped_run (
        device_alias INTEGER NOT NULL,
        first_position INTEGER NOT NULL,
        last_position INTEGER NOT NULL,
        shares BLOB NOT NULL CHECK (length(shares) = 16 * (last_position - first_position + 1)),
        {_TAG},
        PRIMARY KEY (device_alias, first_position)
    ) STRICT""",
    f"""CREATE TABLE draft (
        {_NAME_OF_RESULT},
        author TEXT NOT NULL,
        rhythm_base INTEGER NOT NULL,
        comment_base INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        overtaken_rhythm_base INTEGER NOT NULL,
        overtaken_comment_base INTEGER NOT NULL,
        overtaken_body BLOB,
        {_TAG},
        PRIMARY KEY (device_alias, epoch, counter, author)
    ) STRICT""",
    f"""CREATE TABLE link (
        only_line INTEGER PRIMARY KEY CHECK (only_line = 1),
        capabilities INTEGER NOT NULL,
        max_results INTEGER NOT NULL,
        max_annotations INTEGER NOT NULL,
        min_interval_s INTEGER NOT NULL,
        rebaseline INTEGER NOT NULL CHECK (rebaseline IN (0, 1)),
        owners_asked INTEGER NOT NULL CHECK (owners_asked IN (0, 1)),
        history INTEGER NOT NULL,
        server_count INTEGER,
        server_total BLOB,
        {_TAG}
    ) STRICT""",
    "PRAGMA user_version = 3",
)
"""Statements that lead from the tables of version 2 to those of version 3."""
NEWEST_VERSION: Final = (*VERSION_2, *VERSION_3)
"""Statements that make the empty tables of ``SCHEMA_VERSION``."""


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
    if table in TABLES_BY_POSITION and isinstance(values[0], int):
        return ":".join(map(str, epoch_and_counter(values[0])))
    if table == "replica" and isinstance(values[1], int):
        return ":".join(map(str, (values[0], *epoch_and_counter(values[1]))))
    key = ("digest",) if table == "segment" else shape.key
    parts = (values[shape.columns.index(column)] for column in key)
    return ":".join(part.hex() if isinstance(part, bytes) else str(part) for part in parts)
