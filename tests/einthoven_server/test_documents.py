"""Documents: names, bodies, and the authority's signature over them. Pure but for the key."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from einthoven_protocol.documents import signed_bytes
from einthoven_protocol.errors import ProtocolError
from einthoven_server import certificates, limits
from einthoven_server.errors import Malformed, NotFound
from einthoven_server.records.documents import check_document, document_name
from einthoven_server.strict_json import check_json


@pytest.mark.parametrize("rest", ["alarms", "a", "af-2026.1", "x" * 55, "0_9"])
def test_a_name_is_a_kind_and_a_plain_word(rest: str) -> None:
    assert document_name("settings", rest) == f"settings/{rest}"


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("keys", "a"),
        ("settings", ""),
        ("settings", "A"),
        ("settings", "../ca"),
        ("settings", "a/b"),
        ("settings", "-a"),
        ("settings", "a-"),
        ("settings", "ä"),
        ("settings", "a\n"),
        ("settings", "x" * 56),
        ("", "a"),
    ],
)
def test_any_other_name_is_no_document(kind: str, rest: str) -> None:
    with pytest.raises(NotFound):
        document_name(kind, rest)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b'{"a": [1, 2.5, "\xc3\xa4", true]}',
        b'"\\ud83e\\udec0"',
        nested(limits.DOCUMENT_MAX_DEPTH - 1),
        b"9" * 19,
    ],
)
def test_json_that_every_reader_reads_alike_is_taken(body: bytes) -> None:
    check_document(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{'a': 1}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "\\u0062": 2}}',
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"9" * 20,
        b"9" * 60_000,
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        nested(limits.DOCUMENT_MAX_DEPTH + 1),
        nested(30_000),
        b'{"a":' * 10_000,
        b"{} {}",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_other_json_is_refused_in_one_line_that_quotes_nothing(body: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        check_document(body)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_what_is_checked_is_what_is_returned() -> None:
    assert check_json(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


@pytest.fixture
def shown(tmp_path: Path) -> certificates.Certificates:
    tmp_path.chmod(0o700)
    return certificates.ensure(tmp_path, "localhost", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


def test_a_document_is_signed_by_the_authority_that_devices_pin(shown: certificates.Certificates) -> None:
    parts = ("tenant", "patient", "settings/alarms", 3, 1_700_000_000_000, b"{}")
    signature = shown.signer.sign_document(*parts)
    public = x509.load_pem_x509_certificate(shown.ca_pem.encode()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, signed_bytes(*parts), ec.ECDSA(hashes.SHA256()))
    for place, other in enumerate(("other", "", "settings/alarm", 4, 1, b"{ }")):
        changed = (*parts[:place], other, *parts[place + 1 :])
        with pytest.raises(InvalidSignature):
            public.verify(signature, signed_bytes(*changed), ec.ECDSA(hashes.SHA256()))  # type: ignore[arg-type]


def test_the_key_signs_nothing_but_documents_and_is_not_given_away(shown: certificates.Certificates) -> None:
    with pytest.raises(ProtocolError):
        shown.signer.sign_document("tenant", "", "settings/alarms", 0, 0, b"{}")
    with pytest.raises(ProtocolError):
        shown.signer.sign_document("tenant", "", "", 1, 0, b"{}")
    assert not any("key" in name for name in dir(shown.signer) if not name.startswith("_"))
    assert "signer" not in repr(shown)
