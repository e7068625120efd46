"""Runs the server: data folder, PostgreSQL, database, TLS socket, until told to stop.

It deliberately decides nothing about requests.

Invariants:
    1. The ready file appears once the server has answered itself over TLS, and is gone after it stopped.
    2. Stopping goes in order: no new connections, requests under way finish, the writer drains, the pool closes,
       PostgreSQL stops.
    3. Whatever was started is stopped, also when starting fails half way.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
from aiohttp import web

from einthoven_server import certificates, limits, postgres_embedded, tls
from einthoven_server.applications import make_application
from einthoven_server.assembly import Parts, make_parts
from einthoven_server.certificates import Certificates
from einthoven_server.clock import Clock, SystemClock
from einthoven_server.connections import Connection, IdleConnections
from einthoven_server.errors import AddressUnavailable, DataFolderUnsafe
from einthoven_server.identity.admin_key import AdminKey, read_admin_key
from einthoven_server.identity.permissions import Role
from einthoven_server.key_services.choosing import key_service_of
from einthoven_server.private_files import RESTORING, held, make_data_folder, write_atomically
from einthoven_server.requests import AccessLog
from einthoven_server.signals.signal_store_obstore import open_signal_store
from einthoven_server.tenant_database import open_tenant
from einthoven_server.vault.opening import open_vault

ADMIN_KEY_NAME: Final = "admin-key.json"
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  # compared with, not bound
_BACKLOG: Final = 1024

_CONNECTION: Final[dict[str, Any]] = {
    "access_log": logging.getLogger("einthoven_server.access"),
    "access_log_class": AccessLog,
    "auto_decompress": False,
    "keepalive_timeout": limits.IDLE_CONNECTION_TIMEOUT_S,
    "lingering_time": limits.LINGER_S,
    "max_line_size": limits.REQUEST_LINE_MAX_BYTES,
    "max_headers": limits.HEADERS_MAX,
    "max_field_size": limits.HEADER_FIELD_MAX_BYTES,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run.

    Attributes:
        data: The data folder.
        host: Address or name to listen on.
        port: TCP port, 0 for any free one.
        database_url: A PostgreSQL URL; the embedded one where ``None``.
        ready_file: Written when ready, removed when stopped.
        signals: URL of where raw signals lie; a folder in ``data`` where ``None``.
        public_url: Where clients reach this server, in front of whatever stands before it; its own where ``None``.
        key_service: URL of the key service; the key file in ``data`` where ``None``.
        vault: A PostgreSQL URL of the vault; beside ``database_url``, or a file in ``data``, where ``None``.
        replay_permille: Of 1,000 results with a signal, how many are recomputed; 0 for none.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8443
    database_url: str | None = None
    ready_file: Path | None = None
    signals: str | None = None
    public_url: str | None = None
    key_service: str | None = None
    vault: str | None = None
    replay_permille: int = limits.REPLAY_SAMPLE_PERMILLE


class Ready(msgspec.Struct, frozen=True):
    """What is told when the server is ready.

    Attributes:
        url: Where it is reached.
        ca_file: PEM of the authority to pin.
        pid: Its process.
    """

    url: str
    ca_file: str
    pid: int


def serve(settings: Settings, on_ready: Callable[[Ready], None]) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        StartError: It can't start.
    """
    # A push of thousands of rows makes tens of thousands of objects, none of them in a cycle: looking for cycles as
    # often as by default takes a fifth of the processor time of a row.
    gc.set_threshold(limits.GARBAGE_THRESHOLD_OBJECTS)
    with interrupting(), opened(settings.data, settings.database_url) as database_url:
        _runner()(_serve_until_signal(settings, database_url, on_ready))


@contextmanager
def opened(data: Path, database_url: str | None) -> Iterator[str]:
    """Hold a data folder and have a database; yields the database's URL.

    Raises:
        StartError: The folder can't be used, or there is no database.
    """
    make_data_folder(data)
    with held(data):
        if (data / RESTORING).exists():
            raise DataFolderUnsafe("a restore into this data folder was cut short", "run it again")
        if database_url is not None:
            yield database_url
        else:
            with postgres_embedded.running(data.resolve()) as embedded_url:
                yield embedded_url


