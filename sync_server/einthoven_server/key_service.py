"""The port to whoever holds the key-encryption key: a file, an HSM, a cloud's key service."""

from __future__ import annotations

from typing import Protocol


class KeyService(Protocol):
    """Wraps data keys; the key-encryption key never leaves it."""

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt a data key, bound to ``context``."""
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            EnvelopeRefused: Another key-encryption key, another context, or damage.
        """
        ...
