"""Enrolment: from a one-time code to a device that the server knows.

It deliberately trusts nothing on the network but what the code vouches for: the certificate authority's fingerprint.

Invariants:
    1. The code's secret is sent only after the server's certificate was checked against the authority that the code
       names.
    2. The key pair is stored before it is announced: an enrolment that was cut off is finished by running it again
       with the same code.
    3. An enrolment that failed leaves an existing identity as it was; one that was cut off while it was being stored
       leaves none, and is finished as in 2.
"""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.errors import CertificateMismatch, CodeInvalid, ServerRejected
from einthoven.identity import Identity, save_identity
from einthoven.ports import Store
from einthoven.tls import ca_fingerprint, pinned_context, unverified_context
from einthoven.transport_https import open_client, read_answer, translated
from einthoven_protocol.enrolment import EnrolmentCode, EnrolRequest, EnrolResponse, parse_code, proof_message
from einthoven_protocol.errors import ProtocolError

PENDING_KEY_SETTING: Final = "pending_signing_key"
_CODE_REFUSED: Final = frozenset({400, 401, 403, 404, 409, 410})


async def enroll(store: Store, code_text: str) -> Identity:
    """Enrol this store's device.

    Args:
        store: Where the identity is kept.
        code_text: The code as text, as the clinic's QR shows it.

    Raises:
        CodeInvalid: Not a code, or the server does not accept it (expired, used, too many wrong tries).
        CertificateMismatch: The server is not the one that the code names.
        TransportError: The server can't be reached or understood.
    """
    code = _parse(code_text)
    ca_pem = await _fetch_ca(code)
    key = _pending_key(store)
    response = await _announce(code, ca_pem, key)
    identity = Identity(
        device_id=response.device_id,
        device_alias=response.device_alias,
        url=code.url,
        ca_pem=ca_pem,
        signing_key=key.private_bytes_raw(),
        tenant=response.tenant,
        patient_id=response.patient_id,
    )
    save_identity(store, identity, response.sync_key)
    store.put_setting(PENDING_KEY_SETTING, b"")
    return identity


def _parse(code_text: str) -> EnrolmentCode:
    try:
        return parse_code(code_text.strip())
    except ProtocolError as problem:
        raise CodeInvalid("this is not an enrolment code", "copy it whole; it begins with EIN1.") from problem


async def _fetch_ca(code: EnrolmentCode) -> str:
    async with (
        translated(),
        open_client(aiohttp.TCPConnector(ssl=unverified_context())) as client,
        client.get(code.url + "/v1/ca", allow_redirects=False) as answer,
    ):
        raw = await read_answer(answer)
    ca_pem = raw.decode("ascii", errors="replace")
    if ca_fingerprint(ca_pem) != code.ca_sha256:
        raise CertificateMismatch(
            "the server is not the one that the code names", "do not go on: get a new code from your clinic"
        )
    return ca_pem


def _pending_key(store: Store) -> Ed25519PrivateKey:
    """Return the key of an enrolment that was cut off, or a new one, stored before use."""
    raw = store.setting(PENDING_KEY_SETTING)
    if raw:
        return Ed25519PrivateKey.from_private_bytes(raw)
    key = Ed25519PrivateKey.generate()
    store.put_setting(PENDING_KEY_SETTING, key.private_bytes_raw())
    return key


async def _announce(code: EnrolmentCode, ca_pem: str, key: Ed25519PrivateKey) -> EnrolResponse:
    public_key = key.public_key().public_bytes_raw()
    request = EnrolRequest(
        secret=code.secret, public_key=public_key, proof=key.sign(proof_message(code.secret, public_key, code.url))
    )
    headers = {"Content-Type": "application/json"}
    body = msgspec.json.encode(request)
    async with (
        translated(),
        open_client(aiohttp.TCPConnector(ssl=pinned_context(ca_pem))) as client,
        client.post(code.url + "/v1/enrol", data=body, headers=headers, allow_redirects=False) as answer,
    ):
        if answer.status in _CODE_REFUSED:
            raise CodeInvalid(
                "the server does not accept this code (expired, used, or tried too often)",
                "get a new code from your clinic",
            )
        raw = await read_answer(answer)
    try:
        return msgspec.json.decode(raw, type=EnrolResponse)
    except msgspec.MsgspecError as problem:
        raise ServerRejected("the server's enrolment answer can't be read", "update the app") from problem
