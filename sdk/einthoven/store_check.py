"""Reads everything that a store holds and says what is not as it was written.

In this order: every page's authentication code, the free pages (they hold zeros, or an old page was put there), the
b-trees (SQLite's own check), every row's tag, the sums of the tags, the counters, the audit trail, and the anchor.
Together they find what each alone can't: a page turned back proves itself and holds rows with right tags, but then the
sums are wrong; if the page with the sums was turned back along with it, the anchor is ahead.

It deliberately changes nothing and mends nothing (``store_repair``). Memory is bounded: rows are streamed, and at most
``MAX_FINDINGS`` are kept.

Invariants:
    1. A finding names a place and no content.
    2. Damage never escapes as an error: it is a finding. Only the disk's refusal is one.
    3. Where a page is damaged, SQLite is not asked for rows: it stops at the first such page, and its connection is of
       no use from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreError
from einthoven.local_audit import FIRST_PREVIOUS_HASH, entry_hash
from einthoven.rollback import StoredState, judge
from einthoven.sqlcipher_log import PAGE_BYTES
from einthoven.sqlcipher_pages import CipherPages
from einthoven.sqlite_pages import DamagedPage
from einthoven.sqlite_schema_pages import free_pages
from einthoven.store_line import TAGGED_SHAPES, StoreLine, find_store_line, valid_by_tag
from einthoven.store_salvage import Salvage
from einthoven.store_schema import TABLES, epoch_and_counter, place_of, position_of
from einthoven.store_tags import RowTags, TableSums
from einthoven.store_values import CheckReport, ContentKind, DamageReason, Finding

MAX_FINDINGS: Final = 1_000
"""Findings that a report holds; a store with more is damaged throughout."""
MAX_PLACE_CHARS: Final = 100
"""Characters of what SQLite says about a b-tree."""
ATTEMPTS: Final = 2
"""Times that SQLite is asked, each time through a fresh connection, before what it says is a finding."""

_ROWS_AT_ONCE: Final = 4_096
"""Rows whose tags are added up in one go."""
_SELECT: Final = {
    table.name: f"SELECT {', '.join((*table.columns, 'tag'))} FROM {table.name} ORDER BY rowid"  # noqa: S608
    for table in TABLES
}

Connect = Callable[[], AbstractContextManager[dbapi2.Connection]]
"""Gives a fresh connection that can't write: one that has been in use holds pages in memory."""


