"""HTTP Message Signatures: the base of RFC 9421, one accepted form, and nothing that slips past it.

The oracle is a builder of signature bases that is checked against the RFC's own example (appendix B.2.6).
"""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import http_signature
from einthoven_protocol.errors import SignatureMalformed

NONCE = "N0nce-0123456789_abcd"
KEY_ID = "6f1c1de0-3f43-4c1c-8a0a-1d1c7c0f5d11"
CREATED_S = 1_780_000_000
BODY = b'{"hello": "world"}'
DIGEST = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"

# RFC 9421 appendix B.1.4 and B.2.6.
RFC_KEY = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU="))
RFC_SIGNATURE = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="


def base_by_hand(components: list[tuple[str, str]], parameters: str) -> bytes:
    """RFC 9421 section 2.5: each component's name in quotes, colon, space, value; then the parameters."""
    names = " ".join(f'"{name}"' for name, _ in components)
    lines = [f'"{name}": {value}' for name, value in components] + [f'"@signature-params": ({names}){parameters}']
    return "\n".join(lines).encode("ascii")


def signed(body: bytes = BODY, path: str = "/v1/exchange") -> dict[str, str]:
    """Headers as a device makes them."""
    digest = http_signature.content_digest(body)
    base = http_signature.signature_base("POST", path, digest, CREATED_S, NONCE, KEY_ID)
    return {
        "Content-Digest": digest,
        "Signature-Input": http_signature.signature_input(CREATED_S, NONCE, KEY_ID),
        "Signature": http_signature.signature_header(RFC_KEY.sign(base)),
    }


def test_the_oracle_agrees_with_the_rfc() -> None:
    base = base_by_hand(
        [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ],
        ';created=1618884473;keyid="test-key-ed25519"',
    )
    RFC_KEY.public_key().verify(base64.b64decode(RFC_SIGNATURE), base)


def test_a_content_digest_is_that_of_rfc_9530() -> None:
    # RFC 9530 appendix B.1 takes SHA-256 of {"hello": "world"} with a newline behind it.
    assert http_signature.content_digest(BODY + b"\n") == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert http_signature.content_digest(BODY) == DIGEST


def test_the_base_is_that_of_rfc_9421() -> None:
    assert http_signature.signature_base("POST", "/v1/exchange", DIGEST, CREATED_S, NONCE, KEY_ID) == base_by_hand(
        [("@method", "POST"), ("@path", "/v1/exchange"), ("content-digest", DIGEST)],
        f';created={CREATED_S};nonce="{NONCE}";keyid="{KEY_ID}";alg="ed25519"',
    )


def test_a_signed_request_verifies_from_what_was_parsed() -> None:
    parts = http_signature.parse(signed())
    assert (parts.created_s, parts.nonce, parts.key_id) == (CREATED_S, NONCE, KEY_ID)
    assert parts.content_digest == http_signature.content_digest(BODY)
    RFC_KEY.public_key().verify(
        parts.signature,
        http_signature.signature_base(
            "POST", "/v1/exchange", parts.content_digest, parts.created_s, parts.nonce, parts.key_id
        ),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/v1/exchang"},
        {"content_digest": http_signature.content_digest(b"other")},
        {"created_s": CREATED_S + 1},
        {"nonce": NONCE[:-1] + "X"},
        {"key_id": KEY_ID[:-1] + "2"},
    ],
)
def test_every_part_is_covered(change: dict[str, str]) -> None:
    parts = http_signature.parse(signed())
    base = {
        "method": "POST",
        "path": "/v1/exchange",
        "content_digest": parts.content_digest,
        "created_s": parts.created_s,
        "nonce": parts.nonce,
        "key_id": parts.key_id,
    }
    with pytest.raises(InvalidSignature):
        RFC_KEY.public_key().verify(parts.signature, http_signature.signature_base(**(base | change)))  # type: ignore[arg-type]


def test_header_names_come_in_any_case() -> None:
    headers = {name.lower(): value for name, value in signed().items()}
    assert http_signature.parse(headers) == http_signature.parse(signed())


