"""From a passphrase to 32 bytes: which passphrases are taken, how they are spelled, and what guessing one costs.

Pure. It deliberately measures no strength but length, and keeps nothing.

Invariants:
    1. What a keyboard, or another system's input method, spells in another Unicode form is the same passphrase: spaces
       are mapped to U+0020, then NFC (RFC 8265, 4.2.2, OpaqueString). Not NFKC: it makes different passphrases equal.
    2. No message holds a character of a passphrase, nor its length.
    3. What a file asks for is bounded before any memory is asked for.

Why these costs. RFC 9106 section 4 recommends 64 MiB, 3 passes, 4 lanes where 2 GiB are too much; OWASP's least is
19 MiB, 2 passes, 1 lane. Measured (x86-64, 2 cores, n = 7, medians of processor time): 0.27 s and 0.04 s. The dearer
is the default: a store is opened once a start, while who stole the device has years, and a passphrase is the weakest
key there is. It needs 64 MiB for that moment; a board that does not have them may be given ``OWASP_MINIMUM``. The costs
travel in the wrapped key, so either opens everywhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm

from einthoven.errors import KeyUnavailable

MIN_CHARACTERS: Final = 8
"""Shortest passphrase beside a device half: one of two factors (NIST SP 800-63B-4, 3.1.1.2)."""
MIN_CHARACTERS_ALONE: Final = 15
"""Shortest passphrase that is all there is (the same clause)."""
MAX_PASSPHRASE_BYTES: Final = 1_024
"""Longest passphrase, in UTF-8."""
PASSPHRASE_SALT_BYTES: Final = 16
"""Random salt of Argon2id: 128 bits (RFC 9106, 3.1)."""
STRETCHED_BYTES: Final = 32
"""What Argon2id gives: 256 bits."""
MAX_MEMORY_KIB: Final = 256 * 1_024
"""Most memory that a wrapped key may ask for, KiB: four times the default, and what a small board can spare."""
MAX_ITERATIONS: Final = 16
"""Most passes that a wrapped key may ask for."""
MAX_LANES: Final = 8
"""Most lanes that a wrapped key may ask for."""
MIN_MEMORY_KIB_A_LANE: Final = 8
"""Least memory of a lane, KiB (RFC 9106, 3.1)."""


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess costs.

    Attributes:
        memory_kib: Memory, KiB.
        iterations: Passes over it.
        lanes: How many threads may share the work.
    """

    memory_kib: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        """Refuse what Argon2id can't do and what would exhaust the machine.

        Raises:
            ValueError: One of the three is out of bounds.
        """
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"Argon2id takes 1-{MAX_LANES} lanes here")
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise ValueError(f"Argon2id takes 1-{MAX_ITERATIONS} passes here")
        if not MIN_MEMORY_KIB_A_LANE * self.lanes <= self.memory_kib <= MAX_MEMORY_KIB:
            raise ValueError(f"Argon2id takes {MIN_MEMORY_KIB_A_LANE} KiB a lane to {MAX_MEMORY_KIB} KiB here")


RFC_9106_SECOND: Final = Argon2Cost(memory_kib=64 * 1_024, iterations=3, lanes=4)
"""Second recommended option of RFC 9106, section 4; the default."""
OWASP_MINIMUM: Final = Argon2Cost(memory_kib=19 * 1_024, iterations=2, lanes=1)
"""Least of OWASP's Password Storage Cheat Sheet, for boards that do not have 64 MiB to spare."""


def spelled(passphrase: str, min_characters: int) -> bytes:
    """The bytes of a passphrase, equal however it was typed.

    Args:
        passphrase: As it was typed; not trimmed.
        min_characters: Fewest code points that are taken.

    Raises:
        KeyUnavailable: It is too short or too long, or holds what no keyboard types.
    """
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        # Before the Unicode tables are asked, whose work grows with it.
        raise _too_long()
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in passphrase)
    normal = unicodedata.normalize("NFC", spaced)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in normal):
        raise KeyUnavailable("the passphrase holds a control character", "type it without tabs and line ends")
    if len(normal) < min_characters or not normal.strip():
        raise KeyUnavailable(f"the passphrase has fewer than {min_characters} characters", "choose a longer one")
    spelling = normal.encode()
    if len(spelling) > MAX_PASSPHRASE_BYTES:
        raise _too_long()
    return spelling


def stretched(passphrase: bytes, salt: bytes, cost: Argon2Cost, *, argon2id: Callable[..., Any] | None = None) -> bytes:
    """Argon2id of a passphrase (RFC 9106, version 0x13), 32 bytes.

    Args:
        passphrase: As ``spelled`` gives it.
        salt: 16 random bytes.
        cost: What it takes.
        argon2id: Class to use in place of that of ``cryptography``.

    Raises:
        KeyUnavailable: This build has no Argon2id, or the machine has not that much memory.
    """
    try:
        if argon2id is None:
            argon2id = import_module("cryptography.hazmat.primitives.kdf.argon2").Argon2id
        derivation = argon2id(
            salt=salt,
            length=STRETCHED_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return bytes(derivation.derive(passphrase))
    except (ImportError, UnsupportedAlgorithm) as error:
        raise KeyUnavailable(
            "this build of cryptography has no Argon2id, so a passphrase can't be used",
            "install cryptography 45 or newer, built with OpenSSL 3.2 or newer",
        ) from error
    except MemoryError as error:
        raise KeyUnavailable(
            f"a passphrase takes {cost.memory_kib // 1_024} MiB of memory, which are not to be had",
            "close something, then try again",
        ) from error


def _too_long() -> KeyUnavailable:
    return KeyUnavailable(f"the passphrase has more than {MAX_PASSPHRASE_BYTES} bytes", "choose a shorter one")
