"""What a fuzzed request shows of who sends it: a token with a proof of its own, or a device's signature.

They are made over the request as it will be sent, whatever was generated into it. It deliberately knows nothing of
Schemathesis; a request is what ``requests`` prepared.

Invariants:
    1. A token is asked for again before it ends, and after it was refused, but not more often than once a second.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.account import Account, load_account
from einthoven_protocol import http_signature
from einthoven_protocol.errors import DecodeError, SignatureMalformed
from einthoven_protocol.oauth import (
    FORM_TYPE,
    PROOF_HEADER,
    PROOF_SCHEME,
    TOKEN_PATH,
    client_assertion,
    dpop_proof,
    parse_token_answer,
    token_form,
)

_LIFETIME_S: Final = 240
_AGAIN_S: Final = 1.0
_NONCE_BYTES: Final = 18


class Prepared(Protocol):
    """A request of ``requests`` that is about to be sent."""

    method: str | None
    url: str | None
    body: object
    headers: MutableMapping[str, str]

    @property
    def path_url(self) -> str:
        """Path and query as they are sent."""
        ...


Post = Callable[[str, bytes, dict[str, str]], bytes]
"""Sends a body to an address with headers; the answer's body."""


class TokenShown:
    """An account's token, with a proof for each request.

    Args:
        url: The server's address.
        key_file: Of the account.
        post: By which a token is asked for.
    """

    def __init__(self, url: str, key_file: str, post: Post) -> None:
        self._url = url
        self._account: Account = load_account(Path(key_file))
        self._post = post
        self._token, self._asked_at_s = "", 0.0
        self._turn = threading.Lock()

    def __call__(self, request: Prepared) -> Prepared:
        """Show it."""
        token = self._current()
        method, path = request.method or "GET", request.path_url.partition("?")[0]
        request.headers["Authorization"] = f"{PROOF_SCHEME} {token}"
        request.headers[PROOF_HEADER] = self._proof(method, path, token)
        return request

    def refused(self) -> None:
        """The server does not take it: the next request brings another."""
        with self._turn:
            if time.monotonic() - self._asked_at_s > _AGAIN_S:
                self._token = ""

    def _current(self) -> str:
        with self._turn:
            if not self._token or time.monotonic() - self._asked_at_s > _LIFETIME_S:
                self._token, self._asked_at_s = self._renewed(), time.monotonic()
            return self._token

    def _renewed(self) -> str:
        account = self._account
        assertion = client_assertion(
            account.client_id, self._url, int(time.time()), _fresh(), account.public_key, account.sign
        )
        headers = {"Content-Type": FORM_TYPE, PROOF_HEADER: self._proof("POST", TOKEN_PATH)}
        try:
            return parse_token_answer(self._post(self._url + TOKEN_PATH, token_form(assertion), headers)).access_token
        except DecodeError:
            return "refused"

    def _proof(self, method: str, path: str, token: str = "") -> str:
        account = self._account
        return dpop_proof(method, self._url + path, int(time.time()), _fresh(), account.public_key, account.sign, token)


class SignatureShown:
    """A device's signature over each request.

    Args:
        device_id: Whose.
        key: Ed25519, hexadecimal.
    """

    def __init__(self, device_id: str, key: str) -> None:
        self._device_id = device_id
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key))

    def __call__(self, request: Prepared) -> Prepared:
        """Sign it."""
        body = request.body.encode() if isinstance(request.body, str) else request.body
        digest = http_signature.content_digest(body if isinstance(body, bytes) else b"")
        created_s, nonce = int(time.time()), _fresh()
        method = request.method or "GET"
        try:
            base = http_signature.signature_base(method, request.path_url, digest, created_s, nonce, self._device_id)
        except SignatureMalformed:
            return request  # what can't be signed goes as it is
        request.headers["Content-Digest"] = digest
        request.headers["Signature-Input"] = http_signature.signature_input(created_s, nonce, self._device_id)
        request.headers["Signature"] = http_signature.signature_header(self._key.sign(base))
        return request

    def refused(self) -> None:
        """A signature is made anew each time."""


def _fresh() -> str:
    return secrets.token_urlsafe(_NONCE_BYTES)
