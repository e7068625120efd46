"""``KeyService`` over AWS KMS: Encrypt and Decrypt with an encryption context, signed (Signature Version 4).

It deliberately takes credentials from the environment only (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``), read anew for each request, and asks no metadata service for them.

Invariants:
    1. The encryption context is a digest: CloudTrail keeps contexts in the clear.
    2. Decrypt names the key: what another key of the account wrapped does not open.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

from einthoven_server.clock import Clock
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable
from einthoven_server.key_services.endpoint import AWS, Endpoint
from einthoven_server.key_services.http_client import Answer, Caller, refused
from einthoven_server.key_services.wrapped_form import Wrapped, of_kind, pack

_TYPE: Final = "application/x-amz-json-1.1"
_NOT_OURS: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_LATER: Final = frozenset({"ThrottlingException", "RequestLimitExceeded", "LimitExceededException"})
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """Who signs."""

    key_id: str
    secret: str
    session_token: str = ""


class _Encrypted(msgspec.Struct, frozen=True):
    CiphertextBlob: str


class _Decrypted(msgspec.Struct, frozen=True):
    Plaintext: str


class _Fault(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="__type", default="")


class AwsKeyService:
    """A key of AWS KMS.

    Args:
        endpoint: Which.
        session: From ``make_session``.
        clock: Signatures carry a time.
    """

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._endpoint = endpoint
        self._caller = Caller(session, endpoint.origin)
        self._clock = clock

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """See ``KeyService.wrap``."""
        answer = await self._ask("Encrypt", {"Plaintext": _b64(key)}, context)
        if answer.status != 200:
            raise refused(answer)
        return pack(Wrapped(AWS, "", _bytes(answer.read(_Encrypted).CiphertextBlob)))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See ``KeyService.unwrap``."""
        content = of_kind(wrapped, AWS).content
        answer = await self._ask("Decrypt", {"CiphertextBlob": _b64(content)}, context)
        if answer.status == 200:
            return _bytes(answer.read(_Decrypted).Plaintext)
        if _fault(answer) in _NOT_OURS:
            raise EnvelopeRefused("a wrapped key does not open", "restore the database, or the key that belongs to it")
        raise refused(answer)

    async def _ask(self, operation: str, asked: Mapping[str, object], context: bytes) -> Answer:
        body = msgspec.json.encode(
            {
                **asked,
                "KeyId": self._endpoint.key,
                "EncryptionContext": {"einthoven": hashlib.sha256(context).hexdigest()},
            }
        )

        async def headers(signed: bytes) -> Mapping[str, str]:
            given = {"Content-Type": _TYPE, "X-Amz-Target": f"TrentService.{operation}"}
            at = dt.datetime.fromtimestamp(self._clock.now_ms() / 1000, dt.UTC)
            return sign(self._endpoint, given, signed, _credentials(), at)

        return await self._caller.post("/", body, headers, throttled=lambda answer: _fault(answer) in _LATER)


def sign(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    at: dt.datetime,
    service: str = "kms",
) -> dict[str, str]:
    """Headers of a POST to ``/`` with a Signature Version 4 over all of them.

    Args:
        endpoint: Origin and region.
        headers: What else is signed.
        body: What is sent.
        credentials: Who signs.
        at: Now, UTC.
        service: Name of the service.
    """
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    given = dict(headers) | {"X-Amz-Date": moment}
    if credentials.session_token:
        given["X-Amz-Security-Token"] = credentials.session_token
    lower = {name.lower(): value.strip() for name, value in given.items()} | {"host": urlsplit(endpoint.origin).netloc}
    names = ";".join(sorted(lower))
    canonical = "\n".join(
        ("POST", "/", "", *(f"{name}:{lower[name]}" for name in sorted(lower)), "", names, _digest(body))
    )
    scope = f"{moment[:8]}/{endpoint.region}/{service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, moment, scope, _digest(canonical.encode())))
    key = b"AWS4" + credentials.secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    given["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return given


def _credentials() -> Credentials:
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    if not key_id or not secret:
        raise KeyServiceUnavailable("there are no AWS credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return Credentials(key_id, secret, os.environ.get("AWS_SESSION_TOKEN", ""))


def _fault(answer: Answer) -> str:
    if answer.status == 200:
        return ""
    try:
        return msgspec.json.decode(answer.body, type=_Fault).kind.rpartition("#")[2]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise KeyServiceUnavailable("the key service answers what can't be read") from error
