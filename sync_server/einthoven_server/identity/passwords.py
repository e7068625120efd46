"""Passwords: which are taken, and their hashes (Argon2id, RFC 9106).

It deliberately asks for no capital letter and no digit, and makes no password expire (NIST SP 800-63B-4, section
3.1.1.2): length, and nothing of what somebody would guess first.

Invariants:
    1. At most ``PASSWORDS_AT_ONCE`` are hashed at a time, each in a thread, and ``PASSWORDS_WAITING_MAX``
       more wait; beyond it is refused.
    2. The same characters make the same password however a keyboard composes them (NFKC).
    3. Verifying takes the same work whether or not there is a hash to compare with, if the caller gives one in its
       place.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections.abc import Callable
from typing import Final, TypeVar

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from einthoven_server import limits
from einthoven_server.errors import Busy

T = TypeVar("T")
_SERVICE_WORDS: Final = ("einthoven",)
_UNIT_MAX_CHARS: Final = 4
"""A password made of one piece this short, again and again, is refused."""
_CONTEXT_MIN_CHARS: Final = 4
_SEQUENCES: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
)
_SEQUENCE_SHARE: Final = 0.75
"""A password of which this part is one run of such a sequence is refused."""


class PasswordRefused(ValueError):
    """A password that is not taken. Says why, quotes nothing."""


def normalised(password: str) -> str:
    """A password as it is hashed."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, name: str) -> str:
    """Judge a new password; return it as it is hashed. Pure.

    Args:
        password: As it was typed.
        name: The login name, which it must not contain.

    Raises:
        PasswordRefused: Too short, too long, or what would be guessed first.
    """
    found = normalised(password)
    if not limits.PASSWORD_MIN_CHARS <= len(found) <= limits.PASSWORD_MAX_CHARS:
        raise PasswordRefused(f"it has not {limits.PASSWORD_MIN_CHARS} to {limits.PASSWORD_MAX_CHARS} characters")
    folded = found.casefold()
    if any(folded == (folded[:n] * len(folded))[: len(folded)] for n in range(1, _UNIT_MAX_CHARS + 1)):
        raise PasswordRefused("it repeats one short piece")
    longest = max(_longest_run(folded, row) for line in _SEQUENCES for row in (line, line[::-1]))
    if longest >= _SEQUENCE_SHARE * len(folded):
        raise PasswordRefused("it is a row of the alphabet, of numbers or of the keyboard")
    context = [*_SERVICE_WORDS, name.casefold(), *name.casefold().split("@")[:1]]
    if any(len(word) >= _CONTEXT_MIN_CHARS and word in folded for word in context):
        raise PasswordRefused("it holds the login name, or the name of this service")
    return found


def _longest_run(text: str, sequence: str) -> int:
    """Characters of the longest piece of ``text`` that is a piece of ``sequence``."""
    best = begin = 0
    for end in range(1, len(text) + 1):
        while text[begin:end] not in sequence:
            begin += 1
        best = max(best, end - begin)
    return best


class PasswordHasher:
    """Hashes and verifies.

    Args:
        at_once: How many at a time.
        waiting_max: How many more may wait.
    """

    def __init__(
        self, at_once: int = limits.PASSWORDS_AT_ONCE, waiting_max: int = limits.PASSWORDS_WAITING_MAX
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._under_way_max = at_once + waiting_max
        self._under_way = 0
        self.worked = 0
        """How many were hashed; a test compares work by it."""

    async def hash(self, password: str) -> str:
        """The hash of a password that ``check_password`` took, as a PHC string.

        Raises:
            Busy: Too many wait.
        """
        return await self._run(lambda: _kdf().derive_phc_encoded(password.encode()))

    async def verify(self, phc: str, password: str) -> bool:
        """Whether a password is the one of a hash.

        Raises:
            Busy: Too many wait.
        """
        octets = normalised(password).encode("utf-8", "surrogatepass")

        def work() -> bool:
            try:
                Argon2id.verify_phc_encoded(octets, phc)
            except InvalidKey:
                return False
            return True

        return await self._run(work)

    def require_place(self) -> None:
        """Refuse where ``verify`` would, before anything is written for it.

        Raises:
            Busy: Too many wait.
        """
        if self._under_way >= self._under_way_max:
            raise Busy("too many logins are under way", "try again later", limits.BUSY_RETRY_AFTER_S)

    async def _run(self, work: Callable[[], T]) -> T:
        self.require_place()
        self._under_way += 1
        try:
            async with self._places:
                self.worked += 1
                return await asyncio.to_thread(work)
        finally:
            self._under_way -= 1


def _kdf() -> Argon2id:
    return Argon2id(
        salt=os.urandom(limits.ARGON2_SALT_BYTES),
        length=limits.ARGON2_TAG_BYTES,
        iterations=limits.ARGON2_PASSES,
        lanes=limits.ARGON2_LANES,
        memory_cost=limits.ARGON2_MEMORY_KIB,
    )
