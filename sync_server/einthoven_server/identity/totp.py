"""Codes of an authenticator app (TOTP, RFC 6238: SHA-1, 6 digits, 30 s, which is what such apps have). Pure.

It deliberately remembers nothing: who asks says which step was used last.

Invariants:
    1. A code counts in its own step and ``TOTP_STEPS_ASIDE`` before and after; a step that was used, or an earlier one,
       never again.
    2. Every code that could count is made and compared, whatever came.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from einthoven_server import limits

ISSUER: Final = "Einthoven"


def new_secret() -> bytes:
    """A random secret."""
    return secrets.token_bytes(limits.TOTP_SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    """The code of a step of time."""
    return _totp(secret).generate(step * limits.TOTP_STEP_S).decode("ascii")


def step_of(now_ms: int) -> int:
    """Which step it is, counted from 1970."""
    return now_ms // (limits.TOTP_STEP_S * 1000)


def matching_step(secret: bytes, code: str, now_ms: int, last_step: int) -> int | None:
    """The step whose code this is, if it may still count.

    Args:
        secret: The account's.
        code: What was typed.
        now_ms: UTC, ms since 1970.
        last_step: The last one that was used, 0 for none.
    """
    now, found = step_of(now_ms), None
    for step in range(max(0, now - limits.TOTP_STEPS_ASIDE), now + limits.TOTP_STEPS_ASIDE + 1):
        equal = hmac.compare_digest(code_at(secret, step).encode(), code.encode("utf-8", "surrogatepass"))
        if equal and step > last_step:
            found = step
    return found


def shown_secret(secret: bytes) -> str:
    """A secret as it is typed into an app: base32."""
    return base64.b32encode(secret).decode("ascii")


def uri(secret: bytes, name: str) -> str:
    """``otpauth://totp/...``, to be shown as a QR code."""
    return _totp(secret).get_provisioning_uri(name, ISSUER)


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, limits.TOTP_DIGITS, SHA1(), limits.TOTP_STEP_S)  # noqa: S303  # HMAC-SHA-1 of RFC 4226
