"""The audit log in the database: a keyed chain, and a tree over the same entries.

It deliberately offers no update and no delete.

Invariants:
    1. An event of a write is appended in the write's own transaction: both are there, or neither.
    2. The head's row lock puts appends of a tenant in order; it is taken last in every transaction, so that it can't
       be part of a deadlock.
    3. An append goes on only from a head that the log's key sealed: where someone moved it, nothing is written, and
       operations on patient data are refused (fail closed).
    4. Chain and tree reach equally far, in one transaction; entries of a version without a tree are put into it by
       ``prepare``, which changes nothing of them.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Final

import asyncpg

from einthoven_server import limits
from einthoven_server.audit import rows
from einthoven_server.audit.chain import REPLAYED, Entry, Event, linked, seal_of, tampered
from einthoven_server.audit.merkle import Frontier, Node, leaf_hash
from einthoven_server.audit.rows import Head
from einthoven_server.audit.verification import KnownState, VerifiedLog, headless, verify
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.errors import AuditTampered, Busy, EventRefused
from einthoven_server.replays import claim_fresh
from einthoven_server.single_use import Claim

_UNWRITTEN: Final = ("the audit log can't be written", "try again later", limits.BUSY_RETRY_AFTER_S)


class AuditLog:
    """The log of one tenant.

    Args:
        database: Where it is.
        scope: Shard and tenant.
        key: Its MAC key, 32 bytes.
    """

    def __init__(self, database: Database, scope: Scope, key: bytes) -> None:
        self._database = database
        self._scope = scope
        self._key = key

    @property
    def database(self) -> Database:
        """Where it is."""
        return self._database

    @property
    def scope(self) -> Scope:
        """Shard and tenant."""
        return self._scope

    async def append(self, connection: Connection, events: Sequence[Event]) -> None:
        """Append within a transaction; call it last.

        Raises:
            AuditTampered: The head is missing, or is not one that this log wrote.
        """
        if not events:
            return
        head = await self._locked(connection)
        self._require_sealed(head)
        added = linked(self._key, head.seq, head.mac, events)
        entries = [entry for entry, _ in added]
        frontier = Frontier(head.tree_size, head.frontier)
        await self._grow(connection, frontier, [leaf for _, leaf in added])
        last, edge = entries[-1], frontier.to_bytes()
        await connection.execute(
            rows.APPEND,
            *self._scope,
            *rows.columns_of(entries),
            last.seq,
            last.mac,
            edge,
            seal_of(self._key, last.seq, last.mac, edge),
        )

    async def record(self, event: Event, claim: Claim | None = None) -> bool:
        """Append in a transaction of its own; ``recorder.AuditRecorder`` shares transactions.

        Returns:
            Whether what the request may use once was fresh; see ``record_all``.

        Raises:
            Busy: It can't be written; the caller must not answer with patient data.
        """
        return (await self.record_all([(event, claim)]))[0]

    async def record_all(self, requests: Sequence[tuple[Event, Claim | None]]) -> list[bool]:
        """Append in one transaction; with it, claim what the requests may use once.

        Args:
            requests: Event of each, and what it claims.

        Returns:
            Whether each one's claim was fresh, or there was none. If not, the entry's outcome is ``REPLAYED``, and the
            caller must refuse the request.

        Raises:
            EventRefused: One of them is what the database does not take.
            Busy: They can't be written.
        """

        async def work(connection: Connection) -> list[bool]:
            fresh = await claim_fresh(connection, self._scope, [claim for _, claim in requests])
            await self.append(
                connection,
                [
                    event if good else event._replace(outcome=REPLAYED)
                    for (event, _), good in zip(requests, fresh, strict=True)
                ],
            )
            return fresh

        try:
            return await self._database.transact(work, plain=True)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError) as error:
            raise EventRefused(*_UNWRITTEN) from error
        except (Busy, AuditTampered, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Busy(*_UNWRITTEN, "audit_unavailable") from error

    async def head(self) -> Head:
        """How far it reaches.

        Raises:
            AuditTampered: The head is missing, or is not one that this log wrote.
            Busy: The database can't be reached.
        """
        row = await self._database.fetchrow(rows.HEAD, *self._scope)
        if row is None:
            raise headless()
        head = Head(*row)
        self._require_sealed(head)
        return head

    async def prepare(self) -> int:
        """Put entries of a version without a tree into the tree.

        Returns:
            How many were put there.

        Raises:
            Busy: The database can't be reached.
        """
        total = 0
        while done := await self._database.transact(self._catch_up):
            total += done
        return total

    async def verify(
        self, known: Sequence[KnownState] = (), on_entry: Callable[[Entry], None] | None = None
    ) -> VerifiedLog:
        """Check the whole log; see ``verification.verify``.

        Raises:
            AuditTampered: Names the first entry that does not hold.
            Busy: The database can't be reached.
        """
        return await verify(self._database, self._scope, self._key, known, on_entry)

    def _require_sealed(self, head: Head) -> None:
        if head.seq == 0 and not head.seal and not head.tree_size:
            return  # nothing was written yet
        if head.tree_size != head.seq or not hmac.compare_digest(
            head.seal, seal_of(self._key, head.seq, head.mac, head.frontier)
        ):
            raise tampered("the audit chain's head was altered")

    def _begun(self, head: Head) -> bool:
        """Whether putting entries of before into the tree was not begun, or was begun by this log."""
        if head.tree_size == 0:
            return not head.seal
        return hmac.compare_digest(head.seal, seal_of(self._key, head.tree_size, head.mac, head.frontier))

    async def _locked(self, connection: Connection) -> Head:
        row = await connection.fetchrow(rows.HEAD + " FOR UPDATE", *self._scope)
        if row is None:
            raise headless()
        return Head(*row)

    async def _grow(self, connection: Connection, frontier: Frontier, leaves: Sequence[bytes]) -> None:
        nodes: list[tuple[Node, bytes]] = []

        def completed(level: int, position: int, octets: bytes) -> None:
            if level % limits.AUDIT_NODE_LEVELS == 0:
                nodes.append((Node(level, position), octets))

        for leaf in leaves:
            frontier.append(leaf_hash(leaf), completed)
        if nodes:
            await connection.execute(rows.ADD_NODES, *self._scope, *rows.node_columns(nodes))

    async def _catch_up(self, connection: Connection) -> int:
        head = await self._locked(connection)
        if head.tree_size >= head.seq or not self._begun(head):
            return 0
        page = await connection.fetch(
            rows.ENTRIES, *self._scope, head.tree_size, head.seq, limits.AUDIT_VERIFY_PAGE_ROWS
        )
        if not page:
            return 0
        frontier = Frontier(head.tree_size, head.frontier)
        await self._grow(connection, frontier, [rows.entry_of(row).leaf for row in page])
        edge = frontier.to_bytes()
        seal = seal_of(self._key, frontier.size, head.mac, edge)
        await connection.execute(rows.SET_TREE, *self._scope, frontier.size, edge, seal)
        return len(page)
