"""A running server as a test sees it, and a device that speaks to it with its own code, not the SDK's."""

from __future__ import annotations

import base64
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.account import Account, load_account
from einthoven.account_authorization import Authorization
from einthoven_protocol import http_signature, merkle
from einthoven_protocol.codec import decode_response, encode_request, encode_result_row
from einthoven_protocol.enrolment import EnrolRequest, EnrolResponse, parse_code, proof_message
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    Register,
    RepairRequest,
    ResultId,
    ResultRow,
    Seal,
)
from einthoven_protocol.repair_codec import encode_repair_request
from einthoven_server import tls
from einthoven_server.serve import Settings, serving

SYNC_TYPE = "application/vnd.einthoven.sync"
STARTED_AT_MS = 1_700_000_000_000


class ManualClock:
    """A clock that a test moves, or stops where refilling would race with a slow machine."""

    def __init__(self) -> None:
        self.offset_ms = 0
        self._stopped_at_ms: int | None = None

    def now_ms(self) -> int:
        now_ms = time.time_ns() // 1_000_000 if self._stopped_at_ms is None else self._stopped_at_ms
        return now_ms + self.offset_ms

    def stop(self) -> None:
        """From now on only ``offset_ms`` moves it."""
        self._stopped_at_ms = time.time_ns() // 1_000_000


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        document = self.json
        return str(document["error"] if "error" in document else document["issue"][0]["details"]["text"])


@dataclass
class Site:
    """A running server; its clinicians are in the care team of every patient, unless they are made not to be."""

    url: str
    ca_pem: str
    tenant: str
    clock: ManualClock
    http: aiohttp.ClientSession
    admin: Account
    issuer: str = ""
    """As the server knows itself, where that is not ``url``."""
    patients: list[str] = field(default_factory=list)
    carers: list[str] = field(default_factory=list)
    _authorizations: dict[Account, Authorization] = field(default_factory=dict, init=False)

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: Account | str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Send a request; ``token``: as whom, or a text that is none."""
        given = dict(headers or {})
        if isinstance(token, str):
            given["Authorization"] = f"Bearer {token}"
        elif token is not None:
            given |= await self.authorization(token).headers(self.http, method, path)
        async with self.http.request(method, self.url + path, headers=given, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    def authorization(self, account: Account) -> Authorization:
        """What an account shows here; its token is kept from one request to the next."""
        if account not in self._authorizations:
            self._authorizations[account] = Authorization(self.issuer or self.url, account, self.clock)
        return self._authorizations[account]

    async def new_patient(self) -> str:
        answer = await self.send("POST", "/v1/patients", token=self.admin)
        assert answer.status == 201, answer.body
        return await self.adopt(answer.json["patient_id"])

    async def adopt(self, patient: str) -> str:
        """Give a patient, however it was made, the site's carers."""
        self.patients.append(patient)
        for carer in self.carers:
            await self.join(patient, carer)
        return patient

    async def join(self, patient: str, carer: str) -> None:
        """Make a principal a member of the patient's care team."""
        answer = await self.send("PUT", f"/v1/patients/{patient}/care-team/{carer}", token=self.admin)
        assert answer.status == 200, answer.body

    async def new_code(self, patient: str) -> str:
        answer = await self.send("POST", f"/v1/patients/{patient}/enrolment-codes", token=self.admin)
        assert answer.status == 201, answer.body
        return str(answer.json["code"])

    async def new_principal(
        self, role: str, *, patient: str | None = None, treats: bool = True, **more: Any
    ) -> tuple[str, Account]:
        account = Account()
        body = {"role": role, "jwks": account.public_jwks(), **more}
        body |= {} if patient is None else {"patient_id": patient}
        answer = await self.send("POST", "/v1/principals", token=self.admin, json=body)
        assert answer.status == 201, answer.body
        principal = answer.json["principal_id"]
        if treats and role in ("clinician", "service"):
            self.carers.append(principal)
            for known in self.patients:
                await self.join(known, principal)
        return principal, account.named(principal)

    async def enrol(self, code: str, key: Ed25519PrivateKey, **changed: Any) -> Answer:
        parsed = parse_code(code)
        secret = changed.get("secret", parsed.secret)
        public = key.public_key().public_bytes_raw()
        proof = key.sign(proof_message(secret, public, changed.get("url", parsed.url)))
        return await self.send(
            "POST",
            "/v1/enrol",
            data=msgspec.json.encode(EnrolRequest(secret=secret, public_key=public, proof=proof)),
            headers={"Content-Type": "application/json"},
        )

    async def new_device(self, patient: str | None = None) -> Device:
        key = Ed25519PrivateKey.generate()
        answer = await self.enrol(await self.new_code(patient or await self.new_patient()), key)
        assert answer.status == 200, answer.body
        return Device(self, key, msgspec.json.decode(answer.body, type=EnrolResponse))


