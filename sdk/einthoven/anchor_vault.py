"""Anchor in a vault: the record by which a file that was turned back is known, out of reach of who restores files.

It deliberately keeps only what must be durable. A vault costs milliseconds and may wake another process, and the store
writes a record after every commit.

Invariants:
    1. ``read`` gives the last record that was written durably. The store's file may be ahead of it, as after a crash.
    2. It raises ``StoreIOError`` where the vault does not answer, as the port says.

Stated limit: a file that is turned back to between the last durable record and the present one is not noticed. The
store writes durably when it is opened and closed, and before rows leave the device.
"""

from __future__ import annotations

from einthoven.errors import KeyUnavailable, StoreIOError
from einthoven.ports import MAX_ANCHOR_RECORD_BYTES, Vault


class VaultAnchor:
    """One record in a vault."""

    def __init__(self, vault: Vault, name: str) -> None:
        """Name the record; the vault is not asked yet.

        Args:
            vault: Keeps it.
            name: Its name there; one for each store.
        """
        self._vault = vault
        self._name = name

    def read(self) -> bytes | None:
        """See ``Anchor``."""
        try:
            return self._vault.get(self._name)
        except KeyUnavailable as error:
            raise _failed("read", error) from error

    def write(self, record: bytes, *, durable: bool) -> None:
        """See ``Anchor``; does nothing unless ``durable``.

        Raises:
            ValueError: The record is empty or too long.
            StoreIOError: The vault does not answer.
        """
        if not 1 <= len(record) <= MAX_ANCHOR_RECORD_BYTES:
            raise ValueError(f"an anchor's record has 1-{MAX_ANCHOR_RECORD_BYTES} bytes, not {len(record)}")
        if not durable:
            return
        try:
            self._vault.put(self._name, record)
        except KeyUnavailable as error:
            raise _failed("written", error) from error

    def destroy(self) -> None:
        """See ``Anchor``."""
        try:
            self._vault.delete(self._name)
        except KeyUnavailable as error:
            raise _failed("destroyed", error) from error

    def __repr__(self) -> str:
        return f"VaultAnchor(name={self._name!r})"


def _failed(verb: str, error: KeyUnavailable) -> StoreIOError:
    return StoreIOError(f"the store's anchor can't be {verb}: {error.problem}", error.remedy)
