"""The store's keys: what makes one usable, how it is spelled for SQLCipher, and how one key wraps another.

A random data key opens the file. It is kept wrapped: encrypted under a wrapping key that a ``KeyProvider`` holds. Pure
but for its random nonces. It deliberately reads no file (``key_provider_file``) and derives nothing from a passphrase
(``key_provider_passphrase``).

Wrapped key: header (version u8, kind u8, then what that kind of provider needs) | nonce (12) | AES-256-GCM of the data
key (32) | tag (16). Associated data: a domain string, the store's id, the header.

Invariants:
    1. No error message and no ``repr`` holds a byte of a key.
    2. A key is exactly 32 random bytes, used raw: opening costs no key derivation.
    3. A wrapped key opens only with the same wrapping key, for the same store and under the same header; one bit more,
       less or other is refused.
    4. A wrapping key that this process sees is never used as it is: AES runs under HKDF-SHA256 of it and the store's
       id. So a key file that itself encrypted a store of version 1 may wrap the data key of its successor (one key,
       one purpose: NIST SP 800-57 part 1, 5.2), and 2**32 random nonces may be used for each store (SP 800-38D, 8.3).

Stated limit: Python's ``bytes`` and ``str`` can't be wiped, so a key stays in this process's memory until that is
used again.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from einthoven.errors import KeyUnavailable, WrongKey

KEY_BYTES: Final = 32
"""Length of a data key, and of a wrapping key: 256 bits."""
WRAP_VERSION: Final = 1
"""First byte of a wrapped key."""
KIND_RAW: Final = 1
"""Second byte: wrapped by 32 random bytes (file, vault, the application's own)."""
KIND_PASSPHRASE: Final = 2
"""Second byte: wrapped by a passphrase."""
KIND_ANDROID: Final = 3
"""Second byte: wrapped by a key that never leaves the Android Keystore."""
NONCE_BYTES: Final = 12
"""Random nonce of AES-GCM: 96 bits (NIST SP 800-38D, 8.2.2)."""
TAG_BYTES: Final = 16
"""Tag of AES-GCM: 128 bits."""
SEALED_BYTES: Final = NONCE_BYTES + KEY_BYTES + TAG_BYTES
"""What follows the header of a wrapped key."""
STORE_ID_BYTES: Final = 16
"""Length of a store's random name, which a wrapped key is bound to."""

_DOMAIN: Final = b"einthoven/wrapped-data-key/1\0"
_KDF_DOMAIN: Final = b"einthoven/wrapping-key/1\0"


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


def wrap_header(kind: int, parameters: bytes = b"") -> bytes:
    """How a wrapped key begins.

    Args:
        kind: One of the ``KIND_`` constants.
        parameters: What this kind of provider needs to unwrap.
    """
    return bytes((WRAP_VERSION, kind)) + parameters


def associated_data(header: bytes, store_id: bytes) -> bytes:
    """What a wrapped key is bound to.

    Raises:
        ValueError: The store's id has another length.
    """
    if len(store_id) != STORE_ID_BYTES:
        raise ValueError(f"a store id has {STORE_ID_BYTES} bytes, not {len(store_id)}")
    return _DOMAIN + store_id + header


def split_wrapped(wrapped: bytes, kind: int, n_parameter_bytes: int = 0) -> tuple[bytes, bytes]:
    """Header and sealed key of a wrapped key.

    Args:
        wrapped: What ``KeyProvider.wrap`` gave.
        kind: The kind of provider that is asked to unwrap it.
        n_parameter_bytes: Length of that kind's parameters.

    Raises:
        WrongKey: Another kind of provider wrapped it, or a newer version, or it is no wrapped key.
    """
    n_header_bytes = len(wrap_header(kind)) + n_parameter_bytes
    if wrapped[:1] != bytes((WRAP_VERSION,)):
        raise WrongKey("the store's wrapped key is damaged, or of a newer version", "restore its backup, or update")
    if wrapped[1:2] != bytes((kind,)):
        raise WrongKey("the store's key was wrapped by another kind of key provider", "give the one it was made with")
    if len(wrapped) != n_header_bytes + SEALED_BYTES:
        raise WrongKey("the store's wrapped key is damaged", "restore it from a backup of the store")
    return wrapped[:n_header_bytes], wrapped[n_header_bytes:]


def seal_key(wrapping_key: bytes, data_key: bytes, store_id: bytes, header: bytes) -> bytes:
    """Encrypt a data key under a wrapping key, with a fresh nonce; the header comes first.

    Raises:
        KeyUnavailable: One of the keys is none that can be used.
    """
    bound_to = associated_data(header, store_id)
    nonce = secrets.token_bytes(NONCE_BYTES)
    return header + nonce + _cipher(wrapping_key, store_id).encrypt(nonce, checked_key(data_key), bound_to)


def unseal_key(wrapping_key: bytes, sealed: bytes, store_id: bytes, header: bytes) -> bytes:
    """Decrypt what ``seal_key`` put after the header.

    Raises:
        KeyUnavailable: The wrapping key is none that can be used.
        WrongKey: It was sealed by another key, for another store, or its bytes are damaged.
    """
    bound_to = associated_data(header, store_id)
    try:
        opened = _cipher(wrapping_key, store_id).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except InvalidTag as error:
        raise does_not_unwrap() from error
    return checked_key(opened)


def does_not_unwrap() -> WrongKey:
    """The error for a wrapped key that does not open; why is not to be known."""
    return WrongKey(
        "the key does not open the store: it is another key, of another store, or the key slot is damaged",
        "give the key that the store was made with",
    )


def wrap_raw(wrapping_key: bytes, data_key: bytes, store_id: bytes) -> bytes:
    """Wrap a data key by 32 random bytes; see ``KeyProvider.wrap``."""
    return seal_key(wrapping_key, data_key, store_id, wrap_header(KIND_RAW))


def unwrap_raw(wrapping_key: bytes, wrapped: bytes, store_id: bytes) -> bytes:
    """Unwrap what ``wrap_raw`` gave; see ``KeyProvider.unwrap``."""
    header, sealed = split_wrapped(wrapped, KIND_RAW)
    return unseal_key(wrapping_key, sealed, store_id, header)


def _cipher(wrapping_key: bytes, store_id: bytes) -> AESGCM:
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=store_id, info=_KDF_DOMAIN)
    return AESGCM(derivation.derive(checked_key(wrapping_key)))


class StaticKeyProvider:
    """Wraps with a key that the embedding application keeps elsewhere (an HSM, its own Keychain entry).

    Attributes:
        destroy_is_final: ``False``: the application's own copy still opens every copy of the store.
    """

    destroy_is_final: Final = False

    def __init__(self, key: bytes) -> None:
        """Keep a key.

        Raises:
            KeyUnavailable: See ``checked_key``.
        """
        self._key: bytes | None = checked_key(bytes(key))

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: It was destroyed.
        """
        if self._key is None:
            raise KeyUnavailable("the store's key was destroyed", "make a new store with a new key")
        return self._key

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return wrap_raw(self.load(), data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        return unwrap_raw(self.load(), wrapped, store_id)

    def destroy(self) -> None:
        """Forget the key. What the application keeps elsewhere it must destroy itself: that can't be done from here."""
        self._key = None

    def __repr__(self) -> str:
        return "StaticKeyProvider(<key not shown>)"
