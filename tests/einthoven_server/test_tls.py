"""Real handshakes: TLS 1.3 with AES-256-GCM succeeds, everything else fails (attack 42)."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from einthoven_server import certificates, limits, tls
from einthoven_server.certificates import Certificates
from einthoven_server.errors import KeyUnavailable, StartError

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def shown(tmp_path: Path) -> Certificates:
    return certificates.ensure(tmp_path, "ecg.example", dt.datetime.now(dt.UTC))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> tuple[str, str]:
    """One handshake over a socket pair; the client's protocol and cipher."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as tunnel:
                tunnel.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as tunnel:
            cipher = tunnel.cipher()
            assert cipher is not None
            # In TLS 1.3 the client is done first; only an answer proves that the server agreed.
            tunnel.sendall(b"x")
            return str(tunnel.version()), cipher[0]
    finally:
        ours.close()
        thread.join()


def client_of(shown: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=shown.ca_pem)
    return context


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "ecg.example"])
def test_a_client_of_the_authority_gets_the_one_suite(shown: Certificates, name: str) -> None:
    server = tls.server_context(shown.server_file, shown.server_key_file)
    assert handshake(server, tls.client_context(shown.ca_pem), name) == ("TLSv1.3", tls.SUITE)
    assert handshake(server, client_of(shown), name) == ("TLSv1.3", tls.SUITE)


@pytest.mark.parametrize("suite", ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"])
def test_another_suite_is_refused_in_the_handshake(shown: Certificates, suite: str) -> None:
    server = tls.server_context(shown.server_file, shown.server_key_file)
    client = client_of(shown)
    tls.restrict_suites(client, suite)
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake"):
        handshake(server, client)


def test_a_server_of_another_suite_is_refused_by_our_client(shown: Certificates) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown.server_file, shown.server_key_file)
    tls.restrict_suites(server, "TLS_CHACHA20_POLY1305_SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(server, tls.client_context(shown.ca_pem))


def test_tls_1_2_is_refused(shown: Certificates) -> None:
    server = tls.server_context(shown.server_file, shown.server_key_file)
    client = client_of(shown)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        handshake(server, client)


def test_plain_text_is_refused(shown: Certificates) -> None:
    server = tls.server_context(shown.server_file, shown.server_key_file)
    ours, theirs = socket.socketpair()
    ours.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        server.wrap_socket(theirs, server_side=True)
    ours.close()
    theirs.close()


def test_another_authority_or_name_is_refused(shown: Certificates, tmp_path: Path) -> None:
    server = tls.server_context(shown.server_file, shown.server_key_file)
    (tmp_path / "other").mkdir()
    other = certificates.ensure(tmp_path / "other", "localhost", dt.datetime.now(dt.UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(other.ca_pem))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(shown.ca_pem), "elsewhere.example")


def test_a_suite_that_does_not_exist_is_an_error_and_not_a_weaker_suite(shown: Certificates) -> None:
    with pytest.raises(StartError):
        tls.restrict_suites(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "TLS_NO_SUCH_SUITE")


def test_certificate_and_key_must_belong_together(shown: Certificates, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="issued again"):
        tls.server_context(shown.server_file, tmp_path / "ca.key")


# ---- certificates -------------------------------------------------------------------------------------------------


def test_keys_and_certificates_are_closed_to_others(shown: Certificates, tmp_path: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("ca.key", "ca.pem", "server.key", "server.pem"), 0o600)


def test_the_second_start_changes_nothing(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path, "localhost", NOW)
    before = first.server_file.read_bytes()
    assert certificates.ensure(tmp_path, "localhost", NOW) == first
    assert first.server_file.read_bytes() == before


def test_it_is_issued_again_in_time_and_for_a_new_host(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path, "localhost", NOW).server_file.read_bytes()
    days = limits.SERVER_CERTIFICATE_LIFETIME_DAYS - limits.SERVER_CERTIFICATE_RENEW_DAYS
    due = NOW + dt.timedelta(days=days, hours=1)
    second = certificates.ensure(tmp_path, "localhost", due).server_file.read_bytes()
    assert second != first
    third = certificates.ensure(tmp_path, "10.1.2.3", due).server_file.read_bytes()
    names = x509.load_pem_x509_certificate(third).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "10.1.2.3" in [str(name) for name in names.value.get_values_for_type(x509.IPAddress)]


def test_the_authority_signs_nothing_but_end_entities(shown: Certificates) -> None:
    ca = x509.load_pem_x509_certificate(shown.ca_pem.encode())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.key"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    certificates.ensure(tmp_path, "localhost", NOW)
    (tmp_path / name).write_bytes(b"-----BEGIN nothing-----")
    with pytest.raises(KeyUnavailable, match=name):
        certificates.ensure(tmp_path, "localhost", NOW)


def test_a_foreign_ca_certificate_is_refused(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, "localhost", NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(KeyUnavailable, match="do not belong together"):
        certificates.ensure(tmp_path, "localhost", NOW)
