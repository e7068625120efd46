"""Authenticated encryption of what is at rest: AES-256-GCM, bound to the place where the ciphertext lies.

It deliberately keeps no keys and reads no database.

Invariants:
    1. A ciphertext opens only with the same key and the same place: tenant, patient, table, column, row, key version.
    2. A sealed value is: form byte (1), 96-bit random nonce, ciphertext, 128-bit tag (NIST SP 800-38D). What a later
       version of a patient's key sealed has form 2 and the version (uint32) before the nonce: a value says itself which
       key opens it, and its additional data binds what it says. Form 1 is version 1.
    3. Places are encoded with lengths, so that no two places have the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from einthoven_server.errors import EnvelopeRefused

KEY_BYTES: Final = 32
FIRST_VERSION: Final = 1
"""Of a patient's data key."""
_VERSION: Final = b"\x01"
_LABELLED: Final = b"\x02"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class Place(NamedTuple):
    """Where a ciphertext lies.

    Attributes:
        tenant: Tenant id.
        patient: Opaque patient id, ``""`` for what is the tenant's.
        table: Table name.
        column: Column name.
        row: The row's key within the table.
        key_version: Version of the data key.
    """

    tenant: str
    patient: str
    table: str
    column: str
    row: str
    key_version: int

    def to_bytes(self) -> bytes:
        """Unambiguous bytes, used as additional authenticated data."""
        parts = [text.encode() for text in self[:5]]
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts) + self.key_version.to_bytes(4, "big")


class Key:
    """One AES-256 key.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt; a fresh nonce each time."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, associated)

    def seal_all(self, plaintexts: Iterable[tuple[bytes, bytes]], count: int) -> list[bytes]:
        """Encrypt ``count`` pairs of a plaintext and its associated data; a fresh nonce each."""
        nonces, encrypt = os.urandom(_NONCE_BYTES * count), self._cipher.encrypt
        sealed = []
        for (plaintext, associated), at in zip(plaintexts, range(0, len(nonces), _NONCE_BYTES), strict=True):
            nonce = nonces[at : at + _NONCE_BYTES]
            sealed.append(_VERSION + nonce + encrypt(nonce, plaintext, associated))
        return sealed

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt.

        Raises:
            EnvelopeRefused: Anything but what ``seal`` gave for this key and ``associated``.
        """
        if len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
            raise EnvelopeRefused("a stored value is not in a known form", "restore the database from a backup")
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated)
        except InvalidTag as error:
            raise EnvelopeRefused(
                "a stored value does not belong where it lies, or is under another key",
                "restore the database and the key file that belongs to it",
            ) from error


class PatientKey:
    """A patient's data keys, which seal values of that patient only: one version seals, each that is known opens.

    Args:
        tenant: Tenant id.
        patient: Opaque patient id.
        version: Version that seals.
        key: 32 bytes of that version.
        others: The other versions that are still there, or about to seal, by their number.
    """

    __slots__ = ("_keys", "_sealing", "patient", "tenant", "version")

    def __init__(
        self, tenant: str, patient: str, version: int, key: bytes, others: Mapping[int, bytes] | None = None
    ) -> None:
        self.tenant = tenant
        self.patient = patient
        self.version = version
        self._sealing = Key(key)
        self._keys = {number: Key(other) for number, other in (others or {}).items()} | {version: self._sealing}

    @property
    def versions(self) -> frozenset[int]:
        """Which versions it opens."""
        return frozenset(self._keys)

    def seal(self, plaintext: bytes, table: str, column: str, row: str) -> bytes:
        """Encrypt a value of one row."""
        place = Place(self.tenant, self.patient, table, column, row, self.version)
        return _labelled(self.version, self._sealing.seal(plaintext, place.to_bytes()))

    def seal_all(self, plaintexts: Sequence[bytes], table: str, column: str, rows: Sequence[str]) -> list[bytes]:
        """Encrypt a column's values of many rows: the same as ``seal`` of each, for less."""
        # The place of every row begins and ends alike.
        begin, end = self._around(table, column, self.version)
        places = (begin + len(row).to_bytes(4, "big") + row.encode("ascii") + end for row in rows)
        sealed = self._sealing.seal_all(zip(plaintexts, places, strict=True), len(plaintexts))
        return sealed if self.version == FIRST_VERSION else [_labelled(self.version, one) for one in sealed]

    def open_all(self, sealed: Sequence[bytes], table: str, column: str, rows: Sequence[str]) -> list[bytes]:
        """Decrypt a column's values of many rows, whichever version each was sealed with.

        Raises:
            EnvelopeRefused: One was not sealed for this patient and row.
        """
        around: dict[int, tuple[bytes, bytes, Key]] = {}
        opened = []
        for value, row in zip(sealed, rows, strict=True):
            version, unlabelled = _unlabelled(value)
            if version not in around:
                around[version] = (*self._around(table, column, version), self._key_of(version))
            begin, end, key = around[version]
            opened.append(key.open(unlabelled, begin + len(row).to_bytes(4, "big") + row.encode("ascii") + end))
        return opened

    def open(self, sealed: bytes, table: str, column: str, row: str) -> bytes:
        """Decrypt a value of one row, whichever version it was sealed with.

        Raises:
            EnvelopeRefused: The value was not sealed for this patient and row.
        """
        version, unlabelled = _unlabelled(sealed)
        place = Place(self.tenant, self.patient, table, column, row, version)
        return self._key_of(version).open(unlabelled, place.to_bytes())

    def _around(self, table: str, column: str, version: int) -> tuple[bytes, bytes]:
        octets = Place(self.tenant, self.patient, table, column, "", version).to_bytes()
        return octets[:-8], octets[-4:]

    def _key_of(self, version: int) -> Key:
        key = self._keys.get(version)
        if key is None:
            raise EnvelopeRefused(
                "a stored value is under a data key that is gone", "restore the database from a backup"
            )
        return key


def version_of(sealed: bytes) -> int:
    """The version of the patient's key that a value was sealed with.

    Raises:
        EnvelopeRefused: It has no form that is known.
    """
    return _unlabelled(sealed)[0]


def _labelled(version: int, sealed: bytes) -> bytes:
    return sealed if version == FIRST_VERSION else _LABELLED + version.to_bytes(4, "big") + sealed[1:]


def _unlabelled(sealed: bytes) -> tuple[int, bytes]:
    if sealed[:1] != _LABELLED:
        return FIRST_VERSION, sealed
    version = int.from_bytes(sealed[1:5], "big")
    if version <= FIRST_VERSION:
        raise EnvelopeRefused("a stored value is not in a known form", "restore the database from a backup")
    return version, _VERSION + sealed[5:]
