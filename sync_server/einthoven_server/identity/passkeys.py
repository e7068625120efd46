"""Passkeys (WebAuthn level 2): what an authenticator is asked, and whether what it answers holds. Pure but for
cryptography.

It deliberately takes no attestation: which make an authenticator is of is not asked, so no certificate is parsed.

Invariants:
    1. An answer counts for a challenge of ours alone, made for this purpose, not older than ``PASSKEY_CHALLENGE_MS``;
       that it counts once is for the caller, who claims it.
    2. Origin and relying party are those of the public address, and the authenticator verified its user.
    3. Whatever comes, nothing but ``PasskeyRefused`` is raised.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import webauthn
from webauthn.helpers import (
    base64url_to_bytes,
    parse_attestation_object,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from einthoven_server import limits
from einthoven_server.single_use import Claim, claim

ALGORITHMS: Final = [COSEAlgorithmIdentifier.EDDSA, COSEAlgorithmIdentifier.ECDSA_SHA_256]
RP_NAME: Final = "Einthoven"
_TIME_BYTES: Final = 8
_RANDOM_BYTES: Final = 16
_MAC_BYTES: Final = 16


class PasskeyRefused(ValueError):
    """An answer that does not hold."""


class Passkey(NamedTuple):
    """What is kept of an authenticator.

    Attributes:
        credential_id: Its name for this account.
        public_key: COSE.
        sign_count: Of its last answer; 0 for one that does not count.
    """

    credential_id: bytes
    public_key: bytes
    sign_count: int


class Answered(NamedTuple):
    """An answer that holds.

    Attributes:
        passkey: The authenticator, with its new count.
        claim: Of the challenge.
    """

    passkey: Passkey
    claim: Claim


def new_challenge(key: bytes, purpose: str, now_ms: int) -> bytes:
    """A challenge that its server knows again without having kept it.

    Args:
        key: 32 bytes.
        purpose: What it is for.
        now_ms: UTC, ms since 1970.
    """
    expires_at_ms = now_ms + limits.PASSKEY_CHALLENGE_MS
    body = expires_at_ms.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
    return body + _mac(key, purpose, body)


def registration_options(challenge: bytes, public_url: str, user_id: bytes, name: str) -> dict[str, Any]:
    """What ``navigator.credentials.create`` is given."""
    options = webauthn.generate_registration_options(
        rp_id=_host(public_url),
        rp_name=RP_NAME,
        user_id=user_id,
        user_name=name,
        challenge=challenge,
        timeout=limits.PASSKEY_CHALLENGE_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        supported_pub_key_algs=ALGORITHMS,
    )
    return _document(webauthn.options_to_json(options))


def login_options(challenge: bytes, public_url: str) -> dict[str, Any]:
    """What ``navigator.credentials.get`` is given; it names no account."""
    options = webauthn.generate_authentication_options(
        rp_id=_host(public_url),
        challenge=challenge,
        timeout=limits.PASSKEY_CHALLENGE_MS,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return _document(webauthn.options_to_json(options))


def register(credential: Mapping[str, Any], key: bytes, purpose: str, public_url: str, now_ms: int) -> Answered:
    """Judge what an authenticator made.

    Raises:
        PasskeyRefused: It does not hold.
    """
    try:
        challenge, claimed = _challenge(credential, key, purpose, now_ms)
        parsed = parse_registration_credential_json(dict(credential))
        _require_no_attestation(parsed.response.attestation_object)
        found = webauthn.verify_registration_response(
            credential=parsed,
            expected_challenge=challenge,
            expected_rp_id=_host(public_url),
            expected_origin=_origin(public_url),
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
    except PasskeyRefused:
        raise
    except Exception as error:  # parsers of others, given what anybody sends
        raise PasskeyRefused("the authenticator's answer does not hold") from error
    if len(found.credential_id) > limits.PASSKEY_ID_MAX_BYTES:
        raise PasskeyRefused("its id is too long")
    return Answered(Passkey(found.credential_id, found.credential_public_key, found.sign_count), claimed)


def credential_id_of(credential: Mapping[str, Any]) -> bytes:
    """The authenticator's name for the account, as far as it is one.

    Raises:
        PasskeyRefused: It is none.
    """
    text = credential.get("id")
    try:
        found = base64url_to_bytes(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise PasskeyRefused("its id is not base64url") from error
    if not 1 <= len(found) <= limits.PASSKEY_ID_MAX_BYTES:
        raise PasskeyRefused("its id is empty or too long")
    return found


def answer(credential: Mapping[str, Any], known: Passkey, key: bytes, public_url: str, now_ms: int) -> Answered:
    """Judge what an authenticator signed to log in.

    Raises:
        PasskeyRefused: It does not hold.
    """
    try:
        challenge, claimed = _challenge(credential, key, LOGIN, now_ms)
        found = webauthn.verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=_host(public_url),
            expected_origin=_origin(public_url),
            credential_public_key=known.public_key,
            credential_current_sign_count=known.sign_count,
            require_user_verification=True,
        )
    except PasskeyRefused:
        raise
    except Exception as error:  # parsers of others, given what anybody sends
        raise PasskeyRefused("the authenticator's answer does not hold") from error
    return Answered(known._replace(sign_count=found.new_sign_count), claimed)


LOGIN: Final = "login"
"""Purpose of a challenge to log in."""


def purpose_for(principal_id: str) -> str:
    """Purpose of a challenge to make a passkey for an account."""
    return f"register {principal_id}"


def _require_no_attestation(octets: bytes) -> None:
    if parse_attestation_object(octets).fmt != AttestationFormat.NONE:
        raise PasskeyRefused("it holds an attestation, and none was asked for")


def _challenge(credential: Mapping[str, Any], key: bytes, purpose: str, now_ms: int) -> tuple[bytes, Claim]:
    found = parse_client_data_json(base64url_to_bytes(credential["response"]["clientDataJSON"])).challenge
    body, mac = found[:-_MAC_BYTES], found[-_MAC_BYTES:]
    if len(body) != _TIME_BYTES + _RANDOM_BYTES or not hmac.compare_digest(mac, _mac(key, purpose, body)):
        raise PasskeyRefused("its challenge is not of this server")
    expires_at_ms = int.from_bytes(body[:_TIME_BYTES], "big")
    if not now_ms < expires_at_ms <= now_ms + 2 * limits.PASSKEY_CHALLENGE_MS:
        raise PasskeyRefused("its challenge is too old")
    return found, claim("passkey", purpose, body.hex(), expires_at_ms)


def _mac(key: bytes, purpose: str, body: bytes) -> bytes:
    return hmac.digest(key, b"einthoven passkey challenge 1\0" + purpose.encode() + b"\0" + body, hashlib.sha256)[
        :_MAC_BYTES
    ]


def _document(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])


def _host(public_url: str) -> str:
    return urlsplit(public_url).hostname or ""


def _origin(public_url: str) -> str:
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}"
