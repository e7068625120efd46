"""Enrolment codes: one text each, mistakes noticed, secrets never shown."""

from __future__ import annotations

import base64
import hashlib
import re

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.enrolment import (
    CODE_PREFIX,
    EnrolmentCode,
    EnrolRequest,
    EnrolResponse,
    format_code,
    parse_code,
    proof_message,
)
from einthoven_protocol.errors import CodeMalformed

CODE = EnrolmentCode(url="https://clinic.example:8443", secret=bytes(range(32)), ca_sha256=bytes(range(32, 64)))

urls = st.from_regex(r"https://[a-z][a-z0-9.-]{0,40}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,9}){0,3}", fullmatch=True).filter(
    str.isascii
)
codes = st.builds(
    EnrolmentCode,
    url=urls,
    secret=st.binary(min_size=limits.MIN_SECRET_BYTES, max_size=limits.MAX_SECRET_BYTES),
    ca_sha256=st.binary(min_size=32, max_size=32),
)


@given(code=codes)
def test_a_code_comes_back(code: EnrolmentCode) -> None:
    text = format_code(code)
    assert parse_code(text) == code
    assert re.fullmatch(r"EIN1\.[A-Za-z0-9_-]+", text)
    assert len(text) <= limits.MAX_CODE_CHARACTERS


def test_the_longest_code_fits_its_limit() -> None:
    url = "https://" + "a" * (limits.MAX_URL_CHARACTERS - 8)
    code = EnrolmentCode(url=url, secret=bytes(limits.MAX_SECRET_BYTES), ca_sha256=bytes(32))
    assert parse_code(format_code(code)) == code


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:8443", "https://[::1]:8443", "https://localhost", "https://a.b/ecg"]
)
def test_addresses_that_are_allowed(url: str) -> None:
    code = msgspec.structs.replace(CODE, url=url)
    assert parse_code(format_code(code)) == code


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://clinic.example",
        "HTTPS://clinic.example",
        "https://",
        "https://clinic.example/",
        "https://user@clinic.example",
        "https://clinic.example?x=1",
        "https://clinic.example#x",
        "https://clinic.example:123456",
        "https://clinic.example\\@evil.example",
        "https://clinic.example/a b",
        "https://klinik-ä.example",
        "https://clinic.example\n",
        "https://" + "a" * 200,
    ],
)
def test_addresses_that_are_not(url: str) -> None:
    with pytest.raises(CodeMalformed):
        format_code(msgspec.structs.replace(CODE, url=url))


@pytest.mark.parametrize("change", [{"secret": bytes(15)}, {"secret": bytes(65)}, {"ca_sha256": bytes(31)}])
def test_parts_of_another_length_are_refused(change: dict[str, bytes]) -> None:
    with pytest.raises(CodeMalformed):
        format_code(msgspec.structs.replace(CODE, **change))


def test_every_mistyped_character_is_noticed() -> None:
    text = format_code(CODE)
    for place in range(len(CODE_PREFIX), len(text)):
        mistyped = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(CodeMalformed):
            parse_code(mistyped)


def test_a_code_cut_off_or_with_more_behind_it_is_refused() -> None:
    text = format_code(CODE)
    for wrong in (*(text[:end] for end in range(len(text))), text + "A", text + "=", text + " ", text + "\n"):
        with pytest.raises(CodeMalformed):
            parse_code(wrong)


def test_a_second_spelling_of_a_code_is_refused() -> None:
    text = format_code(msgspec.structs.replace(CODE, secret=bytes(16)))
    assert (len(text) - len(CODE_PREFIX)) % 4
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last character of an unpadded group has bits that no byte uses.
    sibling = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]
    padded = "=" * (-(len(text) - 5) % 4)
    assert base64.urlsafe_b64decode(sibling[5:] + padded) == base64.urlsafe_b64decode(text[5:] + padded)
    with pytest.raises(CodeMalformed):
        parse_code(sibling)


@given(text=st.one_of(st.text(max_size=200), st.text(max_size=200).map(CODE_PREFIX.__add__)))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(CodeMalformed):
        parse_code(text)


def test_a_code_whose_address_is_not_ascii_is_refused() -> None:
    content = b"\x10" + bytes(16) + bytes(32) + "https://klinik-ä.example".encode()
    octets = content + hashlib.sha256(content).digest()[:4]
    with pytest.raises(CodeMalformed, match="no address"):
        parse_code(CODE_PREFIX + base64.urlsafe_b64encode(octets).rstrip(b"=").decode())


@given(content=st.binary(max_size=300))
def test_no_content_with_a_good_checksum_raises_anything_else(content: bytes) -> None:
    octets = content + hashlib.sha256(content).digest()[:4]
    text = CODE_PREFIX + base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    try:
        code = parse_code(text)
    except CodeMalformed:
        return
    assert format_code(code) == text


def test_a_proof_binds_secret_key_and_address() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public_key = key.public_key().public_bytes_raw()
    message = proof_message(CODE.secret, public_key, CODE.url)
    key.public_key().verify(key.sign(message), message)
    assert message == b"einthoven enrol 1\0" + b"\x20" + CODE.secret + public_key + CODE.url.encode()
    assert proof_message(CODE.secret, public_key, CODE.url + "x") != message
    assert proof_message(CODE.secret[:-1], CODE.secret[-1:] + public_key[:-1], CODE.url) != message


def test_a_proof_is_not_made_over_what_no_code_holds() -> None:
    with pytest.raises(CodeMalformed):
        proof_message(CODE.secret, bytes(32), "https://ä")
    with pytest.raises(CodeMalformed):
        proof_message(bytes(65), bytes(32), CODE.url)


def test_the_json_messages_come_back() -> None:
    request = EnrolRequest(secret=bytes(32), public_key=bytes(32), proof=bytes(64))
    raw = msgspec.json.encode(request)
    assert len(raw) < limits.MAX_ENROL_BYTES
    assert msgspec.json.decode(raw, type=EnrolRequest) == request
    response = EnrolResponse(
        device_id="6f1c1de0-3f43-4c1c-8a0a-1d1c7c0f5d11",
        device_alias=7,
        sync_key=bytes(range(32)),
        tenant="t",
        patient_id="p",
        server_time_ms=1,
    )
    assert msgspec.json.decode(msgspec.json.encode(response), type=EnrolResponse) == response


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"secret":"AAAA","public_key":"AAAA","proof":"AAAA"}',
        msgspec.json.encode({"secret": bytes(32), "public_key": bytes(31), "proof": bytes(64)}),
        msgspec.json.encode({"secret": bytes(65), "public_key": bytes(32), "proof": bytes(64)}),
        msgspec.json.encode({"secret": bytes(32), "public_key": bytes(32), "proof": bytes(63)}),
        msgspec.json.encode({"secret": bytes(32), "public_key": bytes(32), "proof": bytes(64), "role": "admin"}),
    ],
)
def test_an_enrol_request_of_another_form_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(raw, type=EnrolRequest)


def test_secrets_are_not_shown() -> None:
    request = EnrolRequest(secret=b"s" * 32, public_key=b"k" * 32, proof=b"p" * 64)
    response = EnrolResponse(
        device_id="d", device_alias=7, sync_key=b"s" * 32, tenant="t", patient_id="p-17", server_time_ms=1
    )
    shown = repr(msgspec.structs.replace(CODE, secret=b"s" * 32)) + repr(request) + repr(response)
    assert "sss" not in shown
    assert "p-17" not in shown
