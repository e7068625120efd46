"""The certificate authority that every simulated device pinned: made once a process, for it takes long.

It deliberately serves no TLS.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SECRET: Final = 1906
"""Private key: the same in every process, for it protects nothing."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs documents.

    Attributes:
        pem: Its certificate.
    """

    pem: str
    _key: ec.EllipticCurvePrivateKey

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256; of one message always the same (RFC 6979), so that a history is."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


@cache
def authority() -> Authority:
    """This process's."""
    key = ec.derive_private_key(_SECRET, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated authority")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=3_650))
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"), key)
