"""What may count once, as a value: the id of an assertion or a proof (``jti``). Pure; ``replays`` remembers them.

It deliberately keeps an id's hash alone, and does not know what it stands for.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Claim(NamedTuple):
    """An id that may count once.

    Attributes:
        jti_hash: ``claim``'s hash of it, 32 bytes.
        expires_at_ms: After this what carries it would be refused for its age, ms since 1970.
    """

    jti_hash: bytes
    expires_at_ms: int


def claim(kind: str, holder: str, jti: str, expires_at_ms: int) -> Claim:
    """Name an id: two holders, or two kinds, may use the same one.

    Args:
        kind: What carries it.
        holder: Who made it.
        jti: The id itself.
        expires_at_ms: How long it has to be remembered, ms since 1970.
    """
    parts = (part.encode("utf-8", "surrogatepass") for part in (kind, holder, jti))
    named = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return Claim(hashlib.sha256(named).digest(), expires_at_ms)
