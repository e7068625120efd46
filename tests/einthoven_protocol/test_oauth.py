"""Assertions and proofs as they are written; names of keys against the RFCs' own."""

from __future__ import annotations

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven_protocol import oauth
from einthoven_protocol.errors import DecodeError

RFC_7638 = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
        "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awa"
        "pJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC_8037 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


def test_keys_are_named_as_the_rfcs_name_them() -> None:
    assert oauth.thumbprint(RFC_7638) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"  # RFC 7638, 3.1
    assert oauth.thumbprint(RFC_8037) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # RFC 8037, A.3


@pytest.mark.parametrize(
    "jwk", [{}, {"kty": "oct", "k": "AA"}, {"kty": "OKP", "crv": "Ed25519"}, {"kty": "EC", "x": 1}]
)
def test_what_is_no_key_has_no_name(jwk: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        oauth.thumbprint(jwk)


def test_an_access_token_is_hashed_as_rfc_9449_does() -> None:
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"  # section 7.1
    assert oauth.token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_an_assertion_and_a_proof_say_what_they_should() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    said = oauth.client_assertion("me", "https://a", 1_000, "id", public, key.sign)
    header, claims = _verified(said, key)
    assert header == {"alg": "EdDSA", "typ": "JWT", "kid": oauth.thumbprint(oauth.ed25519_jwk(public))}
    assert claims == {"iss": "me", "sub": "me", "aud": "https://a", "jti": "id", "iat": 1_000, "exp": 1_060}
    header, claims = _verified(oauth.dpop_proof("GET", "https://a/b?c=d#e", 1_000, "id", public, key.sign, "t"), key)
    assert header == {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": oauth.ed25519_jwk(public)}
    assert claims == {"jti": "id", "htm": "GET", "htu": "https://a/b", "iat": 1_000, "ath": oauth.token_hash("t")}


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"access_token": 1}', b"\xff", b"[" * 5000])
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        oauth.parse_token_answer(body)


def _verified(text: str, key: Ed25519PrivateKey) -> tuple[dict[str, object], dict[str, object]]:
    message, _, signature = text.rpartition(".")
    key.public_key().verify(_octets(signature), message.encode())
    header, claims = (msgspec.json.decode(_octets(part)) for part in message.split("."))
    return header, claims


def _octets(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
