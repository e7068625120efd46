"""The ``KeyService`` port's acceptance suite: the file, and each cloud's adapter against a double over TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from tests.contracts.key_service_doubles import (
    AWS_KEY_ID,
    AWS_SECRET,
    AZURE_SECRET,
    VAULT_TOKEN,
    AwsDouble,
    AzureDouble,
    Double,
    GcpDouble,
    VaultDouble,
    listening,
)

from einthoven_server import certificates, tls
from einthoven_server.errors import EnvelopeRefused, KeyServiceUnavailable, KeyUnavailable
from einthoven_server.key_service import MakesVersions
from einthoven_server.key_services.aws_kms import Credentials, sign
from einthoven_server.key_services.choosing import SeveralKeyServices, key_service_of
from einthoven_server.key_services.endpoint import AWS, Endpoint, parse_endpoint
from einthoven_server.key_services.gcp_kms import crc32c
from einthoven_server.key_services.probe import KeyServiceProbe

KEY, CONTEXT = bytes(range(32)), b"tenant and patient 4711"
DOUBLES: dict[str, type[Double]] = {"aws": AwsDouble, "gcp": GcpDouble, "azure": AzureDouble, "vault": VaultDouble}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o700)
    shown = certificates.ensure(folder, "127.0.0.1", dt.datetime.now(dt.UTC))
    return shown.ca_file, tls.server_context(shown.server_file, shown.server_key_file)


class Bench:
    """A key service under test, the double behind it, and how to open it again."""

    def __init__(self, kind: str, url: str | None, double: Double | None, folder: Path, stack: AsyncExitStack) -> None:
        self.kind, self.url, self.double, self.folder, self._stack = kind, url, double, folder, stack

    async def service(self) -> SeveralKeyServices:
        return await self._stack.enter_async_context(key_service_of(self.url, self.folder))

    async def rotate(self, service: SeveralKeyServices) -> None:
        if isinstance(service.chosen, MakesVersions):
            await service.chosen.make_version()
        else:
            assert self.double is not None
            self.double.rotate()


async def make_bench(
    kind: str,
    certificate: tuple[Path, ssl.SSLContext],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
) -> Bench:
    if kind == "file":
        return Bench(kind, None, None, folder, stack)
    ca_file, context = certificate
    double = await stack.enter_async_context(listening(DOUBLES[kind](), context))
    environment = {
        "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        "AZURE_TENANT_ID": "clinic.example",
        "AZURE_CLIENT_ID": "client",
        "AZURE_CLIENT_SECRET": AZURE_SECRET,
        "VAULT_TOKEN": VAULT_TOKEN,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(double, GcpDouble):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(double.key_file(folder / "account.json")))
    assert isinstance(double, AwsDouble | GcpDouble | AzureDouble | VaultDouble)
    return Bench(kind, double.url(ca_file), double, folder, stack)


@pytest.fixture(params=["file", *DOUBLES])
async def bench(
    request: pytest.FixtureRequest,
    certificate: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield await make_bench(request.param, certificate, tmp_path, monkeypatch, stack)


@pytest.fixture(params=list(DOUBLES))
async def cloud(
    request: pytest.FixtureRequest,
    certificate: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield await make_bench(request.param, certificate, tmp_path, monkeypatch, stack)


async def test_what_was_wrapped_is_unwrapped_now_and_at_the_next_start(bench: Bench) -> None:
    service = await bench.service()
    wrapped = await service.wrap(KEY, CONTEXT)
    assert await service.unwrap(wrapped, CONTEXT) == KEY
    assert await (await bench.service()).unwrap(wrapped, CONTEXT) == KEY


async def test_two_wraps_differ_and_show_neither_key_nor_context(bench: Bench) -> None:
    service = await bench.service()
    first, second = await service.wrap(KEY, CONTEXT), await service.wrap(KEY, CONTEXT)
    assert first != second
    assert KEY[:8] not in first
    for _, headers, body in bench.double.requests if bench.double else []:
        assert CONTEXT not in body + str(headers).encode()


@pytest.mark.parametrize("other", [b"", b"tenant and patient 4712", CONTEXT + b"\0"])
async def test_another_context_is_refused(bench: Bench, other: bytes) -> None:
    service = await bench.service()
    wrapped = await service.wrap(KEY, CONTEXT)
    with pytest.raises(EnvelopeRefused):
        await service.unwrap(wrapped, other)


async def test_damage_anywhere_is_refused_or_no_answer_but_never_another_key(bench: Bench) -> None:
    service = await bench.service()
    wrapped = await service.wrap(KEY, CONTEXT)
    for position in [*range(min(len(wrapped), 56)), len(wrapped) // 2, len(wrapped) - 1]:
        damaged = bytearray(wrapped)
        damaged[position] ^= 0x10
        with pytest.raises(EnvelopeRefused):
            await service.unwrap(bytes(damaged), CONTEXT)
    for cut in (0, 1, 4, len(wrapped) - 1):
        with pytest.raises(EnvelopeRefused):
            await service.unwrap(wrapped[:cut], CONTEXT)


async def test_after_rotations_former_versions_still_open(bench: Bench) -> None:
    service = await bench.service()
    wraps = [await service.wrap(KEY, CONTEXT)]
    for _ in range(2):
        await bench.rotate(service)
        wraps.append(await service.wrap(KEY, CONTEXT))
    again = await bench.service()
    for wrapped in wraps:
        assert await again.unwrap(wrapped, CONTEXT) == KEY


async def test_what_another_kind_wrapped_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with key_service_of(None, tmp_path / "elsewhere") as file:
        foreign = await file.wrap(KEY, CONTEXT)
    with pytest.raises(EnvelopeRefused):
        await (await bench.service()).unwrap(foreign, CONTEXT)


async def test_the_probe_says_whether_it_works(bench: Bench) -> None:
    await KeyServiceProbe(await bench.service()).check()


# ---- those over the network ---------------------------------------------------------------------------------------


async def test_throttling_is_waited_out(cloud: Bench) -> None:
    assert cloud.double is not None
    service = await cloud.service()
    cloud.double.throttle = 2
    wrapped = await service.wrap(KEY, CONTEXT)
    assert cloud.double.throttle == 0
    cloud.double.throttle = 3
    assert await service.unwrap(wrapped, CONTEXT) == KEY


async def test_who_throttles_for_ever_is_given_up(cloud: Bench) -> None:
    assert cloud.double is not None
    service = await cloud.service()
    cloud.double.throttle = 1_000
    with pytest.raises(KeyServiceUnavailable, match="overloaded"):
        await service.wrap(KEY, CONTEXT)
    assert len(cloud.double.requests) <= 5  # four tries, and a login


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=302, headers={"Location": "https://attacker.example/"}),
        web.Response(status=200, body=b"{"),
        web.Response(status=200, body=b"[" * 100_000),
        web.Response(status=200, body=b"{}"),
        web.Response(status=403, body=b"no"),
        web.Response(status=503),
    ],
    ids=["redirect", "half", "huge", "empty", "forbidden", "down"],
)
async def test_an_answer_that_is_none_is_unavailable(cloud: Bench, answer: web.Response) -> None:
    assert cloud.double is not None
    service = await cloud.service()
    wrapped = await service.wrap(KEY, CONTEXT)
    cloud.double.fail = answer
    for doing in (service.wrap(KEY, CONTEXT), service.unwrap(wrapped, CONTEXT)):
        with pytest.raises(KeyServiceUnavailable) as refused:
            await doing
        assert "\n" not in str(refused.value)
    with pytest.raises(KeyServiceUnavailable):
        await KeyServiceProbe(service).check()


async def test_attack_25_a_redirect_is_not_followed(cloud: Bench, certificate: tuple[Path, ssl.SSLContext]) -> None:
    assert cloud.double is not None
    async with listening(VaultDouble(), certificate[1]) as thief:
        service = await cloud.service()
        for status in (301, 302, 303, 307, 308):
            cloud.double.fail = web.Response(status=status, headers={"Location": thief.origin})
            with pytest.raises(KeyServiceUnavailable, match="elsewhere"):
                await service.wrap(KEY, CONTEXT)
        assert thief.requests == []


async def test_attack_25_a_machine_in_its_place_gets_no_credential(
    cloud: Bench, tmp_path: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    """As after DNS rebinding: the same address, another certificate."""
    assert cloud.url is not None
    (tmp_path / "thief").mkdir(mode=0o700)
    shown = certificates.ensure(tmp_path / "thief", "127.0.0.1", dt.datetime.now(dt.UTC))
    async with listening(VaultDouble(), tls.server_context(shown.server_file, shown.server_key_file)) as thief:
        assert cloud.double is not None
        url = cloud.url.replace(cloud.double.origin.removeprefix("https://"), thief.origin.removeprefix("https://"))
        async with key_service_of(url, tmp_path) as service:
            with pytest.raises(KeyServiceUnavailable):
                await service.wrap(KEY, CONTEXT)
        assert thief.requests == []


async def test_a_proxy_of_the_environment_is_not_used(cloud: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert await (await cloud.service()).wrap(KEY, CONTEXT)


async def test_without_credentials_nothing_is_sent(cloud: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyServiceUnavailable, match=r"credentials|token"):
        await (await cloud.service()).wrap(KEY, CONTEXT)
    assert cloud.double is not None
    assert cloud.double.requests == []


async def test_wrong_credentials_are_said_without_them(cloud: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "wrong-secret")
    if isinstance(cloud.double, GcpDouble):
        GcpDouble().key_file(cloud.folder / "account.json")  # another account's key
    with pytest.raises(KeyServiceUnavailable) as refused:
        await (await cloud.service()).wrap(KEY, CONTEXT)
    assert "wrong-secret" not in str(refused.value)


async def test_a_server_moves_from_its_key_file_to_a_cloud(cloud: Bench) -> None:
    async with key_service_of(None, cloud.folder) as file:
        before = await file.wrap(KEY, CONTEXT)
    service = await cloud.service()
    assert await service.unwrap(before, CONTEXT) == KEY
    after = await service.wrap(KEY, CONTEXT)
    (cloud.folder / "key-encryption-key").unlink()
    again = await cloud.service()
    assert await again.unwrap(after, CONTEXT) == KEY
    with pytest.raises(EnvelopeRefused, match="another kind"):
        await again.unwrap(before, CONTEXT)


async def test_many_at_once_log_in_once(cloud: Bench) -> None:
    service = await cloud.service()
    await asyncio.gather(*(service.wrap(os.urandom(32), CONTEXT) for _ in range(16)))
    assert cloud.double is not None
    logins = [path for path, _, _ in cloud.double.requests if "token" in path]
    assert len(logins) == (1 if cloud.kind in {"gcp", "azure"} else 0)


# ---- the URL (attack 25) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "aws-kms://kms.eu-central-1.amazonaws.com.attacker.com/1234",
        "aws-kms://attacker.com/kms.eu-central-1.amazonaws.com",
        "aws-kms://kms.eu-central-1.amazonaws.com@attacker.com/1234",
        "aws-kms://kms.eu-central-1.amazonaws.com/../1234",
        "aws-kms://kms.eu-central-1.amazonaws.com/",
        "aws-kms://169.254.169.254/1234?region=eu-central-1",
        "aws-kms://localhost/1234",
        "aws-kms://kms.eu-central-1.amazonaws.com/1234?insecure_loopback=1",
        "gcp-kms://cloudkms.googleapis.com.attacker.com/projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "gcp-kms://cloudkms.googleapis.com/projects/p/locations/l/keyRings/r/cryptoKeys/k?login=https://attacker.com",
        "gcp-kms://cloudkms.googleapis.com/projects/p/locations/l/keyRings/r/cryptoKeys/k?login=http://localhost",
        "gcp-kms://cloudkms.googleapis.com/projects/p/keyRings/r",
        "azure-key-vault://clinic.vault.azure.net.attacker.com/kek",
        "azure-key-vault://clinic.vault.azure.net/kek/../other",
        "azure-key-vault://clinic.vault.azure.net/kek?login=https://login.microsoftonline.com.attacker.com",
        "azure-key-vault://clinic.vault.azure.net/kek?alg=none",
        "vault-transit://vault.example/kek",
        "vault-transit://vault.example/transit/kek?insecure_loopback=1",
        "vault-transit://vault.example/transit/kek?redirect=1",
        "vault-transit://user:secret-word@vault.example/transit/kek",
        "vault-transit://vault.example/transit/kek#x",
        "vault-transit://vault.example/transit/k\u0435k",
        "vault-transit://vault.example:99999/transit/kek",
        "https://vault.example/transit/kek",
        "nonsense",
        "",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(KeyUnavailable, match="--key-service") as refused:
        parse_endpoint(url)
    assert "secret-word" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_good_urls_are_read() -> None:
    aws = parse_endpoint("aws-kms://kms.eu-central-1.amazonaws.com/alias/clinic")
    assert (aws.origin, aws.key, aws.region) == (
        "https://kms.eu-central-1.amazonaws.com",
        "alias/clinic",
        "eu-central-1",
    )
    endpoint = parse_endpoint("aws-kms://vpce-1a-2b.kms.eu-west-1.vpce.amazonaws.com/1234")
    assert endpoint.region == "eu-west-1"
    gcp = parse_endpoint("gcp-kms://cloudkms.googleapis.com/projects/p/locations/l/keyRings/r/cryptoKeys/k")
    assert (gcp.login, gcp.key) == ("https://oauth2.googleapis.com", "projects/p/locations/l/keyRings/r/cryptoKeys/k")
    azure = parse_endpoint("azure-key-vault://clinic.vault.azure.net/kek")
    assert (azure.login, azure.algorithm) == ("https://login.microsoftonline.com", "RSA-OAEP-256")
    vault = parse_endpoint("vault-transit://[::1]:8200/a/b/kek?insecure_loopback=1")
    assert (vault.origin, vault.mount, vault.key) == ("http://[::1]:8200", "a/b", "kek")


# ---- what others computed -----------------------------------------------------------------------------------------


def test_a_signature_is_that_of_amazons_test_suite() -> None:
    """aws-sig-v4-test-suite, "post-vanilla"."""
    endpoint = Endpoint(AWS, "https://example.amazonaws.com", "", region="us-east-1")
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    at = dt.datetime(2015, 8, 30, 12, 36, tzinfo=dt.UTC)
    signed = sign(endpoint, {}, b"", credentials, at, service="service")
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


def test_checksums_are_those_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283
