"""A local certificate authority and the server's certificate, made on first start.

It deliberately issues nothing for anyone else and answers no request: whoever trusts this authority trusts one server.

Invariants:
    1. Keys are ECDSA P-256 in files of mode 0600.
    2. The authority may sign end-entity certificates only (path length 0).
    3. The server's certificate is issued again before it runs out, when the host is not in it, or when it is missing.
    4. Beside certificates the authority's key signs documents for devices, and nothing else: what is signed is made
       here, from the document's parts, and begins like no certificate.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from einthoven_protocol.documents import signed_bytes
from einthoven_server import limits
from einthoven_server.errors import KeyUnavailable
from einthoven_server.private_files import read_or_make, read_private, write_atomically

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class DocumentSigner:
    """Signs documents with the authority's key, which it never gives away.

    Args:
        key: The authority's.
    """

    __slots__ = ("__key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.__key = key

    def sign_document(
        self, tenant: str, patient_id: str, name: str, version: int, issued_at_ms: int, body: bytes
    ) -> bytes:
        """Sign what ``einthoven_protocol.documents.signed_bytes`` makes of a document.

        Args:
            tenant: Whose server it is.
            patient_id: Whose document; empty for one of the whole tenant.
            name: Its name.
            version: From 1.
            issued_at_ms: UTC, ms since 1970.
            body: Its bytes.

        Returns:
            ECDSA on P-256 with SHA-256, DER.

        Raises:
            ProtocolError: A value is outside its range.
        """
        message = signed_bytes(tenant, patient_id, name, version, issued_at_ms, body)
        return self.__key.sign(message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the server shows and what its clients pin.

    Attributes:
        ca_file: PEM of the authority.
        ca_pem: Its text.
        ca_sha256: SHA-256 of its DER, 32 bytes.
        server_file: PEM of the server's certificate.
        server_key_file: Its key.
        signer: Signs documents with the authority's key.
    """

    ca_file: Path
    ca_pem: str
    ca_sha256: bytes
    server_file: Path
    server_key_file: Path
    signer: DocumentSigner = field(repr=False, compare=False)


def ensure(folder: Path, host: str, now: dt.datetime) -> Certificates:
    """Read what is in ``folder``; make what is missing or due.

    Args:
        folder: The data folder.
        host: Name or address that clients connect to, beside the local ones.
        now: UTC.

    Raises:
        KeyUnavailable: A file is damaged, open to others, or does not belong to its key.
    """
    ca_key = _key(folder / "ca.key")
    ca_path = folder / "ca.pem"
    ca = _certificate(read_or_make(ca_path, lambda: _pem(_issue_ca(ca_key, now))), ca_path)
    if ca.public_key() != ca_key.public_key():
        raise KeyUnavailable("ca.pem and ca.key do not belong together", "restore both from the same backup")

    server_key = _key(folder / "server.key")
    server_path = folder / "server.pem"
    names = _general_names([*LOCAL_NAMES, host])
    held = _certificate(read_private(server_path), server_path) if server_path.exists() else None
    if held is None or _due(held, ca, server_key, names, now):
        write_atomically(server_path, _pem(_issue_server(ca, ca_key, server_key, names, now)))
    return Certificates(
        ca_file=ca_path,
        ca_pem=_pem(ca).decode("ascii"),
        ca_sha256=ca.fingerprint(hashes.SHA256()),
        server_file=server_path,
        server_key_file=folder / "server.key",
        signer=DocumentSigner(ca_key),
    )


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    def make() -> bytes:
        return ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    try:
        key = serialization.load_pem_private_key(read_or_make(path, make), password=None)
    except ValueError as error:
        raise KeyUnavailable(f"{path.name} is damaged", "restore it from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnavailable(f"{path.name} is no ECDSA key", "restore it from a backup")
    return key


def _certificate(pem: bytes, path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise KeyUnavailable(f"{path.name} is damaged", "restore it from a backup") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_names(hosts: list[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return list(dict.fromkeys(names))


def _due(
    certificate: x509.Certificate,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: dt.datetime,
) -> bool:
    named = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return (
        certificate.issuer != ca.subject
        or certificate.public_key() != key.public_key()
        or not set(names) <= named
        or certificate.not_valid_after_utc - now < dt.timedelta(days=limits.SERVER_CERTIFICATE_RENEW_DAYS)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clients' clocks may be a little behind.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _issue_ca(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    # The serial in the name keeps two authorities apart in a client that knows both.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Einthoven local authority"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{x509.random_serial_number():040x}"[:16]),
        ]
    )
    return (
        _builder(name, name, key, now, limits.CA_LIFETIME_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _issue_server(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: dt.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Einthoven server")])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(subject, ca.subject, key, now, limits.SERVER_CERTIFICATE_LIFETIME_DAYS)
        .add_extension(authority, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
