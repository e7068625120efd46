"""The ``Transport`` port's acceptance suite, against a real TLS socket that behaves and misbehaves."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from einthoven.clock import FixedClock
from einthoven.errors import (
    CertificateMismatch,
    DeviceRefused,
    ServerBusy,
    ServerRejected,
    ServerUnreachable,
    TransportError,
)
from einthoven.identity import Identity
from einthoven.tls import ca_fingerprint, pinned_context
from einthoven.transport_https import RETRY_AFTER_MAX_S, HttpsTransport
from einthoven_protocol import http_signature, limits
from einthoven_server.tls import restrict_suites

NOW_MS = 1_780_000_000_000
PATH = "/v1/exchange"


def issue(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None):  # type: ignore[no-untyped-def]
    """A certificate and its key: an authority, or a server's for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key if issuer is None else issuer[1], hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Site:
    """A server whose answer a test sets."""

    url: str = ""
    ca_pem: str = ""
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        assert self.answer is not None
        return await self.answer(request)

    def says(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer every request so."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.answer = answer


def server_context(folder: Path, authority, tweak: Callable[[ssl.SSLContext], None] | None = None) -> ssl.SSLContext:  # type: ignore[no-untyped-def]
    certificate, key = issue("localhost", authority)
    (folder / "server.pem").write_text(pem(certificate))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if tweak is not None:
        tweak(context)
    return context


async def serve(site: Site, context: ssl.SSLContext) -> web.AppRunner:
    app = web.Application(client_max_size=limits.MAX_REQUEST_BYTES)
    app.router.add_route("*", "/{tail:.*}", site.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await tcp.start()
    port = runner.addresses[0][1]
    site.url = f"https://localhost:{port}"
    return runner


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    authority = issue("test authority")
    site = Site(ca_pem=pem(authority[0]))
    runner = await serve(site, server_context(tmp_path, authority))
    yield site
    await runner.cleanup()


def identity_for(site: Site) -> Identity:
    return Identity(
        device_id="device-1",
        device_alias=7,
        url=site.url,
        ca_pem=site.ca_pem,
        signing_key=bytes(range(32)),
        tenant="t",
        patient_id="p",
    )


async def post(site: Site, body: bytes = b"hello") -> bytes:
    transport = HttpsTransport(identity_for(site), clock=FixedClock(NOW_MS))
    try:
        return await transport.post(PATH, body, {"Content-Type": "application/test"})
    finally:
        await transport.close()


async def test_a_200_answers_body_comes_back_whole(site: Site) -> None:
    large = bytes(range(256)) * 4000
    site.says(200, large)
    assert await post(site) == large


async def test_the_request_is_signed_over_method_path_body_and_time(site: Site) -> None:
    site.says(200)
    await post(site, b"payload")
    ((headers, body),) = site.requests
    parts = http_signature.parse(headers)
    assert body == b"payload"
    assert parts.content_digest == http_signature.content_digest(b"payload")
    assert (parts.created_s, parts.key_id) == (NOW_MS // 1000, "device-1")
    base = http_signature.signature_base("POST", PATH, parts.content_digest, parts.created_s, parts.nonce, parts.key_id)
    Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().verify(parts.signature, base)
    # And nothing else, for each header is paid for with each request.
    signature = {"content-digest", "signature-input", "signature"}
    assert headers.keys() <= signature | {"host", "content-type", "content-length"}


async def test_no_two_requests_carry_the_same_nonce(site: Site) -> None:
    site.says(200)
    await post(site)
    await post(site)
    assert len({http_signature.parse(headers).nonce for headers, _ in site.requests}) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "wait_s"), [("7", 7.0), ("-1", 0.0), ("1e12", RETRY_AFTER_MAX_S), ("soon", 5.0)])
async def test_a_busy_server_says_how_long(site: Site, status: int, header: str, wait_s: float) -> None:
    site.says(status, Retry_After=header)
    with pytest.raises(ServerBusy) as caught:
        await post(site)
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_device_is_told_so(site: Site, status: int) -> None:
    site.says(status, b'{"error":"device_revoked","message":"x"}')
    with pytest.raises(DeviceRefused, match="refuses this device"):
        await post(site)


async def test_a_clock_that_is_off_is_named(site: Site) -> None:
    site.says(401, b'{"error":"clock_skew","message":"x"}')
    with pytest.raises(DeviceRefused, match="clock"):
        await post(site)


@pytest.mark.parametrize("status", [204, 301, 302, 400, 404, 409, 413, 418, 500])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"<script>"}', b'{"error":7}', b"\xff\xfe"])
async def test_any_other_answer_is_a_rejection_in_our_words(site: Site, status: int, body: bytes) -> None:
    site.says(status, b"" if status == 204 else body, Location="https://attacker.invalid/")
    with pytest.raises(ServerRejected) as caught:
        await post(site)
    assert "script" not in str(caught.value)
    assert len(site.requests) == 1, "a redirect was followed"


