"""The clinic's side of the demo: what an administrator and a clinician do over the server's HTTP interface."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven_demo.errors import DemoError

TIMEOUT_S = 15.0


class Clinic:
    """One person's authenticated connection.

    Args:
        url: The server's base URL.
        ca_file: The certificate authority to trust.
        account: The person's key, as the server knows it.
    """

    def __init__(self, url: str, ca_file: Path, account: Account) -> None:
        self._url = url
        self._authorization = Authorization(url, account)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(ca_file))),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def admit_patient(self) -> str:
        """Make a patient; return the opaque id."""
        return str((await self._call("POST", "/v1/patients", {}))["patient_id"])

    async def enrolment_code(self, patient_id: str) -> str:
        """Make a one-time code for one device of a patient."""
        return str((await self._call("POST", f"/v1/patients/{patient_id}/enrolment-codes", {}))["code"])

    async def clinician(self, patient_id: str) -> Account:
        """Make a clinician in the care team of a patient, with a key of their own."""
        account = Account()
        made = await self._call("POST", "/v1/principals", {"role": "clinician", "jwks": account.public_jwks()})
        await self._call("PUT", f"/v1/patients/{patient_id}/care-team/{made['principal_id']}")
        return account.named(str(made["principal_id"]))

    async def results(self, patient_id: str) -> list[dict[str, Any]]:
        """List a patient's results, all pages."""
        found: list[dict[str, Any]] = []
        path = f"/v1/patients/{patient_id}/results"
        page = await self._call("GET", path)
        found += page["results"]
        while page["next"] is not None:
            page = await self._call("GET", f"{path}?after={page['next']}")
            found += page["results"]
        return found

    async def annotate(self, result_id: str, *, rhythm: str, comment: str) -> None:
        """Say something of one result."""
        await self._call("PUT", f"/v1/results/{result_id}/annotation", {"rhythm": rhythm, "comment": comment})

    async def fhir(self, path: str) -> dict[str, Any]:
        """Read a FHIR R4 resource."""
        return await self._call("GET", f"/fhir/R4/{path}")

    async def fhir_search(self, query: str) -> list[dict[str, Any]]:
        """Search FHIR R4 resources, all pages."""
        found: list[dict[str, Any]] = []
        address: str | None = f"{self._url}/fhir/R4/{query}"
        while address is not None:
            page = await self._call("GET", address.removeprefix(self._url))
            found += [entry["resource"] for entry in page.get("entry", ())]
            address = next((link["url"] for link in page.get("link", ()) if link["relation"] == "next"), None)
        return found

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = await self._authorization.headers(self._client, method, path)
        async with self._client.request(method, self._url + path, json=body, headers=headers) as answer:
            if answer.status not in {200, 201}:
                raise DemoError(f"the server answered {answer.status} to {method} {path}", "see its log")
            found: dict[str, Any] = await answer.json(content_type=None)
            return found
