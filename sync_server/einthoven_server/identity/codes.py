"""One-time enrolment codes and tries at them. Pure: no clock, no database.

A code's secret is a selector, by which the server finds it and counts wrong tries, and a verifier, of which the server
keeps only a hash.

Invariants:
    1. A code is good once, until it expires, and dead after ``ENROLMENT_WRONG_TRIES_MAX`` wrong verifiers.
    2. Who does not have the verifier learns nothing: unknown, wrong and dead look the same.
    3. Verifiers are compared in constant time, also where there is no code.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from einthoven_server import limits

SELECTOR_BYTES: Final = 8
VERIFIER_BYTES: Final = 24
_NO_HASH: Final = bytes(32)


class Secret(NamedTuple):
    """The two parts of a code's secret."""

    selector: bytes
    verifier: bytes


def new_secret() -> Secret:
    """A random secret."""
    return Secret(secrets.token_bytes(SELECTOR_BYTES), secrets.token_bytes(VERIFIER_BYTES))


def split(secret: bytes) -> Secret:
    """The two parts of a presented secret, of whatever length it is."""
    return Secret(secret[:SELECTOR_BYTES], secret[SELECTOR_BYTES:])


def hash_verifier(verifier: bytes) -> bytes:
    """What the database keeps, 32 bytes; the verifier has 192 random bits and needs no slow hash."""
    return hashlib.sha256(b"einthoven enrolment verifier 1\0" + verifier).digest()


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A code as the database has it.

    Attributes:
        patient_id: Whom a device enrolled with it belongs to.
        secret_hash: ``hash_verifier`` of its verifier.
        expires_at_ms: UTC, ms since 1970.
        wrong_tries: Wrong verifiers so far.
        used_by: Device id, once used.
    """

    patient_id: str
    secret_hash: bytes
    expires_at_ms: int
    wrong_tries: int
    used_by: str | None


class Try(Enum):
    """What became of a try."""

    GOOD = auto()
    WRONG = auto()
    """Unknown, wrong or dead."""
    EXPIRED = auto()
    USED = auto()


def judge(stored: StoredCode | None, verifier: bytes, now_ms: int) -> Try:
    """Judge a presented verifier."""
    equal = hmac.compare_digest(hash_verifier(verifier), _NO_HASH if stored is None else stored.secret_hash)
    if stored is None or not equal or stored.wrong_tries >= limits.ENROLMENT_WRONG_TRIES_MAX:
        return Try.WRONG
    if now_ms >= stored.expires_at_ms:
        return Try.EXPIRED
    return Try.USED if stored.used_by is not None else Try.GOOD


class TryLimit:
    """A bucket of wrong tries that refills with time; who guesses empties it.

    Args:
        tries_a_minute: How many it holds and refills in a minute.
    """

    def __init__(self, tries_a_minute: int = limits.ENROLMENT_WRONG_TRIES_A_MINUTE) -> None:
        self._capacity = tries_a_minute
        self._left = float(tries_a_minute)
        self._at_ms = 0

    def wait_s(self, now_ms: int) -> int:
        """Whole seconds to wait before another try; 0 for none."""
        self._refill(now_ms)
        return 0 if self._left >= 1 else max(1, round((1 - self._left) * 60 / self._capacity))

    def count_wrong(self, now_ms: int) -> None:
        """Take one out."""
        self._refill(now_ms)
        self._left = max(0.0, self._left - 1)

    def _refill(self, now_ms: int) -> None:
        elapsed_ms = max(0, now_ms - self._at_ms)
        self._left = min(self._capacity, self._left + elapsed_ms * self._capacity / 60_000)
        self._at_ms = max(self._at_ms, now_ms)