async def test_an_answer_over_the_limit_is_cut_off(site: Site) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):  # the client hangs up, which is what is wanted
            for _ in range(2 * limits.MAX_RESPONSE_BYTES // 65_536):
                await response.write(bytes(65_536))
        return response

    site.answer = endless
    with pytest.raises(ServerRejected, match="over"):
        await post(site)


async def test_a_connection_that_breaks_off_is_unreachable(site: Site) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    site.answer = breaks
    with pytest.raises(ServerUnreachable, match="nothing is lost"):
        await post(site)


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable):
        await post(Site(url="https://localhost:9", ca_pem=pem(issue("x")[0])))


async def test_a_certificate_of_another_authority_gets_nothing(site: Site, tmp_path: Path) -> None:
    site.says(200)
    site.ca_pem = pem(issue("test authority")[0])
    with pytest.raises(CertificateMismatch, match="do not go on"):
        await post(site)
    assert site.requests == []


async def test_a_certificate_for_another_name_gets_nothing(site: Site) -> None:
    site.says(200)
    site.url = site.url.replace("localhost", "127.0.0.1")
    with pytest.raises(CertificateMismatch):
        await post(site)
    assert site.requests == []


def only_tls_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def only_chacha20(context: ssl.SSLContext) -> None:
    restrict_suites(context, "TLS_CHACHA20_POLY1305_SHA256")


def only_aes_128(context: ssl.SSLContext) -> None:
    restrict_suites(context, "TLS_AES_128_GCM_SHA256")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("tweak", "kind"),
    [
        (only_chacha20, CertificateMismatch),
        (only_aes_128, CertificateMismatch),
        # Such a server hangs up on our greeting, with an alert or without one.
        (only_tls_1_2, (CertificateMismatch, ServerUnreachable)),
    ],
)
async def test_anything_but_tls_1_3_with_aes_256_gets_nothing(
    tmp_path: Path, tweak: Callable[[ssl.SSLContext], None], kind: type[TransportError] | tuple[type[TransportError]]
) -> None:
    authority = issue("test authority")
    site = Site(ca_pem=pem(authority[0]))
    site.says(200)
    runner = await serve(site, server_context(tmp_path, authority, tweak))
    try:
        with pytest.raises(kind):
            await post(site)
    finally:
        await runner.cleanup()
    assert site.requests == []


@pytest.mark.parametrize("ca_pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_authority_is_refused(ca_pem: str) -> None:
    with pytest.raises(CertificateMismatch):
        pinned_context(ca_pem)


def test_a_fingerprint_is_of_the_certificate_and_not_of_its_text() -> None:
    certificate, _ = issue("x")
    assert ca_fingerprint(pem(certificate)) == certificate.fingerprint(hashes.SHA256())
    assert ca_fingerprint("\n" + pem(certificate) + "\n\n") == certificate.fingerprint(hashes.SHA256())
    with pytest.raises(CertificateMismatch):
        ca_fingerprint("nonsense")


def test_an_identity_does_not_show_its_keys() -> None:
    identity = identity_for(Site(url="https://localhost"))
    shown = f"{identity!r} {identity} {[identity]}"
    assert "device-1" in shown
    assert str(identity.signing_key) not in shown
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(identity), type=Identity) == identity


async def test_closing_twice_is_allowed(site: Site) -> None:
    site.says(200)
    transport = HttpsTransport(identity_for(site), clock=FixedClock(NOW_MS))
    await transport.post(PATH, b"", {})
    await transport.close()
    await transport.close()
    assert await transport.post(PATH, b"", {}) == b"", "a closed transport connects again when it is needed"
    await transport.close()


async def test_any_signed_request_gives_back_the_answers_that_are_expected(site: Site) -> None:
    site.says(204, Upload_Offset="7")
    transport = HttpsTransport(identity_for(site), clock=FixedClock(NOW_MS))
    try:
        answer = await transport.request("PATCH", "/v1/uploads/a", b"body", {"Upload-Offset": "3"}, expected={204})
        assert (answer.status, answer.headers["upload-offset"], answer.body) == (204, "7", b"")
        headers, body = site.requests[-1]
        parts = http_signature.parse(headers)
        assert (headers["upload-offset"], body) == ("3", b"body")
        assert parts.content_digest == http_signature.content_digest(b"body")
        signed = http_signature.signature_base(
            "PATCH", "/v1/uploads/a", parts.content_digest, parts.created_s, parts.nonce, parts.key_id
        )
        key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        key.public_key().verify(parts.signature, signed)
        site.says(200)
        await transport.request("HEAD", "/v1/uploads/a")
        assert http_signature.parse(site.requests[-1][0]).content_digest == http_signature.content_digest(b"")
        site.says(409, b'{"error": "conflict"}')
        assert (await transport.request("PATCH", "/x", expected={204, 409})).status == 409
        with pytest.raises(ServerRejected, match="HTTP 409, conflict"):
            await transport.request("PATCH", "/x", expected={204})
        site.says(503, Retry_After="9")
        with pytest.raises(ServerBusy) as problem:
            await transport.request("PATCH", "/x", expected={204})
        assert problem.value.retry_after_s == 9.0
    finally:
        await transport.close()