class _Check:
    def __init__(self, pages: CipherPages, salt: bytes) -> None:
        self._pages = pages
        self._salt = salt
        self.findings: list[Finding] = []
        self.rows = 0

    def find(self, reason: DamageReason, place: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(reason, " ".join(place.split())[:MAX_PLACE_CHARS]))

    def look_at_pages(self) -> bool:
        """Whether every page is what was written."""
        pages = self._pages
        before = len(self.findings)
        if pages.salt_differs(self._salt):
            self.find(DamageReason.PAGE_UNREADABLE, "page 1, salt")
        for number in range(1, pages.n_present + 1):
            if not pages.whole(number):
                self.find(DamageReason.PAGE_UNREADABLE, f"page {number}")
        if pages.n_present < pages.n_pages:
            self.find(DamageReason.PAGE_UNREADABLE, f"pages {pages.n_present + 1}-{pages.n_pages}, cut off")
        log = pages.log if pages.log is not None and pages.log.n_pages > 0 else None
        if pages.n_file_bytes % PAGE_BYTES and log is None:
            self.find(DamageReason.PAGE_UNREADABLE, "end of the file")
        # What lies behind the last commit is no damage: a crash leaves it, and it was acknowledged to nobody. Should it
        # have been a commit, then the anchor is ahead.
        if log is not None and not log.read_whole:
            self.find(DamageReason.PAGE_UNREADABLE, "write-ahead log")
        return len(self.findings) == before

    def look_at_free_pages(self) -> None:
        try:
            for number, trunk in free_pages(self._pages, set()):
                if not trunk and any(self._pages.page(number)):
                    self.find(DamageReason.PAGE_TURNED_BACK, f"page {number}, free")
        except DamagedPage as error:
            self.find(DamageReason.STRUCTURE, f"page {error.number}, free pages")

    def look_through_sqlite(self, connect: Connect, line: StoreLine, anchored: bytes | None, inode: int) -> None:
        """Ask SQLite; each page is whole by now, and SQLite calls one failed read damage, so that is asked again."""
        before = len(self.findings)
        for _ in range(ATTEMPTS):
            del self.findings[before:]
            self.rows = 0
            try:
                with connect() as connection:
                    self.look_at_trees(connection)
                    self.look_at_rows(connection, line)
                    self.look_at_counters(connection)
                    self.look_at_audit(connection, line)
                    self.look_at_anchor(connection, line, anchored, inode)
            except (dbapi2.Error, StoreError) as error:
                self.find(DamageReason.STRUCTURE, type(error).__name__)
            if len(self.findings) == before:
                return

    def look_at_trees(self, connection: dbapi2.Connection) -> None:
        for (line,) in connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})"):
            if line != "ok":
                self.find(DamageReason.STRUCTURE, str(line))

    def look_at_rows(self, connection: dbapi2.Connection, line: StoreLine) -> None:
        tags = RowTags(line.integrity_key)
        found = TableSums()
        for table in TABLES:
            cursor = connection.execute(_SELECT[table.name])
            while batch := list(islice(cursor, _ROWS_AT_ONCE)):
                self.rows += len(batch)
                good = []
                for row in batch:
                    if tags.holds(table.name, row[:-1], row[-1]):
                        good.append(row[-1])
                    else:
                        self.find(DamageReason.TAG_WRONG, f"{table.name} {place_of(table.name, row)}")
                found.add_many(table.name, b"".join(good))
        for name in found.differing(line.sums):
            place = f"{name}: {found.count(name)} rows, {line.sums.count(name)} written"
            self.find(DamageReason.SUM_WRONG, place)
            if name == "result":
                for missing in islice(missing_results(connection), MAX_FINDINGS):
                    self.find(DamageReason.ROW_MISSING, f"result {missing}")

    def look_at_counters(self, connection: dbapi2.Connection) -> None:
        """No result may have a counter that its epoch has not given yet."""
        for epoch, last_counter in connection.execute("SELECT epoch, last_counter FROM epoch").fetchall():
            line = connection.execute(
                "SELECT position FROM result WHERE position > ? AND position < ? LIMIT 1",
                (position_of(epoch, last_counter), position_of(epoch + 1, 0)),
            ).fetchone()
            if line is not None:
                self.find(DamageReason.STRUCTURE, f"result {spelled(line[0])}, beyond its epoch's counter")

    def look_at_audit(self, connection: dbapi2.Connection, line: StoreLine) -> None:
        holes = {
            seq
            for (name,) in connection.execute(
                "SELECT name FROM quarantine WHERE kind = ?", (int(ContentKind.AUDIT),)
            ).fetchall()
            for seq in _first_after(name)
        }
        last_seq, last_hash = 0, FIRST_PREVIOUS_HASH
        entries = connection.execute("SELECT seq, at_ms, action, subject, entry_hash FROM audit ORDER BY seq")
        for seq, at_ms, action, subject, chained in entries:
            if seq != last_seq + 1 and seq not in holes:
                self.find(DamageReason.CHAIN_BROKEN, f"audit {last_seq + 1}")
            elif seq == last_seq + 1 and not _follows(chained, last_hash, seq, at_ms, action, subject):
                self.find(DamageReason.CHAIN_BROKEN, f"audit {seq}")
            last_seq, last_hash = seq, chained
        if last_hash != line.audit_head:
            self.find(DamageReason.CHAIN_BROKEN, f"audit {last_seq + 1}")

    def look_at_anchor(
        self, connection: dbapi2.Connection, line: StoreLine, anchored: bytes | None, inode: int
    ) -> None:
        (highest,) = connection.execute("SELECT ifnull(max(epoch), 0) FROM epoch").fetchone()
        current = connection.execute("SELECT epoch FROM sync").fetchone()
        digest = RowTags(line.integrity_key).state_digest(line.commit_seq, line.sums, line.audit_head)
        state = StoredState(line.store_id, current[0] if current else 0, highest, line.commit_seq, digest)
        verdict = judge(state, anchored, line.integrity_key, inode)
        if verdict is not None:
            self.find(DamageReason.ANCHOR_WRONG, f"anchor: {verdict.value}")

    def look_around_damage(self, line: StoreLine | None) -> None:
        """Rows that whole pages hold; the trees are walked around what is damaged."""
        tags = None if line is None else RowTags(line.integrity_key)
        salvage = Salvage(self._pages, TAGGED_SHAPES, valid_by_tag(tags))
        self.rows = sum(1 for row in salvage.rows() if row.in_tree)
        for lost in salvage.lost:
            reason = DamageReason.TAG_WRONG if lost.tag_wrong else DamageReason.ROW_MISSING
            self.find(reason, f"{lost.table} on page {lost.page}".strip())


