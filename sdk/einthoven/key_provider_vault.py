"""KeyProvider on a vault: the platform's own keeping (OS keyring, Keychain) holds the wrapping key.

It deliberately knows no platform; see the ``vault_`` modules.

Invariants:
    1. The wrapping key is 32 random bytes, made to wrap, never to unwrap: a new key could open nothing.
    2. See ``vault_key``: never overwritten, and gone when it was destroyed.
"""

from __future__ import annotations

from typing import Final

from einthoven.errors import KeyUnavailable
from einthoven.keys import unwrap_raw, wrap_raw
from einthoven.ports import Vault
from einthoven.vault_key import VaultKey


class VaultKeyProvider:
    """Wraps with a key that a vault keeps.

    Attributes:
        destroy_is_final: ``True``, as far as the vault's own backups forget as well.
    """

    destroy_is_final: Final = True

    def __init__(self, vault: Vault, name: str) -> None:
        """Name the key; the vault is not asked yet.

        Args:
            vault: Keeps the wrapping key.
            name: The key's name there; one for each store, or erasing one store loses them all.
        """
        self._key = VaultKey(vault, name)
        self._name = name
        self._destroyed = False

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``; makes the wrapping key if there is none."""
        return wrap_raw(self._kept().read_or_make(), data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return unwrap_raw(self._kept().read(), wrapped, store_id)

    def destroy(self) -> None:
        """Have the vault forget the key. This provider makes no other afterwards; a new one may.

        Raises:
            KeyUnavailable: The vault does not answer, or still has it.
        """
        self._key.destroy()
        self._destroyed = True

    def _kept(self) -> VaultKey:
        if self._destroyed:
            raise KeyUnavailable(f"the vault's key {self._name!r} was destroyed", "make a new store with a new key")
        return self._key

    def __repr__(self) -> str:
        return f"VaultKeyProvider(name={self._name!r})"
