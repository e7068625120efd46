"""Tokens as an attacker, or a client that is not ours, would make them: by hand, whatever is in them."""

from __future__ import annotations

import json
import secrets
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import Answer, Site

from einthoven_protocol.oauth import ASSERTION_TYPE, FORM_TYPE, base64url, token_hash

Key = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | bytes


def public_jwk(key: Key, **more: Any) -> dict[str, Any]:
    """The JWK of a key's public half."""
    if isinstance(key, Ed25519PrivateKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().public_bytes_raw()), **more}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e), **more}
    assert not isinstance(key, bytes)
    point, octets = key.public_key().public_numbers(), key.key_size // 8
    x, y = (base64url(value.to_bytes(octets, "big")) for value in (point.x, point.y))
    return {"kty": "EC", "crv": f"P-{key.key_size}", "x": x, "y": y, **more}


def signed(header: dict[str, Any], claims: Any, key: Key | None) -> str:
    """A compact token; by no key, one without a signature."""
    message = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims).encode())}"
    return f"{message}.{base64url(b'' if key is None else signature(message.encode(), key, header.get('alg', '')))}"


def signature(message: bytes, key: Key, alg: str) -> bytes:
    if isinstance(key, bytes):
        mac = hmac.HMAC(key, hashes.SHA256())
        mac.update(message)
        return mac.finalize()
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    digest = hashes.SHA256() if alg.endswith("256") else hashes.SHA384()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), digest)
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(key.key_size // 8, "big") + s.to_bytes(key.key_size // 8, "big")


def assertion(site: Site, client_id: str, key: Key, alg: str, kid: str, **changed: Any) -> str:
    """An assertion; what is changed to ``None`` is left out, ``header`` is put into the header."""
    now_s = site.clock.now_ms() // 1000
    header = {"alg": alg, "typ": "JWT", "kid": kid} | changed.pop("header", {})
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": site.url + "/v1/token",
        "jti": secrets.token_urlsafe(16),
        "exp": now_s + 240,
    } | changed
    return signed(header, {name: value for name, value in claims.items() if value is not None}, key)


def proof(site: Site, key: Key, method: str, path: str, token: str = "", **changed: Any) -> str:
    """A DPoP proof; ``header`` is put into the header."""
    header = {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": public_jwk(key)} | changed.pop("header", {})
    claims = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": site.url + path,
        "iat": site.clock.now_ms() // 1000,
    }
    claims |= {"ath": token_hash(token)} if token else {}
    return signed(header, claims | changed, key)


async def ask(site: Site, assertion: str, dpop: str | None = None, **more: str) -> Answer:
    """POST /v1/token."""
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    headers = {"Content-Type": FORM_TYPE} | ({} if dpop is None else {"DPoP": dpop})
    return await site.send("POST", "/v1/token", data=_form(form | more), headers=headers)


async def use(site: Site, method: str, path: str, token: str, dpop: str | None, **more: Any) -> Answer:
    """Send a request with a token and a proof."""
    headers = {"Authorization": f"{'Bearer' if dpop is None else 'DPoP'} {token}"}
    headers |= {} if dpop is None else {"DPoP": dpop}
    return await site.send(method, path, headers=headers | more.pop("headers", {}), **more)


def _form(fields: dict[str, str]) -> bytes:
    from urllib.parse import urlencode

    return urlencode(fields).encode()


def _integer(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
