"""How entries, nodes and the head of the log lie in the database: statements, and rows made values.

It deliberately decides nothing; ``log`` appends, ``verification`` and ``proofs`` read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from einthoven_server.audit.chain import Entry, Event
from einthoven_server.audit.merkle import Node
from einthoven_server.database import Row

# One round trip: the entries and the head that counts them are one statement.
APPEND: Final = """
WITH written AS (
    INSERT INTO audit_entry (shard, tenant, seq, at_ms, actor, operation, patient, outcome, role, resource,
                             resource_id, purpose, others, previous, mac, form)
    SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                                 $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[],
                                 $15::bytea[], $16::smallint[])
)
UPDATE audit_head SET seq = $17, mac = $18, tree_size = $17, frontier = $19, seal = $20
WHERE shard = $1 AND tenant = $2
"""
SET_TREE: Final = "UPDATE audit_head SET tree_size = $3, frontier = $4, seal = $5 WHERE shard = $1 AND tenant = $2"
ADD_NODES: Final = """
INSERT INTO audit_node SELECT $1, $2, * FROM unnest($3::smallint[], $4::bigint[], $5::bytea[])
ON CONFLICT DO NOTHING
"""
HEAD: Final = "SELECT seq, mac, tree_size, frontier, seal FROM audit_head WHERE shard = $1 AND tenant = $2"
ENTRIES: Final = """
SELECT seq, at_ms, actor, operation, patient, outcome, role, resource, resource_id, purpose, others, previous, mac, form
FROM audit_entry WHERE shard = $1 AND tenant = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5
"""
NODES: Final = """
SELECT hash FROM audit_node WHERE shard = $1 AND tenant = $2 AND level = $3 AND position >= $4 AND position < $5
ORDER BY position
"""
ALL_NODES: Final = "SELECT level, position, hash FROM audit_node WHERE shard = $1 AND tenant = $2"
_BETWEEN_IDS: Final = " "


class Head(NamedTuple):
    """The end of a log: position and MAC of its last entry, and its tree's size, frontier and the MAC over all."""

    seq: int
    mac: bytes
    tree_size: int
    frontier: bytes
    seal: bytes


def entry_of(row: Row) -> Entry:
    """The entry of a row of ``ENTRIES``."""
    (
        seq,
        at_ms,
        actor,
        operation,
        patient,
        outcome,
        role,
        resource,
        resource_id,
        purpose,
        others,
        previous,
        mac,
        form,
    ) = row
    further = tuple(others.split(_BETWEEN_IDS)) if others else ()
    event = Event(at_ms, actor, operation, patient, outcome, role, resource, resource_id, purpose, further)
    return Entry(seq, event, previous, mac, form)


def columns_of(entries: Sequence[Entry]) -> list[list[Any]]:
    """Entries as the arrays that ``APPEND`` takes.

    Raises:
        ValueError: An id holds a space, or is empty.
    """
    rows = []
    for seq, event, previous, mac, form in entries:
        if any(not one or _BETWEEN_IDS in one for one in event.others):
            raise ValueError("ids of patients concerned hold no space and are not empty")
        rows.append((seq, *event[:-1], _BETWEEN_IDS.join(event.others), previous, mac, form))
    return [list(column) for column in zip(*rows, strict=True)]


def node_columns(nodes: Sequence[tuple[Node, bytes]]) -> list[list[Any]]:
    """Nodes as the arrays that ``ADD_NODES`` takes."""
    return [
        [node.level for node, _ in nodes],
        [node.position for node, _ in nodes],
        [octets for _, octets in nodes],
    ]
