"""A passkey in software: what a browser's authenticator answers, and everything it would not."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from einthoven_protocol.oauth import base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """One passkey; it counts its uses unless ``count`` is ``None``."""

    origin: str
    rp_id: str = "127.0.0.1"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int | None = 0

    def make(self, options: Any, **changed: Any) -> dict[str, Any]:
        """What ``navigator.credentials.create`` gives."""
        point = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(cose)
        flags = changed.get("flags", PRESENT | VERIFIED) | ATTESTED
        data = self._data(flags, changed) + attested
        form = {"fmt": changed.get("fmt", "none"), "attStmt": changed.get("statement", {}), "authData": data}
        response = {
            "clientDataJSON": base64url(self._client_data("webauthn.create", options, changed)),
            "attestationObject": base64url(cbor2.dumps(form)),
        }
        return self._credential(response)

    def sign(self, options: Any, **changed: Any) -> dict[str, Any]:
        """What ``navigator.credentials.get`` gives."""
        data = self._data(changed.get("flags", PRESENT | VERIFIED), changed)
        client_data = self._client_data("webauthn.get", options, changed)
        key = changed.get("key", self.key)
        signature = key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": base64url(client_data),
            "authenticatorData": base64url(data),
            "signature": base64url(signature),
        }
        return self._credential(response)

    def _data(self, flags: int, changed: dict[str, Any]) -> bytes:
        if self.count is not None:
            self.count += 1
        count = changed.get("count", self.count or 0)
        rp_id = changed.get("rp_id", self.rp_id)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + count.to_bytes(4, "big")

    def _client_data(self, kind: str, options: Any, changed: dict[str, Any]) -> bytes:
        document = {
            "type": changed.get("type", kind),
            "challenge": changed.get("challenge", options["challenge"]),
            "origin": changed.get("origin", self.origin),
        }
        return json.dumps(document).encode()

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        name = base64url(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}
