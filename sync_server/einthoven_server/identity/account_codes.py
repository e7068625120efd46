"""What is shown to a person once and works once: invitations, recovery codes; and refresh tokens. Pure.

It deliberately keeps hashes only: all are random, so a fast hash does.

Invariants:
    1. A secret of two parts is found by its selector, which opens nothing, and proven by its verifier, compared in
       constant time.
    2. What was typed with other case, blanks or dashes is the same recovery code.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

from einthoven_protocol.oauth import base64url
from einthoven_server import limits

INVITATION: Final = "invitation"
REFRESH: Final = "refresh"
SELECTOR_BYTES: Final = 16
VERIFIER_BYTES: Final = 32
_TEXT_CHARS: Final = 64
_GROUP_CHARS: Final = 4


class TwoParts(NamedTuple):
    """An invitation's or a refresh token's parts."""

    selector: bytes
    verifier: bytes

    def text(self) -> str:
        """As it is shown."""
        return base64url(self.selector + self.verifier)


def new_two_parts(selector: bytes | None = None) -> TwoParts:
    """A random one; with a given selector, another verifier for it."""
    return TwoParts(selector or secrets.token_bytes(SELECTOR_BYTES), secrets.token_bytes(VERIFIER_BYTES))


def read_two_parts(text: str) -> TwoParts | None:
    """The parts of what was shown; ``None`` where it is of another form."""
    if len(text) != _TEXT_CHARS or not text.isascii():
        return None
    try:
        octets = base64.b64decode(text, b"-_", validate=True)
    except binascii.Error:
        return None
    return TwoParts(octets[:SELECTOR_BYTES], octets[SELECTOR_BYTES:])


def verifier_hash(kind: str, verifier: bytes) -> bytes:
    """What the database keeps of a verifier, 32 bytes."""
    return hashlib.sha256(f"einthoven {kind} verifier 1\0".encode() + verifier).digest()


def is_verifier(kind: str, verifier: bytes, kept: bytes) -> bool:
    """Whether a verifier is the one of which that is kept."""
    return hmac.compare_digest(verifier_hash(kind, verifier), kept)


def new_recovery_codes() -> list[str]:
    """Random ones, of 80 bits, in groups."""
    made = (secrets.token_bytes(limits.RECOVERY_CODE_BYTES) for _ in range(limits.RECOVERY_CODES))
    return ["-".join(_groups(base64.b32encode(octets).decode("ascii").lower())) for octets in made]


def recovery_hash(principal_id: str, code: str) -> bytes:
    """What the database keeps of a recovery code, 32 bytes."""
    folded = "".join(code.split()).replace("-", "").lower()
    return hashlib.sha256(f"einthoven recovery code 1\0{principal_id}\0{folded}".encode("utf-8", "replace")).digest()


def _groups(text: str) -> list[str]:
    return [text[at : at + _GROUP_CHARS] for at in range(0, len(text), _GROUP_CHARS)]