@pytest.mark.parametrize("name", ["Content-Digest", "Signature-Input", "Signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(SignatureMalformed, match=f"{name} is missing"):
        http_signature.parse(headers)


@pytest.mark.parametrize("name", ["Content-Digest", "Signature-Input", "Signature"])
def test_a_doubled_header_is_refused(name: str) -> None:
    headers = signed()
    headers[name.upper()] = headers[name]
    with pytest.raises(SignatureMalformed, match="twice"):
        http_signature.parse(headers)


PARAMETERS = f';created={CREATED_S};nonce="{NONCE}";keyid="{KEY_ID}";alg="ed25519"'
COVERED = '("@method" "@path" "content-digest")'


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"sig2={COVERED}{PARAMETERS}",
        f"sig1={COVERED}{PARAMETERS}, sig2={COVERED}{PARAMETERS}",
        f" sig1={COVERED}{PARAMETERS}",
        f"sig1={COVERED}{PARAMETERS}\n",
        f'sig1=("@method" "@path"){PARAMETERS}',
        f'sig1=("@path" "@method" "content-digest"){PARAMETERS}',
        f'sig1=("@method" "@path" "content-digest" "date"){PARAMETERS}',
        f'sig1=("@method" "@path" "content-digest";sf){PARAMETERS}',
        f"sig1=(){PARAMETERS}",
        f"sig1={COVERED}",
        f"sig1={COVERED}" + PARAMETERS.replace("ed25519", "hmac-sha256"),
        f"sig1={COVERED}" + PARAMETERS.replace(';alg="ed25519"', ""),
        f"sig1={COVERED}" + PARAMETERS.replace(str(CREATED_S), "-1"),
        f"sig1={COVERED}" + PARAMETERS.replace(str(CREATED_S), "01"),
        f"sig1={COVERED}" + PARAMETERS.replace(str(CREATED_S), "1.5"),
        f"sig1={COVERED}" + PARAMETERS.replace(str(CREATED_S), "9" * 16),
        f"sig1={COVERED}" + PARAMETERS.replace(str(CREATED_S), "१२३"),
        f"sig1={COVERED}" + PARAMETERS.replace(NONCE, "short"),
        f"sig1={COVERED}" + PARAMETERS.replace(NONCE, "x" * 65),
        f"sig1={COVERED}" + PARAMETERS.replace(NONCE, NONCE + "\\"),
        f"sig1={COVERED}" + PARAMETERS.replace(NONCE, NONCE + "é"),
        f"sig1={COVERED}" + PARAMETERS.replace(KEY_ID, ""),
        f"sig1={COVERED}" + PARAMETERS.replace(KEY_ID, "x" * 65),
        f"sig1={COVERED}" + PARAMETERS + ";expires=1",
        f"sig1={COVERED}" + PARAMETERS + " " * 600,
    ],
)
def test_another_signature_input_is_refused(value: str) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.parse(signed() | {"Signature-Input": value})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sig1=::",
        "sig1=:AAAA:",
        "sig2=:" + "A" * 86 + "==:",
        "sig1=:" + "A" * 85 + "B==:",  # bits behind the last byte: a second spelling of the same bytes
        "sig1=:" + "A" * 86 + ":",
        "sig1=:" + "A" * 87 + "=:",
        "sig1=:" + "A" * 84 + "-_==:",
        "sig1=:" + "A" * 86 + "==:;p=1",
    ],
)
def test_another_signature_is_refused(value: str) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.parse(signed() | {"Signature": value})


@pytest.mark.parametrize(
    "value", ["", "sha-512=:X48E:", "sha-256=X48E", f"{DIGEST}, sha-512=:AA==:", DIGEST.upper(), DIGEST[:-3] + ":"]
)
def test_another_content_digest_is_refused(value: str) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.parse(signed() | {"Content-Digest": value})
    with pytest.raises(SignatureMalformed):
        http_signature.signature_base("POST", "/", value, CREATED_S, NONCE, KEY_ID)


@pytest.mark.parametrize("path", ["", "v1", "/v1?x=1", "/v1#x", "/v1\n", '/v1"', "/v 1", "/é", "/" * 513])
def test_a_path_that_could_be_read_two_ways_is_refused(path: str) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.signature_base("POST", path, DIGEST, CREATED_S, NONCE, KEY_ID)


@pytest.mark.parametrize("method", ["", "post", "POST\n", "P OST", "X" * 17])
def test_a_method_that_is_none_is_refused(method: str) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.signature_base(method, "/", DIGEST, CREATED_S, NONCE, KEY_ID)


def test_parameters_out_of_range_are_not_written() -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.signature_input(-1, NONCE, KEY_ID)
    with pytest.raises(SignatureMalformed):
        http_signature.signature_input(CREATED_S, "short", KEY_ID)
    with pytest.raises(SignatureMalformed):
        http_signature.signature_header(bytes(63))


@given(headers=st.dictionaries(st.sampled_from(["Content-Digest", "Signature-Input", "Signature"]), st.text()))
def test_no_header_raises_anything_else(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureMalformed):
        http_signature.parse(headers)


@given(
    name=st.sampled_from(["Content-Digest", "Signature-Input", "Signature"]), at=st.integers(0, 999), to=st.characters()
)
def test_no_changed_character_verifies(name: str, at: int, to: str) -> None:
    headers = signed()
    place = at % len(headers[name])
    changed = headers[name][:place] + to + headers[name][place + 1 :]
    if changed == headers[name]:
        return
    try:
        parts = http_signature.parse(headers | {name: changed})
    except SignatureMalformed:
        return
    base = http_signature.signature_base(
        "POST", "/v1/exchange", parts.content_digest, parts.created_s, parts.nonce, parts.key_id
    )
    with pytest.raises(InvalidSignature):
        RFC_KEY.public_key().verify(parts.signature, base)
