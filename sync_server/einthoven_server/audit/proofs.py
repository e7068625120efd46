"""Proofs from the stored tree: that an entry is in the log, and that a log grew from what it was.

It deliberately trusts nothing it reads: whoever gets a proof verifies it against a signed checkpoint.

Invariants:
    1. A proof reads no more than some hundred stored nodes a level, and 256 entries at each end of a span.
"""

from __future__ import annotations

from einthoven_server import limits
from einthoven_server.audit import rows
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.merkle import (
    EMPTY_ROOT,
    Node,
    Span,
    consistency_spans,
    fold,
    inclusion_spans,
    leaf_hash,
    node_hash,
    nodes_of,
)
from einthoven_server.database import Connection
from einthoven_server.errors import AuditTampered, NotFound


class Proofs:
    """Reads proofs from a log.

    Args:
        log: The log.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def inclusion(self, seq: int, size: int) -> tuple[bytes, list[bytes]]:
        """Prove that entry ``seq`` is one of the first ``size``.

        Returns:
            The entry's leaf hash, and the proof.

        Raises:
            NotFound: There is no such entry, or the log is not as long.
            Busy: The database can't be reached.
        """
        if not 0 < seq <= size:
            raise _outside()

        async def work(connection: Connection) -> tuple[bytes, list[bytes]]:
            await self._require(connection, size)
            leaf = await self._node(connection, Node(0, seq - 1))
            return leaf, [await self._span(connection, span) for span in inclusion_spans(seq - 1, size)]

        return await self._log.database.transact(work, snapshot=True)

    async def consistency(self, first: int, second: int) -> list[bytes]:
        """Prove that the log of ``second`` entries grew from the one of ``first``.

        Raises:
            NotFound: The log is not as long, or there is nothing to prove.
            Busy: The database can't be reached.
        """
        if not 0 < first <= second:
            raise _outside()

        async def work(connection: Connection) -> list[bytes]:
            await self._require(connection, second)
            return [await self._span(connection, span) for span in consistency_spans(first, second)]

        return await self._log.database.transact(work, snapshot=True)

    async def root(self, size: int) -> bytes:
        """The tree's hash when it had ``size`` leaves.

        Raises:
            NotFound: The log is not as long.
            Busy: The database can't be reached.
        """

        async def work(connection: Connection) -> bytes:
            await self._require(connection, size)
            return await self._span(connection, Span(0, size)) if size else EMPTY_ROOT

        return await self._log.database.transact(work, snapshot=True)

    async def _require(self, connection: Connection, size: int) -> None:
        row = await connection.fetchrow(rows.HEAD, *self._log.scope)
        if row is None or not 0 <= size <= row["seq"]:
            raise _outside()

    async def _span(self, connection: Connection, span: Span) -> bytes:
        return fold([await self._node(connection, node) for node in nodes_of(span)])

    async def _node(self, connection: Connection, node: Node) -> bytes:
        """The hash of a complete subtree, from the largest stored ones below it."""
        stored = node.level - node.level % limits.AUDIT_NODE_LEVELS
        wanted = 1 << (node.level - stored)
        first = node.position * wanted
        if stored:
            found = await connection.fetch(rows.NODES, *self._log.scope, stored, first, first + wanted)
            level: list[bytes] = [row["hash"] for row in found]
        else:
            found = await connection.fetch(rows.ENTRIES, *self._log.scope, first, first + wanted, wanted)
            level = [leaf_hash(rows.entry_of(row).leaf) for row in found]
        if len(level) != wanted:
            raise AuditTampered("a part of the audit log is missing", "run einthoven-server audit verify")
        while len(level) > 1:
            level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
        return level[0]


def _outside() -> NotFound:
    return NotFound("the audit log has no such entry, or is not as long", "see /v1/audit/checkpoint for its length")