@dataclass
class Device:
    """A device, as honest as a test lets it be."""

    site: Site
    key: Ed25519PrivateKey
    identity: EnrolResponse
    epoch: int = 1
    cursor: Cursor = field(default_factory=lambda: Cursor(0, 0))

    @property
    def alias(self) -> int:
        return self.identity.device_alias

    def rows(self, first: int, count: int, **changed: Any) -> tuple[ResultRow, ...]:
        return tuple(result_row(counter, **changed) for counter in range(first, first + count))

    def seal(self, rows: Sequence[ResultRow], epoch: int | None = None) -> Seal:
        results_root = merkle.tree_hash([encode_result_row(row) for row in rows])
        segments_root = merkle.tree_hash([row.counter.to_bytes(32, "big") for row in rows])
        run = (self.epoch if epoch is None else epoch, rows[0].counter, rows[-1].counter)
        message = merkle.seal_message(self.alias, *run, results_root, segments_root)
        return Seal(
            epoch=run[0],
            first_counter=run[1],
            last_counter=run[2],
            results_root=results_root,
            segments_root=segments_root,
            signature=self.key.sign(message),
        )

    def note(self, counter: int, comment: str, hlc: int = 1 << 16, author: str | None = None) -> AnnotationRow:
        return AnnotationRow(
            target=ResultId(self.alias, self.epoch, counter),
            author=self.identity.device_id if author is None else author,
            rhythm=Register("A", hlc),
            comment=Register(comment, hlc),
        )

    def request(self, rows: Sequence[ResultRow] = (), **changed: Any) -> ExchangeRequest:
        given: dict[str, Any] = {
            "device_alias": self.alias,
            "epoch": self.epoch,
            "results": tuple(rows),
            "seals": (self.seal(rows),) if rows else (),
            "cursor": self.cursor,
        }
        return ExchangeRequest(**given | changed)

    def sign(self, body: bytes, **changed: Any) -> dict[str, str]:
        digest = http_signature.content_digest(body)
        nonce = changed.get("nonce", secrets.token_urlsafe(18))
        created_s = changed.get("created_s", self.site.clock.now_ms() // 1000)
        key_id = changed.get("key_id", self.identity.device_id)
        method, path = changed.get("method", "POST"), changed.get("path", "/v1/exchange")
        base = http_signature.signature_base(method, path, digest, created_s, nonce, key_id)
        return {
            "Content-Type": SYNC_TYPE,
            http_signature.CONTENT_DIGEST_HEADER: digest,
            http_signature.SIGNATURE_INPUT_HEADER: http_signature.signature_input(created_s, nonce, key_id),
            http_signature.SIGNATURE_HEADER: http_signature.signature_header(self.key.sign(base)),
        }

    async def post(self, request: ExchangeRequest | bytes, **changed: Any) -> Answer:
        body = request if isinstance(request, bytes) else encode_request(request)
        headers = changed.pop("headers", None) or self.sign(body, **changed)
        return await self.site.send("POST", "/v1/exchange", data=body, headers=headers)

    async def repair(self, request: RepairRequest | bytes, **changed: Any) -> Answer:
        body = request if isinstance(request, bytes) else encode_repair_request(request)
        headers = changed.pop("headers", None) or self.sign(body, path="/v1/repair", **changed)
        return await self.site.send("POST", "/v1/repair", data=body, headers=headers)

    def sign_wake(self, **changed: Any) -> dict[str, str]:
        signed = self.sign(b"", method="GET", path="/v1/wake", **changed)
        del signed["Content-Type"]
        return signed

    def listen(self, **changed: Any) -> Any:
        """A wake socket, as a context manager."""
        headers = changed.pop("headers", None) or self.sign_wake()
        return self.site.http.ws_connect(self.site.url + "/v1/wake", headers=headers, **changed)

    async def exchange(self, rows: Sequence[ResultRow] = (), **changed: Any) -> ExchangeResponse:
        answer = await self.post(self.request(rows, **changed))
        assert answer.status == 200, answer.body
        response = decode_response(answer.body)
        self.cursor = response.cursor
        return response


def result_row(counter: int, **changed: Any) -> ResultRow:
    """A plausible row."""
    given: dict[str, Any] = {
        "counter": counter,
        "started_at_ms": STARTED_AT_MS + 30_000 * counter,
        "duration_ms": 30_000,
        "n_steps": 30,
        "usable_s": 29,
        "quality": 0,
        "rhythm": 1,
        "confidence_permille": 931,
        "logits": (-120, 840, -33, -500),
        "tier": 2,
        "reason": 0,
        "model_digest": bytes(range(32)),
        "front_end_version": 1,
    }
    return ResultRow(**given | changed)


@asynccontextmanager
async def running_site(
    data: Path, database_url: str, clock: ManualClock, tenant: str | None, public_url: str | None = None
) -> AsyncIterator[Site]:
    """Serve, with a client session on the pinned authority; at another address than its own, if one is given."""
    port = 0 if public_url is None else _free_port()
    settings = Settings(data, port=port, public_url=public_url)
    async with serving(settings, database_url, clock, tenant) as ready:
        ca_pem = (data / "ca.pem").read_text("ascii")
        connector = aiohttp.TCPConnector(ssl=tls.client_context(ca_pem))
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
            admin = load_account(data / "admin-key.json")

            own = ready.url if public_url is None else f"https://127.0.0.1:{port}"
            yield Site(own, ca_pem, tenant or "", clock, http, admin, public_url or "")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def b64(octets: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(octets).decode("ascii")
