"""A real server and real devices for the figures of sync: TLS 1.3, SQLCipher, durable PostgreSQL, one machine.

It deliberately measures nothing.

Invariants:
    1. Devices come to the server as anyone's do: by an enrolment code, with keys of their own.
    2. Whatever was started has ended when the context does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.enrolling import enroll
from einthoven.identity import Identity, load_identity, save_identity
from einthoven.ports import Store
from einthoven.store_rules import SYNC_KEY_SETTING
from einthoven.tls import pinned_context
from einthoven_bench.counting_proxy import CountingProxy
from einthoven_bench.errors import MeasurementFailed
from einthoven_demo.server_process import Child, ServerProcess, spawned

CALL_TIMEOUT_S: Final = 60.0


class Site:
    """A running server with its first administrator.

    Args:
        process: The server.
        proxy: Before it, counting.
    """

    def __init__(self, process: ServerProcess, proxy: CountingProxy) -> None:
        self._process = process
        self._authorization = Authorization(process.url, process.admin)
        self.proxy = proxy

    @property
    def url(self) -> str:
        """The server's own address, without the proxy."""
        return self._process.url

    @property
    def tls(self) -> ssl.SSLContext:
        """Trusts this server alone."""
        return pinned_context(self._process.ca_file.read_text(encoding="ascii"))

    def patient(self) -> str:
        """Make a patient; return the id."""
        return str(self._call("POST", "/v1/patients", {})["patient_id"])

    def clinician(self, patient_ids: Iterable[str]) -> Account:
        """Make a clinician in these patients' care teams, with a key of their own."""
        return self.principal("clinician", patient_ids)

    def principal(self, role: str, treats: Iterable[str] = (), patient_id: str | None = None) -> Account:
        """Make a principal with a key of its own.

        Args:
            role: As the server names it.
            treats: Patients whose care team it joins.
            patient_id: Whom it is, where the role is a patient's.
        """
        account = Account()
        asked: dict[str, object] = {"role": role, "jwks": account.public_jwks()}
        made = self._call("POST", "/v1/principals", asked | ({"patient_id": patient_id} if patient_id else {}))
        for one in treats:
            self._call("PUT", f"/v1/patients/{one}/care-team/{made['principal_id']}", {})
        return account.named(made["principal_id"])

    @property
    def admin(self) -> Account:
        """The first administrator."""
        return self._process.admin

    def ask(self, method: str, path: str, body: object, account: Account) -> dict[str, Any]:
        """Ask as somebody.

        Raises:
            MeasurementFailed: The server refuses.
        """
        return asyncio.run(self._called(method, path, body, Authorization(self.url, account)))

    def code(self, patient_id: str) -> str:
        """Make an enrolment code."""
        return str(self._call("POST", f"/v1/patients/{patient_id}/enrolment-codes", {})["code"])

    def enrol(self, store: Store, patient_id: str) -> Identity:
        """Enrol a store's device for a patient."""
        return asyncio.run(enroll(store, self.code(patient_id)))

    def lead_through_proxy(self, store: Store) -> Identity:
        """From now on this device's traffic is counted."""
        identity = load_identity(store)
        host = urlsplit(identity.url).hostname
        moved = msgspec.structs.replace(identity, url=f"https://{host}:{self.proxy.port}")
        save_identity(store, moved, store.setting(SYNC_KEY_SETTING) or b"")
        return moved

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        return asyncio.run(self._called(method, path, body, self._authorization))

    async def _called(self, method: str, path: str, body: object, shows: Authorization) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self.tls)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
            client.request(
                method, self.url + path, json=body, headers=await shows.headers(client, method, path)
            ) as answer,
        ):
            text = await answer.text()
            if answer.status not in {200, 201}:
                raise MeasurementFailed(f"the server answered {answer.status} to {method} {path}", "see its log", 1)
            found: dict[str, Any] = json.loads(text)
            return found


@contextmanager
def running_site(folder: Path | None = None, spawn: Callable[[Sequence[str], Path], Child] = spawned) -> Iterator[Site]:
    """A server of its own, on an empty database.

    Args:
        folder: Below which its data lies while it runs; the system's temporary folder, if ``None``.
        spawn: Starts it.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as made,
        ServerProcess(Path(made) / "server" / "data", spawn) as process,
    ):
        process.start()
        with CountingProxy(urlsplit(process.url).port or 443) as proxy:
            yield Site(process, proxy)
