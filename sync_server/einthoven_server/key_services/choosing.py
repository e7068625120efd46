"""Makes the key service that ``--key-service URL`` names; the key file where nothing is said.

It deliberately keeps a key file that is there as a former service: a server that moved to a cloud's key service still
opens what the file wrapped, until ``keys rotate`` has wrapped all of it anew.

Invariants:
    1. What is wrapped, the chosen service wraps.
    2. Which service opens a wrapped key is what the key itself says; one that is not there is a refusal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

from einthoven_server.clock import Clock, SystemClock
from einthoven_server.errors import EnvelopeRefused
from einthoven_server.key_service import KeyService
from einthoven_server.key_service_file import FileKeyService
from einthoven_server.key_services.aws_kms import AwsKeyService
from einthoven_server.key_services.azure_key_vault import AzureKeyService
from einthoven_server.key_services.endpoint import AWS, AZURE, GCP, VAULT, parse_endpoint
from einthoven_server.key_services.gcp_kms import GcpKeyService
from einthoven_server.key_services.http_client import make_session
from einthoven_server.key_services.vault_transit import VaultKeyService
from einthoven_server.key_services.wrapped_form import FILE, unpack

_Adapter: TypeAlias = type[AwsKeyService | AzureKeyService | GcpKeyService | VaultKeyService]
_ADAPTERS: Final[Mapping[str, _Adapter]] = {
    AWS: AwsKeyService,
    GCP: GcpKeyService,
    AZURE: AzureKeyService,
    VAULT: VaultKeyService,
}
_FILE_NAME: Final = "key-encryption-key"


class SeveralKeyServices:
    """One service that wraps, and former ones that still open.

    Args:
        kind: What the first is.
        chosen: The first.
        former: By what they are.
    """

    def __init__(self, kind: str, chosen: KeyService, former: Mapping[str, KeyService]) -> None:
        self.chosen = chosen
        self._opening = {**former, kind: chosen}

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """See ``KeyService.wrap``."""
        return await self.chosen.wrap(key, context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See ``KeyService.unwrap``."""
        service = self._opening.get(unpack(wrapped).kind)
        if service is None:
            raise EnvelopeRefused(
                "a key was wrapped by another kind of service", "give --key-service as it was, or restore the key file"
            )
        return await service.unwrap(wrapped, context)


@asynccontextmanager
async def key_service_of(url: str | None, data: Path, clock: Clock | None = None) -> AsyncIterator[SeveralKeyServices]:
    """Have the key service while the block runs.

    Args:
        url: See ``endpoint``; the key file of the data folder where ``None``.
        data: The data folder.
        clock: Wall time; the machine's where ``None``.

    Raises:
        KeyUnavailable: The URL is none of a key service, or the key file can't be used.
    """
    path = data / _FILE_NAME
    if url is None:
        yield SeveralKeyServices(FILE, FileKeyService(path), {})
        return
    endpoint = parse_endpoint(url)
    former: dict[str, KeyService] = {FILE: FileKeyService(path)} if path.exists() or path.is_symlink() else {}
    async with make_session(endpoint) as session:
        chosen = _ADAPTERS[endpoint.kind](endpoint, session, clock or SystemClock())
        yield SeveralKeyServices(endpoint.kind, chosen, former)
