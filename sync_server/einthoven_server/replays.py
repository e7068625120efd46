"""What may count once, remembered across nodes: ids of assertions and proofs (RFC 7523 ``jti``, RFC 9449).

It deliberately does not know what a claim stands for.

Invariants:
    1. Of any number that claim the same id at once, on whatever node, exactly one is told that it is fresh: the
       database's primary key decides.
    2. A claim that is rolled back was not made.
"""

from __future__ import annotations

from collections.abc import Sequence

from einthoven_server.database import Connection, Database, Scope
from einthoven_server.single_use import Claim

_CLAIM = """
INSERT INTO token_jti SELECT $1, $2, * FROM unnest($3::bytea[], $4::bigint[])
ON CONFLICT DO NOTHING RETURNING jti_hash
"""


async def claim_all(connection: Connection, scope: Scope, claims: Sequence[Claim]) -> bool:
    """Claim all, within a transaction; return whether every one was fresh. Roll back if not."""
    # In one order, so that two that claim the same two do not wait for each other.
    ordered = sorted(set(claims))
    if len(ordered) != len(claims):
        return False
    fresh = await connection.fetch(
        _CLAIM, *scope, [each.jti_hash for each in ordered], [each.expires_at_ms for each in ordered]
    )
    return len(fresh) == len(ordered)


async def claim_fresh(connection: Connection, scope: Scope, claims: Sequence[Claim | None]) -> list[bool]:
    """Claim for many requests, within a transaction; return for each whether its claim, if any, was fresh.

    Of equal ones among them, the first is.
    """
    wanted = sorted({each for each in claims if each is not None})
    if not wanted:
        return [True] * len(claims)
    rows = await connection.fetch(
        _CLAIM, *scope, [each.jti_hash for each in wanted], [each.expires_at_ms for each in wanted]
    )
    left, fresh = {row["jti_hash"] for row in rows}, []
    for each in claims:
        fresh.append(each is None or each.jti_hash in left)
        if each is not None:
            left.discard(each.jti_hash)
    return fresh


async def forget_claims(database: Database, scope: Scope, now_ms: int) -> None:
    """Remove this tenant's claims that have expired."""
    await database.fetch(
        "DELETE FROM token_jti WHERE shard = $1 AND tenant = $2 AND expires_at_ms < $3", *scope, now_ms
    )
