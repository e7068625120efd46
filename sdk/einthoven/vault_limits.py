"""What every vault takes: the least common of the platforms' own limits.

Pure. It deliberately has no limit on how many secrets there are.
"""

from __future__ import annotations

from typing import Final

MAX_SECRET_BYTES: Final = 512
"""Longest secret: in base64 and UTF-16 it fits Windows' 2,560 bytes, the tightest of the platforms."""
MAX_NAME_CHARACTERS: Final = 128
"""Longest name of a secret."""


def checked_name(name: str) -> str:
    """Return ``name`` if every vault can take it.

    Raises:
        ValueError: It is empty, too long, or holds a control character.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise ValueError(f"the name of a secret has 1-{MAX_NAME_CHARACTERS} printable characters")
    return name


def checked_secret(secret: bytes) -> bytes:
    """Return ``secret`` if every vault can take it.

    Raises:
        ValueError: It is empty or too long.
    """
    if not 1 <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret has 1-{MAX_SECRET_BYTES} bytes, not {len(secret)}")
    return bytes(secret)
