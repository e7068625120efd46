"""What keeps keys, and what remembers where a store stood: ports (``ports``).

It deliberately holds no code that does anything.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

MAX_ANCHOR_RECORD_BYTES: Final = 256
"""Bytes of an anchor's record."""


class KeyProvider(Protocol):
    """Holds the wrapping key of a store: what opens its data key. It lies outside the store's file and its backups."""

    @property
    def destroy_is_final(self) -> bool:
        """Whether after ``destroy`` nobody can make the wrapping key again, whatever they remember or kept."""
        ...

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """Encrypt a 32-byte data key for one store; makes the wrapping key on first use where that is allowed.

        Raises:
            KeyUnavailable: There is no wrapping key, or it may not be used.
        """
        ...

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """Return the 32-byte data key.

        Raises:
            KeyUnavailable: There is no wrapping key, or it may not be used.
            WrongKey: It was not wrapped by this key, not for this store, or its bytes are damaged.
        """
        ...

    def destroy(self) -> None:
        """Forget the wrapping key for good: nothing that it wrapped can be opened again. Twice is allowed.

        Raises:
            KeyUnavailable: It could not be destroyed.
        """
        ...


@runtime_checkable
class HoldsRawKey(Protocol):
    """A provider whose key itself encrypted stores of version 1; such a store is adopted when it is opened."""

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, or others can read it.
        """
        ...


class Vault(Protocol):
    """Small secrets by name in the platform's own keeping (OS keyring, Keychain)."""

    def get(self, name: str) -> bytes | None:
        """The secret of this name.

        Raises:
            KeyUnavailable: The vault is locked, or not to be had.
        """
        ...

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret, in place of what was there; durable on return.

        Raises:
            KeyUnavailable: See ``get``.
        """
        ...

    def delete(self, name: str) -> None:
        """Forget a secret; one that is not there is no error.

        Raises:
            KeyUnavailable: See ``get``.
        """
        ...


class Anchor(Protocol):
    """One small record outside the store's file, by which a file that was turned back is known.

    Every method may raise ``StoreIOError``.
    """

    def read(self) -> bytes | None:
        """The record that was written last and is whole; ``None`` if there is none."""
        ...

    def write(self, record: bytes, *, durable: bool) -> None:
        """Keep a record in place of the last; a crash leaves one or the other.

        Args:
            record: ``MAX_ANCHOR_RECORD_BYTES`` at most.
            durable: On return it survives a power cut; otherwise, a crash of the process.
        """
        ...

    def destroy(self) -> None:
        """Remove every trace. Twice is allowed."""
        ...