@asynccontextmanager
async def parts_of(
    data: Path,
    database_url: str,
    clock: Clock,
    tenant: str | None = None,
    *,
    public_url: str = "",
    key_service_url: str | None = None,
    vault_url: str | None = None,
    moves: bool = False,
) -> AsyncIterator[Parts]:
    """Open, migrate and read what the applications share; without a public address no access token is good.

    Args:
        data: The data folder.
        database_url: A PostgreSQL URL.
        clock: Wall time.
        tenant: Which one; the first, or a new one, where ``None``.
        public_url: Where clients reach this server.
        key_service_url: URL of the key service; the key file in ``data`` where ``None``.
        vault_url: A PostgreSQL URL of the vault; a file in ``data`` where ``None``.
        moves: Whether to see that the vault is this database's, and to move there what is not in it yet.

    Raises:
        StartError: Database or keys can't be used.
    """
    async with (
        key_service_of(key_service_url, data, clock) as key_service,
        open_tenant(database_url, key_service, clock, tenant) as (database, owner, tenancy),
        open_vault(vault_url, data, owner, tenancy.scope, moves=moves) as vault,
    ):
        parts = make_parts(database, vault, tenancy, key_service, clock, data, public_url, owner)
        await parts.audit.prepare()
        yield parts


@asynccontextmanager
async def serving(
    settings: Settings, database_url: str, clock: Clock, tenant: str | None = None
) -> AsyncIterator[Ready]:
    """Serve while the block runs.

    Raises:
        StartError: It can't start.
    """
    now = dt.datetime.fromtimestamp(clock.now_ms() / 1000, dt.UTC)
    listening = _listen(settings)
    with listening:
        url = _url(settings.host, listening.getsockname()[1])
        named = "localhost" if settings.host in _WILDCARDS else settings.host
        shown = certificates.ensure(settings.data, named, now)
        admin, public_url = read_admin_key(settings.data / ADMIN_KEY_NAME), settings.public_url or url
        async with parts_of(
            settings.data,
            database_url,
            clock,
            tenant,
            public_url=public_url,
            key_service_url=settings.key_service,
            vault_url=settings.vault or settings.database_url,
            moves=True,
        ) as parts:
            await _ensure_admin(admin, parts)
            idle = IdleConnections()
            signals = await open_signal_store(settings.signals, settings.data)
            application = make_application(
                parts, shown, public_url, idle.middleware, signals=signals, replay_permille=settings.replay_permille
            )
            async with _accepting(application, listening, shown, idle):
                await _check_self(url, shown)
                ready = Ready(public_url, str(shown.ca_file.resolve()), os.getpid())
                yield ready


async def _serve_until_signal(settings: Settings, database_url: str, on_ready: Callable[[Ready], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings, database_url, SystemClock()) as ready:
        try:
            if settings.ready_file is not None:
                write_atomically(settings.ready_file, msgspec.json.encode(ready))
            on_ready(ready)
            await stop.wait()
        finally:
            if settings.ready_file is not None:
                settings.ready_file.unlink(missing_ok=True)


@asynccontextmanager
async def _accepting(
    application: web.Application, listening: socket.socket, shown: Certificates, idle: IdleConnections
) -> AsyncIterator[None]:
    context = tls.server_context(shown.server_file, shown.server_key_file)
    runner = web.AppRunner(application, shutdown_timeout=limits.STOP_TIMEOUT_S)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the runner has no server after setup")
    try:
        # Not web.SockSite: it does not pass the handshake's time limit.
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            partial(Connection, runner.server, loop=loop, **_CONNECTION),
            sock=listening,
            ssl=context,
            ssl_handshake_timeout=limits.TLS_HANDSHAKE_TIMEOUT_S,
            backlog=_BACKLOG,
        )
        async with idle.watching(runner.server):
            try:
                yield
            finally:
                server.close()
    finally:
        await runner.cleanup()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise AddressUnavailable(
            f"can't listen on {settings.host} port {settings.port}: {error.strerror}",
            "free it, or give another --host or --port",
        ) from error


def _url(host: str, port: int) -> str:
    name = "localhost" if host in _WILDCARDS else host
    return f"https://[{name}]:{port}" if ":" in name else f"https://{name}:{port}"


async def _ensure_admin(admin: AdminKey, parts: Parts) -> None:
    await parts.clients.create(Role.ADMIN, admin.jwks, parts.clock.now_ms(), None, client_id=admin.client_id)


async def _check_self(url: str, shown: Certificates) -> None:
    """Ask ourselves whether we are ready, as a client would."""
    host, port = url.removeprefix("https://").rsplit(":", 1)
    context = tls.client_context(shown.ca_pem)
    async with asyncio.timeout(limits.TLS_HANDSHAKE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        try:
            writer.write(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
            status = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
    if b" 200 " not in status:
        raise AddressUnavailable(
            f"the server does not answer at {url}", "see its log; or give another --host or --port"
        )


def _runner() -> Callable[..., object]:
    try:
        import uvloop  # noqa: PLC0415  # optional: absent where there is no wheel
    except ImportError:
        return asyncio.run
    return uvloop.run


@contextmanager
def interrupting() -> Iterator[None]:
    """Until the event loop takes over, SIGTERM unwinds like Ctrl-C, so that PostgreSQL is stopped."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
