"""The store's data key: what makes one usable, and how it is spelled for SQLCipher.

Pure. It deliberately reads no file (``key_provider_file``) and derives nothing from a passphrase.

Invariants:
    1. No error message and no ``repr`` holds a byte of a key.
    2. A key is exactly 32 random bytes, used raw: opening costs no key derivation.

Stated limit: Python's ``bytes`` and ``str`` can't be wiped, so a key stays in this process's memory until that is
used again.
"""

from __future__ import annotations

from typing import Final

from einthoven.errors import KeyUnavailable

KEY_BYTES: Final = 32
"""Length of a data key: 256 bits."""


def checked_key(key: bytes) -> bytes:
    """Return ``key`` if it is one that can be used.

    Raises:
        KeyUnavailable: Its length is wrong, or all its bytes are equal (a buffer that nobody filled).
    """
    if len(key) != KEY_BYTES:
        raise KeyUnavailable(
            f"the store's key has {len(key)} bytes, not {KEY_BYTES}", "put the right key back from your own backup"
        )
    if len(set(key)) == 1:
        raise KeyUnavailable("the store's key is one byte repeated", "use 32 random bytes")
    return key


def raw_key_literal(key: bytes) -> str:
    """The key as SQLCipher's raw key literal, to be put between double quotes.

    Hexadecimal digits only, so nothing in it can end the literal early.

    Raises:
        KeyUnavailable: See ``checked_key``.
    """
    return f"x'{checked_key(key).hex()}'"


class StaticKeyProvider:
    """Hands out a key that the embedding application keeps elsewhere (Keychain, Keystore, HSM)."""

    def __init__(self, key: bytes) -> None:
        """Keep a key.

        Raises:
            KeyUnavailable: See ``checked_key``.
        """
        self._key = checked_key(bytes(key))

    def load(self) -> bytes:
        """Return the 32-byte key."""
        return self._key

    def __repr__(self) -> str:
        return "StaticKeyProvider(<key not shown>)"
