"""A real server process, once a session, and the people who use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.tls import pinned_context
from einthoven_demo.server_process import ServerProcess


class Admin:
    """What an administrator does over HTTP."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._account = server.admin
        self._authorizations: dict[Account, Authorization] = {}

    async def call(self, method: str, path: str, body: Any = None, token: Account | None = None) -> tuple[int, Any]:
        """Send one request, as the administrator or another; return status and parsed body."""
        account = token or self._account
        authorization = self._authorizations.setdefault(account, Authorization(self._server.url, account))
        ca_pem = self._server.ca_file.read_text(encoding="ascii")
        connector = aiohttp.TCPConnector(ssl=pinned_context(ca_pem))
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.request(
                method,
                self._server.url + path,
                json=body,
                headers=await authorization.headers(client, method, path),
            ) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def patient(self) -> str:
        """Make a patient."""
        status, body = await self.call("POST", "/v1/patients", {})
        assert status in {200, 201}, body
        return str(body["patient_id"])

    async def code(self, patient_id: str | None = None) -> str:
        """Make a one-time enrolment code."""
        patient_id = patient_id or await self.patient()
        status, body = await self.call("POST", f"/v1/patients/{patient_id}/enrolment-codes", {})
        assert status in {200, 201}, body
        return str(body["code"])

    async def clinician(self, patient_id: str) -> Account:
        """Make a clinician who treats a patient."""
        account = Account()
        status, body = await self.call("POST", "/v1/principals", {"role": "clinician", "jwks": account.public_jwks()})
        assert status in {200, 201}, body
        status, member = await self.call("PUT", f"/v1/patients/{patient_id}/care-team/{body['principal_id']}")
        assert status == 200, member
        return account.named(str(body["principal_id"]))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server as an operator starts it."""
    with ServerProcess(tmp_path_factory.mktemp("cloud") / "data") as process:
        process.start()
        yield process


@pytest.fixture(scope="session")
def admin(server: ServerProcess) -> Admin:
    """The first administrator."""
    return Admin(server)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder for one device."""
    return tmp_path / "device"
