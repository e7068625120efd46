"""The only way the SDK speaks TLS: 1.3, AES-256-GCM, one pinned certificate authority.

It deliberately ignores the machine's certificate store: a device trusts the authority it was enrolled with and no
other.

Invariants:
    1. No byte of a request leaves before the handshake gave TLS 1.3 with ``CIPHER``; with anything else it fails.
"""

from __future__ import annotations

import ssl
from hashlib import sha256
from typing import Final

from einthoven.errors import CertificateMismatch

CIPHER: Final = "TLS_AES_256_GCM_SHA384"
"""The one TLS 1.3 suite that is accepted (RFC 8446, B.4)."""


class OtherSuite(ssl.SSLError):
    """The handshake gave another suite than ``CIPHER``."""


class _OneSuite(ssl.SSLObject):
    """Ends a handshake that gave another suite; Python can't set TLS 1.3 suites before 3.15."""

    def do_handshake(self) -> None:
        """Shake hands, then look at what was agreed.

        Raises:
            OtherSuite: Not ``CIPHER``.
        """
        super().do_handshake()
        agreed = self.cipher()
        if agreed is None or agreed[0] != CIPHER:
            raise OtherSuite("the server agreed on another cipher suite")


def _strict_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslobject_class = _OneSuite
    return context


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """Return a client context that trusts only ``ca_pem``.

    Raises:
        CertificateMismatch: ``ca_pem`` is no certificate.
    """
    context = _strict_context()
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as problem:
        raise CertificateMismatch(
            "the pinned certificate authority can't be read", "enrol the device again with a new code"
        ) from problem
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that trusts anyone, for one purpose: to fetch the authority that a fingerprint then checks."""
    context = _strict_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ca_fingerprint(ca_pem: str) -> bytes:
    """Return the SHA-256 of the certificate's DER, 32 bytes.

    Raises:
        CertificateMismatch: ``ca_pem`` is no certificate.
    """
    try:
        return sha256(ssl.PEM_cert_to_DER_cert(ca_pem.strip() + "\n")).digest()
    except ValueError as problem:
        raise CertificateMismatch("the server sent no certificate authority", "check the server's address") from problem
