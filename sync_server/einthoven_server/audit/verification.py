"""Checks a whole log: every entry in the chain, the tree over them, the head, and what checkpoints know of it.

It deliberately changes nothing, and goes through the log once, however many checkpoints there are.

Invariants:
    1. The first entry that was altered, removed, added or moved is named by its number.
    2. A log that is shorter than a checkpoint says, or another one than it was made of, is found also where chain, tree
       and head were made to agree; then the entries between that checkpoint and the one before are named.
    3. What is appended meanwhile is checked as well: entries and head are read at one moment.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from einthoven_server import limits
from einthoven_server.audit import rows
from einthoven_server.audit.chain import Entry, Verifier, seal_of, tampered
from einthoven_server.audit.merkle import Frontier, Node, leaf_hash
from einthoven_server.audit.rows import Head
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import AuditTampered


class KnownState(NamedTuple):
    """A state that a log once had.

    Attributes:
        size: Number of entries.
        root: The tree's hash, 32 bytes.
        place: Who knows of it, in words.
    """

    size: int
    root: bytes
    place: str


class VerifiedLog(NamedTuple):
    """A log that holds.

    Attributes:
        entries: Their number.
        root: The tree's hash, 32 bytes.
        states: How many known states it was compared with.
    """

    entries: int
    root: bytes
    states: int


async def verify(
    database: Database,
    scope: Scope,
    key: bytes,
    known: Sequence[KnownState] = (),
    on_entry: Callable[[Entry], None] | None = None,
) -> VerifiedLog:
    """Check the whole log of a tenant.

    Args:
        database: Where it is.
        scope: Shard and tenant.
        key: Its MAC key, 32 bytes.
        known: States it once had.
        on_entry: Told each entry that holds, in their order, by another thread than the caller's.

    Raises:
        AuditTampered: Names the first entry that does not hold.
        Busy: The database can't be reached.
    """
    chain, tree = Verifier(key), _Tree(known)

    def check(page: list[Row]) -> None:
        for row in page:
            entry = rows.entry_of(row)
            tree.append(chain.check(entry))
            if on_entry is not None:
                on_entry(entry)

    coming = asyncio.create_task(_page(database, scope, chain.seq))
    try:
        while True:
            page, head = await coming
            if not page:
                break
            # The database reads the next page while this one is hashed.
            coming = asyncio.create_task(_page(database, scope, page[-1]["seq"]))
            await asyncio.to_thread(check, page)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    chain.check_head(head.seq, head.mac)
    tree.check_head(head, key)
    tree.check_nodes(await database.fetch(rows.ALL_NODES, *scope))
    tree.check_end()
    return VerifiedLog(chain.seq, tree.root, len(known))


async def _page(database: Database, scope: Scope, after: int) -> tuple[list[Row], Head]:
    async def work(connection: Connection) -> tuple[list[Row], Row | None]:
        page = await connection.fetch(rows.ENTRIES, *scope, after, _LAST, limits.AUDIT_VERIFY_PAGE_ROWS)
        return page, await connection.fetchrow(rows.HEAD, *scope)

    page, row = await database.transact(work, snapshot=True)
    if row is None:
        raise headless()
    return page, Head(*row)


_LAST = (1 << 63) - 1


class _Tree:
    """The tree that the entries make, held against what is known of it."""

    def __init__(self, known: Sequence[KnownState]) -> None:
        self._known = sorted(known)
        self._next = 0
        self._agreed = 0
        self._frontier = Frontier()
        self._nodes: dict[Node, bytes] = {}

    @property
    def root(self) -> bytes:
        return self._frontier.root()

    def append(self, leaf: bytes) -> None:
        frontier = self._frontier
        frontier.append(leaf_hash(leaf), self._completed)
        while self._next < len(self._known) and self._known[self._next].size == frontier.size:
            state = self._known[self._next]
            if not hmac.compare_digest(state.root, frontier.root()):
                raise tampered(
                    f"an audit entry of {self._agreed + 1} to {state.size} is not the one that {state.place} speaks of"
                )
            self._agreed, self._next = state.size, self._next + 1

    def _completed(self, level: int, position: int, octets: bytes) -> None:
        if level % limits.AUDIT_NODE_LEVELS == 0:
            self._nodes[Node(level, position)] = octets

    def check_head(self, head: Head, key: bytes) -> None:
        if head.seq == 0 and not head.seal:
            return
        edge = self._frontier.to_bytes()
        if (
            head.tree_size != head.seq
            or not hmac.compare_digest(head.frontier, edge)
            or not hmac.compare_digest(head.seal, seal_of(key, head.seq, head.mac, edge))
        ):
            raise tampered("the audit chain's head was altered")

    def check_nodes(self, stored: Sequence[Row]) -> None:
        held = {Node(row["level"], row["position"]): row["hash"] for row in stored}
        wrong = sorted(node for node in held.keys() | self._nodes.keys() if held.get(node) != self._nodes.get(node))
        if wrong:
            level, position = wrong[0]
            first = (position << level) + 1
            raise tampered(f"the stored tree over audit entries {first} to {first + (1 << level) - 1} was altered")

    def check_end(self) -> None:
        if self._next < len(self._known):
            state = self._known[-1]
            raise tampered(
                f"audit entry {self._frontier.size + 1} is missing, as {state.place} knows of {state.size} entries"
            )


def headless() -> AuditTampered:
    """What is said where a tenant's log has no head."""
    return AuditTampered("the audit chain's head is missing", "restore the database from a backup")
