"""KeyProvider on a passphrase, and a half of the key that stays on the device.

The wrapping key is HKDF-SHA256(Argon2id(passphrase, salt), device half). The device half is 32 random bytes in a file
or a vault, outside the store and its backups: a backup can't be guessed at without it, and destroying it makes every
copy of the store unreadable, even to who knows the passphrase. It deliberately prompts for nothing and has no recovery:
who forgets the passphrase or loses the half has lost the store.

Parameters in the wrapped key's header: flags u8 (1: with a device half) | memory u32, KiB | iterations u16 | lanes u8 |
salt (16); big-endian.

Invariants:
    1. A key wrapped with a device half opens only with it, one wrapped without only without: who knows the passphrase
       alone can't make a store that passes for one with a half.
    2. The device half is made to wrap, never to unwrap.
    3. The costs of a wrapped key are checked against the limits of ``passphrases`` before they are paid.
    4. Neither ``repr`` nor a message shows the passphrase.
"""

from __future__ import annotations

import secrets
import struct
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from einthoven.errors import KeyUnavailable, WrongKey
from einthoven.key_file import KeyFile
from einthoven.keys import KEY_BYTES, KIND_PASSPHRASE, seal_key, split_wrapped, unseal_key, wrap_header
from einthoven.passphrases import (
    MIN_CHARACTERS,
    MIN_CHARACTERS_ALONE,
    PASSPHRASE_SALT_BYTES,
    RFC_9106_SECOND,
    Argon2Cost,
    spelled,
    stretched,
)
from einthoven.ports import Vault
from einthoven.vault_key import VaultKey

_PARAMETERS: Final = struct.Struct(f">BIHB{PASSPHRASE_SALT_BYTES}s")
_WITH_HALF: Final = 1
_DOMAIN: Final = b"einthoven/passphrase-and-device-half/1\0"


class _KeptKey(Protocol):
    def read(self) -> bytes: ...

    def read_or_make(self) -> bytes: ...

    def destroy(self) -> None: ...


class PassphraseKeyProvider:
    """Wraps with a passphrase, and a half of the key that the device keeps."""

    def __init__(
        self,
        passphrase: str,
        device_half: Path | str | Vault | None,
        *,
        half_name: str | None = None,
        cost: Argon2Cost = RFC_9106_SECOND,
    ) -> None:
        """Keep a passphrase; nothing is read, made or computed yet.

        Args:
            passphrase: At least 8 characters, or 15 without a device half.
            device_half: File or vault that keeps the other half, made on the first ``wrap``; ``None`` for none, where
                the same passphrase must open the store on another device. Keep it out of the store's backups.
            half_name: Its name, if a vault keeps it; one for each store, or erasing one store loses them all.
            cost: What one guess costs; for what is wrapped from now on.

        Raises:
            KeyUnavailable: The passphrase is too short or too long, or holds a control character.
            ValueError: A vault was given without a name.
        """
        self._half = _kept(device_half, half_name)
        least = MIN_CHARACTERS if self._half else MIN_CHARACTERS_ALONE
        self._passphrase: bytes | None = spelled(passphrase, least)
        self._cost = cost

    @property
    def destroy_is_final(self) -> bool:
        """Whether ``destroy`` makes every copy of the store unreadable: only where there is a device half."""
        return self._half is not None

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``; takes what the cost says, about a quarter of a second by default."""
        passphrase = self._known()
        half = self._half.read_or_make() if self._half else b""
        salt = secrets.token_bytes(PASSPHRASE_SALT_BYTES)
        cost = self._cost
        flags = _WITH_HALF if self._half else 0
        header = wrap_header(
            KIND_PASSPHRASE, _PARAMETERS.pack(flags, cost.memory_kib, cost.iterations, cost.lanes, salt)
        )
        return seal_key(_wrapping_key(passphrase, salt, cost, half), data_key, store_id, header)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``; takes what the wrapped key says."""
        passphrase = self._known()
        header, sealed = split_wrapped(wrapped, KIND_PASSPHRASE, _PARAMETERS.size)
        flags, memory_kib, iterations, lanes, salt = _PARAMETERS.unpack(header[-_PARAMETERS.size :])
        if flags != (_WITH_HALF if self._half else 0):
            raise WrongKey(
                "the store's key was wrapped "
                + ("without the device half that was given" if self._half else "with a device half as well"),
                "give what the store was made with",
            )
        try:
            cost = Argon2Cost(memory_kib, iterations, lanes)
        except ValueError as error:
            raise WrongKey(
                "the store's wrapped key asks for more work than is allowed", "restore it from a backup of the store"
            ) from error
        half = self._half.read() if self._half else b""
        return unseal_key(_wrapping_key(passphrase, salt, cost, half), sealed, store_id, header)

    def destroy(self) -> None:
        """Destroy the device half, and forget the passphrase.

        Without a device half nothing is destroyed that others may not still have: who knows the passphrase opens every
        copy of the store whose ``.keys`` file was copied with it. See ``destroy_is_final``.

        Raises:
            KeyUnavailable: The device half could not be destroyed.
        """
        if self._half:
            self._half.destroy()
        self._passphrase = None

    def _known(self) -> bytes:
        if self._passphrase is None:
            raise KeyUnavailable("the store's key was destroyed", "make a new store with a new key")
        return self._passphrase

    def __repr__(self) -> str:
        return f"PassphraseKeyProvider(<passphrase not shown>, device_half={'kept' if self._half else None})"


def _kept(device_half: Path | str | Vault | None, half_name: str | None) -> _KeptKey | None:
    if device_half is None:
        return None
    if isinstance(device_half, Path | str):
        return KeyFile(Path(device_half))
    if half_name is None:
        raise ValueError("a device half in a vault needs a name: give half_name")
    return VaultKey(device_half, half_name)


def _wrapping_key(passphrase: bytes, salt: bytes, cost: Argon2Cost, half: bytes) -> bytes:
    # The half is HKDF's salt, the key of the extracting HMAC: without either of the two the result is unknown.
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=half or None, info=_DOMAIN)
    return derivation.derive(stretched(passphrase, salt, cost))
