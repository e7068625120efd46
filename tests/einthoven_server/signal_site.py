"""The signals application alone over real TLS, with enrolment beside it; and a device that uploads with its own code.

Results and seals are written by SQL, as ``records`` writes them, so that these tests are of signals only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import secrets
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from tests.einthoven_server.site import Answer, Device, ManualClock, Site, result_row

from einthoven.account import Account
from einthoven.ports import Segment
from einthoven.segments import encode_segment, segment_digest
from einthoven_protocol import http_signature, merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.merkle_subsets import subset_proof
from einthoven_protocol.messages import ResultId, ResultRow, Run
from einthoven_protocol.signal_chunks import ChunkSegment, chunk_name, encode_chunk
from einthoven_protocol.signal_missing import (
    MissingRequest,
    MissingResponse,
    decode_missing_response,
    encode_missing_request,
)
from einthoven_protocol.signal_parcels import SealProof, encode_parcel
from einthoven_server import certificates, limits, tls
from einthoven_server.audit.log import AuditLog
from einthoven_server.connections import Connection as ServerConnection
from einthoven_server.database import Connection, Database, Scope, connected
from einthoven_server.identity.application import make_application as make_identity
from einthoven_server.identity.break_glass import BreakGlass
from einthoven_server.identity.care_teams import CareTeams
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Role
from einthoven_server.identity.presented_tokens import PresentedTokens
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.identity.tenancy import ensure_tenancy
from einthoven_server.identity.token_application import make_application as make_tokens
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.migrations import migrate
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.sealing import RESULTS, seal_result
from einthoven_server.requests import mount
from einthoven_server.signals import quotas
from einthoven_server.signals.application import make_application as make_signals
from einthoven_server.signals.catalog import SignalCatalog
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.uploads import UploadStore
from einthoven_server.vault.opening import open_vault

SYNC_TYPE = "application/vnd.einthoven.sync"
BYTES_TYPE = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}


def make_segment(seed: int, n_samples: int = 640) -> Segment:
    """Something like a signal: a random walk in microvolts."""
    steps = np.random.default_rng(seed).integers(-200, 200, n_samples)
    return Segment(Fraction(128), steps.cumsum().astype(np.int32))


@dataclass
class SignalSite(Site):
    """The running server, with what a test looks into."""

    database: Database | None = None
    scope: Scope | None = None
    identities: IdentityStore | None = None
    audit: AuditLog | None = None

    async def new_signal_device(self, patient: str | None = None) -> SignalDevice:
        made = await self.new_device(patient)
        return SignalDevice(self, made.key, made.identity)


@dataclass
class SignalDevice(Device):
    """A device with results, seals and signals, as honest as a test lets it be."""

    signals: dict[tuple[int, int], bytes] = field(default_factory=dict)
    digests: dict[tuple[int, int], bytes] = field(default_factory=dict)

    @property
    def signal_site(self) -> SignalSite:
        assert isinstance(self.site, SignalSite)
        return self.site

    def record(self, first: int, segments: Sequence[Segment], epoch: int = 1) -> Run:
        """Have signals for the results from ``first`` on."""
        for counter, segment in enumerate(segments, first):
            self.signals[epoch, counter] = encode_segment(segment)
            self.digests[epoch, counter] = segment_digest(segment)
        return Run(epoch, first, first + len(segments) - 1)

    async def push(self, run: Run, **changed: Any) -> Run:
        """Have the server hold a run of results and its seal, as an exchange would."""
        rows = [result_row(counter, **changed) for counter in range(run.first, run.last + 1)]
        digests = [self.digests[run.epoch, row.counter] for row in rows]
        await hold(self.signal_site, self.identity.device_id, run.epoch, rows, digests, self.key.sign)
        return run

    async def with_signals(self, n: int, first: int = 1, seed: int = 0, **shape: Any) -> Run:
        """Record and push ``n`` results under one seal."""
        run = self.record(first, [make_segment(seed + first + i, **shape) for i in range(n)])
        return await self.push(run)

    def chunk(self, run: Run) -> bytes:
        return encode_chunk(
            self.alias,
            [
                ChunkSegment(
                    epoch=run.epoch,
                    counter=counter,
                    digest=self.digests[run.epoch, counter],
                    stored=self.signals[run.epoch, counter],
                )
                for counter in range(run.first, run.last + 1)
            ],
        )

    def proof(self, run: Run, seal: Run, rows: Sequence[ResultRow] | None = None) -> SealProof:
        sealed = rows or [result_row(counter) for counter in range(seal.first, seal.last + 1)]
        positions = range(run.first - seal.first, run.last - seal.first + 1)
        digests = [self.digests[seal.epoch, counter] for counter in range(seal.first, seal.last + 1)]
        return SealProof(
            seal=seal,
            n_segments=len(positions),
            results=subset_proof([encode_result_row(row) for row in sealed], positions),
            segments=subset_proof(digests, positions),
        )

    def parcel(self, run: Run, seal: Run | None = None) -> bytes:
        return encode_parcel([self.proof(run, seal or run)], self.chunk(run))

    def signed(self, method: str, path: str, body: bytes) -> dict[str, str]:
        digest = http_signature.content_digest(body)
        created_s, nonce = self.site.clock.now_ms() // 1000, secrets.token_urlsafe(18)
        key_id = self.identity.device_id
        base = http_signature.signature_base(method, path, digest, created_s, nonce, key_id)
        return {
            http_signature.CONTENT_DIGEST_HEADER: digest,
            http_signature.SIGNATURE_INPUT_HEADER: http_signature.signature_input(created_s, nonce, key_id),
            http_signature.SIGNATURE_HEADER: http_signature.signature_header(self.key.sign(base)),
        }

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        given = self.signed(method, path, body)
        if body:
            given["Content-Type"] = BYTES_TYPE
        given |= TUS | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.site.send(
            method,
            path,
            data=body or None,
            headers={name: value for name, value in given.items() if value},
            skip_auto_headers=("Content-Type",),
        )

    async def create(self, chunk: bytes, length: int, body: bytes = b"", **headers: str) -> Answer:
        named = {"Upload_Length": str(length), "Upload_Metadata": metadata(chunk_name(chunk))}
        return await self.send("POST", "/v1/uploads", body, **named | headers)

    async def begin(self, run: Run, parcel: bytes | None = None) -> tuple[str, bytes]:
        """Create an upload of a run; its address and its bytes."""
        parcel = self.parcel(run) if parcel is None else parcel
        answer = await self.create(self.chunk(run), len(parcel))
        assert answer.status == 201, answer.body
        return answer.headers["Location"], parcel

    async def patch(self, path: str, offset: int, body: bytes, **headers: str) -> Answer:
        return await self.send("PATCH", path, body, **{"Upload_Offset": str(offset)} | headers)

    async def offset(self, path: str) -> int:
        answer = await self.send("HEAD", path)
        assert answer.status == 200
        return int(answer.headers["Upload-Offset"])

    async def missing(self, names: Sequence[bytes], runs: Sequence[Run] = ()) -> MissingResponse:
        body = encode_missing_request(MissingRequest(tuple(names), tuple(runs)))
        answer = await self.send("POST", "/v1/signals/missing", body, Content_Type=SYNC_TYPE)
        assert answer.status == 200, answer.body
        return decode_missing_response(answer.body, len(names))


async def hold(
    site: SignalSite,
    device_id: str,
    epoch: int,
    rows: Sequence[ResultRow],
    digests: Sequence[bytes],
    sign: Callable[[bytes], bytes],
) -> None:
    """Write results that are not there, and their seal."""
    assert site.database is not None
    assert site.scope is not None
    assert site.identities is not None
    known = await site.identities.device(device_id)
    assert known is not None
    key, scope, canonical = known.patient_key, site.scope, [encode_result_row(row) for row in rows]
    roots = merkle.tree_hash(canonical), merkle.tree_hash(digests)
    run = (known.alias, epoch, rows[0].counter, rows[-1].counter)
    seal = (*run, *roots, sign(merkle.seal_message(*run, *roots)))
    ids = [ResultId(known.alias, epoch, row.counter) for row in rows]
    stored = [
        (
            *scope,
            *(known.alias, epoch, one.counter),
            known.patient_id,
            seal_result(key, RESULTS, one, octets),
            key.version,
            bytes(16),
            one.counter,
        )
        for one, octets in zip(ids, canonical, strict=True)
    ]

    async def work(connection: Connection) -> None:
        await connection.executemany(
            "INSERT INTO result_row (shard, tenant, device_alias, epoch, counter, patient_id, row_sealed, "
            "key_version, row_sum, commit_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            stored,
        )
        await connection.execute(
            "INSERT INTO result_seal VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING", *scope, *seal
        )

    await site.database.transact(work)


def metadata(name: bytes) -> str:
    return f"chunk {base64.b64encode(name).decode()}"


@asynccontextmanager
async def running_signals(
    data: Path,
    database_url: str,
    clock: ManualClock,
    tenant: str | None,
    store: SignalStore,
    *,
    flush_s: float = quotas.FLUSH_S,
) -> AsyncIterator[SignalSite]:
    """Serve enrolment and signals of one tenant."""
    key_service = FileKeyService(data / "key-encryption-key")
    shown = certificates.ensure(data, "127.0.0.1", dt.datetime.now(dt.UTC))
    listening = socket.create_server(("127.0.0.1", 0))
    url, root = f"https://127.0.0.1:{listening.getsockname()[1]}", web.Application()
    async with connected(database_url) as database, AsyncExitStack() as stack:
        await migrate(database)
        tenancy = await ensure_tenancy(database, key_service, clock.now_ms(), tenant=tenant)
        vault = await stack.enter_async_context(open_vault(None, data, database, tenancy.scope))
        scope = tenancy.scope
        audit, keys = AuditLog(database, scope, tenancy.audit_key), PatientKeys(database, vault, key_service, scope)
        identities = IdentityStore(database, scope, keys, audit)
        clients, signing = ClientStore(database, scope, audit), SigningKeys(database, scope, key_service, clock)
        guard = Guard(
            identities,
            audit,
            clock,
            relations=Relations(database, scope),
            tokens=PresentedTokens(clients, signing, clock, url),
        )
        admin = Account(str(uuid.uuid4()))
        await clients.create(Role.ADMIN, admin.public_jwks(), clock.now_ms(), None, client_id=admin.client_id)
        tokens = make_tokens(clients=clients, keys=signing, store=identities, guard=guard, clock=clock, public_url=url)
        identity = make_identity(
            store=identities,
            keys=keys,
            guard=guard,
            clock=clock,
            certificates=shown,
            public_url=url,
            care_teams=CareTeams(database, scope, audit),
            break_glass=BreakGlass(database, scope, keys, audit),
        )
        uploads = UploadStore(database, scope)
        catalog = SignalCatalog(database, scope, audit, uploads)
        signals = make_signals(
            catalog=catalog,
            uploads=uploads,
            receiver=SignalReceiver(catalog, uploads, store, keys),
            guard=guard,
            clock=clock,
            flush_s=flush_s,
        )
        mount(root, "/v1", identity)
        mount(root, "/v1", tokens)
        mount(root, "/v1", signals)
        connector = aiohttp.TCPConnector(ssl=tls.client_context(shown.ca_pem))
        async with (
            listening_on(root, listening, tls.server_context(shown.server_file, shown.server_key_file)),
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
        ):
            site = SignalSite(url, shown.ca_pem, scope.tenant, clock, http, admin)
            site.database, site.scope, site.identities, site.audit = database, scope, identities, audit
            yield site


@asynccontextmanager
async def listening_on(root: web.Application, listening: socket.socket, context: ssl.SSLContext) -> AsyncIterator[None]:
    runner = web.AppRunner(root, shutdown_timeout=limits.STOP_TIMEOUT_S)
    await runner.setup()
    loop = asyncio.get_running_loop()
    make = partial(ServerConnection, runner.server, loop=loop, auto_decompress=False)
    server = await loop.create_server(make, sock=listening, ssl=context)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()


class RawRequest:
    """A request whose body a test sends byte by byte over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, device: SignalDevice, path: str, offset: int, body: bytes, **headers: str) -> RawRequest:
        """Send the head of a PATCH of ``body``."""
        host, port = device.site.url.removeprefix("https://").split(":")
        context = tls.client_context(device.site.ca_pem)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        given = device.signed("PATCH", path, body) | TUS
        given |= {"Content-Type": BYTES_TYPE, "Content-Length": str(len(body)), "Upload-Offset": str(offset)}
        given |= {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"PATCH {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        writer.write("\r\n".join(lines).encode("ascii"))
        return cls(reader, writer)

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def status(self) -> int:
        return int((await self._reader.readline()).split()[1])

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