def check_store(
    pages: CipherPages, salt: bytes, connect: Connect, *, anchored: bytes | None, inode: int
) -> CheckReport:
    """Read everything; nobody may write or checkpoint meanwhile.

    Args:
        pages: The file and its log (``sqlcipher_page_file``).
        salt: The file's salt, from its key slot.
        connect: Gives a fresh connection.
        anchored: What the anchor keeps.
        inode: Number of the file in its file system.

    Returns:
        What was looked at and what is wrong.
    """
    check = _Check(pages, salt)
    whole = check.look_at_pages()
    check.look_at_free_pages()
    line = find_store_line(pages)
    if line is None:
        check.find(DamageReason.ROW_MISSING, "store")
    if whole and line is not None:
        check.look_through_sqlite(connect, line, anchored, inode)
    else:
        check.look_around_damage(line)
    return CheckReport(pages=pages.n_present, rows=check.rows, findings=tuple(check.findings))


def missing_results(connection: dbapi2.Connection) -> Iterator[str]:
    """Counters that were given, not dropped, and have no result, as ``epoch:first-last``."""
    epochs = connection.execute("SELECT epoch, first_kept, last_counter FROM epoch ORDER BY epoch").fetchall()
    for epoch, first_kept, last_counter in epochs:
        awaited = position_of(epoch, first_kept)
        last = position_of(epoch, last_counter)
        positions = connection.execute(
            "SELECT position FROM result WHERE position BETWEEN ? AND ? ORDER BY position", (awaited, last)
        )
        for (position,) in positions:
            if position > awaited:
                yield spelled(awaited, position - 1)
            awaited = position + 1
        if awaited <= last:
            yield spelled(awaited, last)


def spelled(first: int, last: int | None = None) -> str:
    """Positions of results in words: ``epoch:counter``, or ``epoch:first-last``."""
    epoch, counter = epoch_and_counter(first)
    if last is None or last == first:
        return f"{epoch}:{counter}"
    return f"{epoch}:{counter}-{epoch_and_counter(last)[1]}"


def _first_after(place: str) -> Iterator[int]:
    """The entry that follows a quarantined stretch of the audit trail."""
    last = place.replace("-", " ").split(" ")[-1]
    if last.isdecimal():
        yield int(last) + 1


def _follows(chained: bytes, last_hash: bytes, seq: int, at_ms: int, action: int, subject: str) -> bool:
    try:
        return entry_hash(last_hash, seq, at_ms, action, subject) == chained
    except ValueError:
        return False
