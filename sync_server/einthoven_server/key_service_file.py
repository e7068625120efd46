"""A key-encryption key (AES-256) in a file of mode 0600.

It deliberately offers no rotation yet; the file is what to back up apart from the database.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from einthoven_server import envelope
from einthoven_server.errors import KeyUnavailable
from einthoven_server.private_files import read_or_make


class FileKeyService:
    """``KeyService`` over a file; makes the file on first use.

    Args:
        path: Where the 32 bytes are, as 64 hexadecimal digits.

    Raises:
        KeyUnavailable: Missing afterwards, damaged, or open to others.
    """

    def __init__(self, path: Path) -> None:
        text = read_or_make(path, lambda: secrets.token_bytes(envelope.KEY_BYTES).hex().encode() + b"\n")
        try:
            key = bytes.fromhex(text.decode("ascii").strip())
        except ValueError as error:
            raise KeyUnavailable(f"{path.name} is damaged", "restore it from a backup") from error
        if len(key) != envelope.KEY_BYTES:
            raise KeyUnavailable(f"{path.name} does not hold {envelope.KEY_BYTES} bytes", "restore it from a backup")
        self._key = envelope.Key(key)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to ``context``."""
        return self._key.seal(key, context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            EnvelopeRefused: Another key-encryption key, another context, or damage.
        """
        return self._key.open(wrapped, context)
