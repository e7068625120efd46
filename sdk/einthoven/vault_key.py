"""One 32-byte key under a name in a vault: read, made once, destroyed.

It deliberately does not know what the key is for.

Invariants:
    1. A key that is there is never overwritten.
    2. What is returned is what the vault gives back, not what was handed to it: a vault that forgets is found out
       before anything is encrypted.
    3. After ``destroy`` the vault was asked again and has it no more.

Stated limit: a vault has no "put if absent". Two processes that make a key at the same moment may each return another;
the store's lock keeps its own from doing so.
"""

from __future__ import annotations

import secrets

from einthoven.errors import KeyUnavailable
from einthoven.keys import KEY_BYTES, checked_key
from einthoven.ports import Vault


class VaultKey:
    """One key in one vault."""

    def __init__(self, vault: Vault, name: str) -> None:
        """Name the key; the vault is not asked yet."""
        self._vault = vault
        self._name = name

    def read(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, it is not a key, or the vault does not answer.
        """
        key = self._vault.get(self._name)
        if key is None:
            raise KeyUnavailable(
                f"the vault holds no key {self._name!r}", "open the store where it was made, or under that user"
            )
        return checked_key(key)

    def read_or_make(self) -> bytes:
        """Return the 32-byte key, and make it if there is none.

        Raises:
            KeyUnavailable: It is not a key, or the vault does not answer or does not keep it.
        """
        if self._vault.get(self._name) is None:
            self._vault.put(self._name, secrets.token_bytes(KEY_BYTES))
        return self.read()

    def destroy(self) -> None:
        """Have the vault forget the key; one that is not there is no error.

        Raises:
            KeyUnavailable: The vault does not answer, or still has it.
        """
        self._vault.delete(self._name)
        if self._vault.get(self._name) is not None:
            raise KeyUnavailable(f"the vault still holds the key {self._name!r}", "remove it with the vault's own tool")
