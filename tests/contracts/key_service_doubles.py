"""Local doubles of four key services: their wire protocols over TLS, checked as the real ones check them.

They keep AES keys by version, refuse what the real ones refuse with the same status and body, and can throttle. What
they verify (signatures, assertions, tokens) they compute with code of their own.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AWS_KEY_ID, AWS_SECRET = "AKIDOUBLE", "double/secret+key"
VAULT_TOKEN = "hvs.double-token"
AZURE_SECRET = "double~client.secret"


class Double:
    """What all doubles share: versions of a key, throttling, and a record of what came."""

    def __init__(self) -> None:
        self.keys = [os.urandom(32)]
        self.throttle = 0
        self.fail: web.Response | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.origin = ""

    def rotate(self) -> None:
        self.keys.append(os.urandom(32))

    def seal(self, plaintext: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(12)
        return bytes([len(self.keys)]) + nonce + AESGCM(self.keys[-1]).encrypt(nonce, plaintext, bound)

    def open(self, blob: bytes, bound: bytes) -> bytes | None:
        try:
            return AESGCM(self.keys[blob[0] - 1]).decrypt(blob[1:13], blob[13:], bound)
        except (InvalidTag, IndexError, ValueError):
            return None

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path_qs, dict(request.headers), body))
        if self.fail is not None:
            return web.Response(status=self.fail.status, body=self.fail.body, headers=self.fail.headers)
        if self.throttle and not self.is_login(request):
            self.throttle -= 1
            return self.throttled()
        return await self.answer(request, body)

    def is_login(self, request: web.Request) -> bool:
        return False

    def throttled(self) -> web.Response:
        return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "0"})

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        raise NotImplementedError


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class AwsDouble(Double):
    """Encrypt and Decrypt of KMS; a request whose signature does not hold is refused."""

    region = "eu-central-1"
    key_id = "1234abcd-12ab-34cd-56ef-1234567890ab"

    def url(self, ca_file: Path) -> str:
        host = self.origin.removeprefix("https://")
        return f"aws-kms://{host}/{self.key_id}?region={self.region}&ca_file={ca_file}"

    def fault(self, kind: str, status: int = 400) -> web.Response:
        return web.Response(status=status, body=json.dumps({"__type": kind, "message": "no"}).encode())

    def throttled(self) -> web.Response:
        return self.fault("ThrottlingException")

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        if not self.signed(request, body):
            return self.fault("InvalidSignatureException", 403)
        asked: dict[str, Any] = json.loads(body)
        if asked["KeyId"] != self.key_id:
            return self.fault("NotFoundException")
        bound = json.dumps(asked["EncryptionContext"], sort_keys=True).encode()
        target = request.headers["X-Amz-Target"]
        arn = f"arn:aws:kms:{self.region}:111122223333:key/{self.key_id}"
        if target == "TrentService.Encrypt":
            blob = self.seal(unb64(asked["Plaintext"]), bound)
            answer = {"CiphertextBlob": b64(blob), "KeyId": arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        else:
            assert target == "TrentService.Decrypt"
            plaintext = self.open(unb64(asked["CiphertextBlob"]), bound)
            if plaintext is None:
                return self.fault("InvalidCiphertextException")
            answer = {"Plaintext": b64(plaintext), "KeyId": arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        return web.Response(body=json.dumps(answer).encode(), content_type="application/x-amz-json-1.1")

    def signed(self, request: web.Request, body: bytes) -> bool:
        kind, _, rest = request.headers.get("Authorization", "").partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        moment = request.headers["X-Amz-Date"]
        at = dt.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        if kind != "AWS4-HMAC-SHA256" or abs(dt.datetime.now(dt.UTC) - at) > dt.timedelta(minutes=5):
            return False
        key_id, *scope = parts["Credential"].split("/")
        names = parts["SignedHeaders"].split(";")
        if key_id != AWS_KEY_ID or scope[1:] != [self.region, "kms", "aws4_request"] or scope[0] != moment[:8]:
            return False
        if not {"host", "x-amz-date", "x-amz-target", "content-type"} <= set(names):
            return False
        lines = [request.method, request.path, request.query_string]
        lines += [f"{name}:{request.headers[name].strip()}" for name in names]
        lines += ["", ";".join(names), hashlib.sha256(body).hexdigest()]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        string = "\n".join([kind, moment, "/".join(scope), digest])
        key = ("AWS4" + AWS_SECRET).encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        expected = hmac.new(key, string.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, parts["Signature"])


class GcpDouble(Double):
    """Cloud KMS and the login of service accounts."""

    name = "projects/p-1/locations/europe-west4/keyRings/clinic/cryptoKeys/kek"

    def __init__(self) -> None:
        super().__init__()
        self.account = rsa.generate_private_key(65537, 2048)
        self.tokens: set[str] = set()

    def url(self, ca_file: Path) -> str:
        host = self.origin.removeprefix("https://")
        return f"gcp-kms://{host}/{self.name}?login={self.origin}&ca_file={ca_file}"

    def key_file(self, path: Path) -> Path:
        pem = self.account.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Where it says tokens are is where an attacker would like them asked for.
        account = {
            "type": "service_account",
            "client_email": "clinic@p-1.iam.gserviceaccount.com",
            "private_key_id": "k1",
            "private_key": pem.decode(),
            "token_uri": "https://oauth2.googleapis.com.attacker.example/token",
        }
        path.write_text(json.dumps(account))
        return path

    def is_login(self, request: web.Request) -> bool:
        return request.path == "/token"

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        if self.is_login(request):
            return self.login(dict(await request.post()))
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"error": {"status": "UNAUTHENTICATED"}}, status=401)
        name, _, operation = request.path.removeprefix("/v1/").partition(":")
        if name != self.name:
            return web.json_response({"error": {"status": "NOT_FOUND"}}, status=404)
        asked: dict[str, str] = json.loads(body)
        bound = unb64(asked["additionalAuthenticatedData"])
        assert asked["additionalAuthenticatedDataCrc32c"] == str(table_crc32c(bound))
        if operation == "encrypt":
            plaintext = unb64(asked["plaintext"])
            assert asked["plaintextCrc32c"] == str(table_crc32c(plaintext))
            blob = self.seal(plaintext, bound)
            return web.json_response(
                {
                    "name": f"{name}/cryptoKeyVersions/{len(self.keys)}",
                    "ciphertext": b64(blob),
                    "ciphertextCrc32c": str(table_crc32c(blob)),
                    "verifiedPlaintextCrc32c": True,
                    "verifiedAdditionalAuthenticatedDataCrc32c": True,
                }
            )
        plain = self.open(unb64(asked["ciphertext"]), bound)
        if plain is None:
            return web.json_response({"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, status=400)
        return web.json_response({"plaintext": b64(plain), "plaintextCrc32c": str(table_crc32c(plain))})

    def login(self, form: dict[str, Any]) -> web.Response:
        signed, _, signature = str(form["assertion"]).rpartition(".")
        head, claims = (json.loads(unb64url(part)) for part in signed.split("."))
        try:
            self.account.public_key().verify(unb64url(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return web.json_response({"error": "invalid_grant"}, status=400)
        assert head["alg"] == "RS256"
        assert claims["aud"] == "https://oauth2.googleapis.com/token"
        assert claims["exp"] - claims["iat"] <= 3600
        token = base64.urlsafe_b64encode(os.urandom(16)).decode()
        self.tokens.add(token)
        return web.json_response({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})


class AzureDouble(Double):
    """Key Vault with an RSA key, and the login of an application."""

    def __init__(self) -> None:
        super().__init__()
        self.rsa_keys = {os.urandom(16).hex(): rsa.generate_private_key(65537, 2048)}
        self.tokens: set[str] = set()

    def rotate(self) -> None:
        self.rsa_keys[os.urandom(16).hex()] = rsa.generate_private_key(65537, 2048)

    def url(self, ca_file: Path) -> str:
        host = self.origin.removeprefix("https://")
        return f"azure-key-vault://{host}/kek?login={self.origin}&ca_file={ca_file}"

    def is_login(self, request: web.Request) -> bool:
        return request.path.endswith("/oauth2/v2.0/token")

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        if self.is_login(request):
            form = dict(await request.post())
            assert form["scope"] == "https://vault.azure.net/.default"
            if form["client_secret"] != AZURE_SECRET:
                return web.json_response({"error": "invalid_client"}, status=401)
            token = base64.urlsafe_b64encode(os.urandom(16)).decode()
            self.tokens.add(token)
            return web.json_response({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            challenge = 'Bearer authorization="https://login.attacker.example/t", resource="https://vault.azure.net"'
            return web.json_response({"error": {}}, status=401, headers={"WWW-Authenticate": challenge})
        assert request.query["api-version"] == "7.4"
        _, keys, name, *version, operation = request.path.split("/")
        if (keys, name) != ("keys", "kek"):
            return web.json_response({"error": {"code": "KeyNotFound"}}, status=404)
        used = version[0] if version else list(self.rsa_keys)[-1]
        if used not in self.rsa_keys:
            return web.json_response({"error": {"code": "KeyNotFound"}}, status=404)
        asked: dict[str, str] = json.loads(body)
        assert asked["alg"] == "RSA-OAEP-256"
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        value, key = unb64url(asked["value"]), self.rsa_keys[used]
        try:
            result = key.public_key().encrypt(value, oaep) if operation == "wrapkey" else key.decrypt(value, oaep)
        except ValueError:
            return web.json_response({"error": {"code": "BadParameter"}}, status=400)
        encoded = base64.urlsafe_b64encode(result).rstrip(b"=").decode()
        return web.json_response({"kid": f"https://somewhere.else.example/keys/kek/{used}", "value": encoded})


class VaultDouble(Double):
    """Transit with an aes256-gcm96 key."""

    def url(self, ca_file: Path) -> str:
        return f"vault-transit://{self.origin.removeprefix('https://')}/transit/kek?ca_file={ca_file}"

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        if request.headers.get("X-Vault-Token") != VAULT_TOKEN:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        asked: dict[str, str] = json.loads(body)
        if request.path == "/v1/transit/keys/kek/rotate":
            self.rotate()
            return web.Response(status=204)
        bound = unb64(asked["associated_data"])
        if request.path == "/v1/transit/encrypt/kek":
            blob = self.seal(unb64(asked["plaintext"]), bound)
            text = f"vault:v{blob[0]}:{b64(blob[1:])}"
            return web.json_response({"data": {"ciphertext": text, "key_version": blob[0]}})
        if request.path != "/v1/transit/decrypt/kek":
            return web.json_response({"errors": ["encryption key not found"]}, status=404)
        _, version, text = asked["ciphertext"].split(":")
        try:
            plaintext = self.open(bytes([int(version[1:]) % 256]) + unb64(text), bound)
        except ValueError:
            plaintext = None
        if plaintext is None:
            return web.json_response({"errors": ["cipher: message authentication failed"]}, status=400)
        return web.json_response({"data": {"plaintext": b64(plaintext)}})


def table_crc32c(octets: bytes) -> int:
    """CRC-32C by a table, unlike the adapter's."""
    table = []
    for n in range(256):
        value = n
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = table[(crc ^ octet) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@asynccontextmanager
async def listening(double: Double, context: ssl.SSLContext) -> AsyncIterator[Double]:
    """Serve a double over TLS on this machine."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", double.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    double.origin = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
