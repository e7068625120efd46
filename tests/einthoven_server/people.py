"""A person who logs in, as honest as a test lets them be: by HTTP alone, with a key of their own."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import Answer, Site
from tests.einthoven_server.tokens import proof, use

from einthoven_server.identity import totp

PASSWORD = "correct horse battery"  # a test's


@dataclass
class Person:
    """Somebody with an account."""

    site: Site
    account_id: str
    name: str
    code: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    secret: bytes = b""
    recovery_codes: tuple[str, ...] = ()
    access_token: str = ""
    refresh_token: str = ""

    async def post(self, path: str, body: Any, key: Ed25519PrivateKey | None = None, **more: Any) -> Answer:
        """POST with a proof."""
        headers = {"DPoP": more.pop("dpop", None) or proof(self.site, key or self.key, "POST", path)}
        return await self.site.send("POST", path, json=body, headers=headers)

    def totp(self, steps: int = 0) -> str:
        """What the authenticator shows."""
        return totp.code_at(self.secret, totp.step_of(self.site.clock.now_ms()) + steps)

    async def open(self) -> Answer:
        """Open the invitation."""
        answer = await self.site.send("POST", "/v1/invitations/open", json={"code": self.code})
        if answer.status == 200:
            self.secret = base64.b32decode(answer.json["totp_secret"])
        return answer

    async def accept(self, **changed: Any) -> Answer:
        """Set the account up."""
        body = {"code": self.code, "password": PASSWORD, "totp": self.totp()} | changed
        return self.took(await self.post("/v1/invitations/accept", body))

    async def log_in(self, key: Ed25519PrivateKey | None = None, **changed: Any) -> Answer:
        """Log in; what is changed to ``None`` is left out."""
        body = {"name": self.name, "password": PASSWORD, "totp": self.totp()} | changed
        sent = {name: value for name, value in body.items() if value is not None}
        return self.took(await self.post("/v1/login", sent, key))

    async def refresh(self, token: str | None = None, key: Ed25519PrivateKey | None = None) -> Answer:
        """Use a refresh token."""
        return self.took(await self.post("/v1/login/refresh", {"refresh_token": token or self.refresh_token}, key))

    async def ask(self, path: str = "/v1/documents", token: str | None = None) -> Answer:
        """GET with the access token."""
        held = token or self.access_token
        return await use(self.site, "GET", path, held, proof(self.site, self.key, "GET", path, held))

    def took(self, answer: Answer) -> Answer:
        """Keep what an answer brought."""
        if answer.status == 200:
            self.access_token, self.refresh_token = answer.json["access_token"], answer.json["refresh_token"]
            self.recovery_codes = tuple(answer.json.get("recovery_codes", self.recovery_codes))
        return answer

    def next_step(self, steps: int = 1) -> None:
        """Let the authenticator show another code."""
        self.site.clock.offset_ms += steps * 30_000


async def invited(site: Site, name: str, role: str = "clinician", **more: Any) -> Person:
    """Somebody whom the admin made an account for."""
    answer = await site.send("POST", "/v1/accounts", token=site.admin, json={"role": role, "name": name, **more})
    assert answer.status == 201, answer.body
    return Person(site, answer.json["account_id"], name, answer.json["code"])


async def joined(site: Site, name: str, role: str = "clinician", **more: Any) -> Person:
    """Somebody who set an account up, and may log in."""
    site.clock.stop()
    person = await invited(site, name, role, **more)
    assert (await person.open()).status == 200
    answer = await person.accept()
    assert answer.status == 200, answer.body
    person.next_step()
    return person
