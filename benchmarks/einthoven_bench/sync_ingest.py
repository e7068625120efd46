"""How many rows a second a server takes in over HTTPS from many devices, on the cores that its clients use too.

Every push is full, sealed by its device, encoded before the clock starts and signed as it is sent; the server checks
signature, nonce and seal, and answers when its database has the rows on disk. It deliberately makes no figures.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from einthoven import MemoryStore
from einthoven.identity import Identity
from einthoven.results import WindowResult
from einthoven.sync_requests import build_request
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.sync_content import drawn_results
from einthoven_bench.sync_site import CALL_TIMEOUT_S, Site
from einthoven_protocol import codec, http_signature
from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE

DEVICES: Final = 24
CONNECTIONS: Final = 4
_PATH: Final = "/v1/exchange"


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the server took in.

    Attributes:
        rows: All rows, of all devices.
        devices: How many pushed.
        wall_s: From the first byte sent to the last answer.
        client_cpu_s: Processor time of the clients meanwhile.
    """

    rows: int
    devices: int
    wall_s: float
    client_cpu_s: float


@dataclass(frozen=True, slots=True)
class Push:
    """A device's push, ready to be sent.

    Attributes:
        identity: Whose.
        body: The message.
    """

    identity: Identity
    body: bytes


def measure_ingest(
    site: Site, judged: Sequence[WindowResult], devices: int = DEVICES, rows: int = MAX_RESULTS_PER_EXCHANGE
) -> Ingested:
    """One full push of every device, a few at a time."""
    pushes = [prepared(site, judged, rows, seed) for seed in range(devices)]
    return asyncio.run(sent(site, pushes, rows))


def prepared(site: Site, judged: Sequence[WindowResult], rows: int, seed: int) -> Push:
    """Enrol a device and build a push of ``rows`` results.

    Args:
        site: Where.
        judged: Verdicts to draw from.
        rows: How many.
        seed: Of the drawing.
    """
    store = MemoryStore()
    identity = site.enrol(store, site.patient())
    store.append_results(drawn_results(judged, rows, seed))
    request = build_request(identity, store.sync_state(), store.pending(limit=rows))
    return Push(identity, codec.encode_request(request))


async def sent(site: Site, pushes: Sequence[Push], rows: int) -> Ingested:
    """Send them, a few at a time.

    Args:
        site: Where.
        pushes: What.
        rows: Results of each.

    Raises:
        MeasurementFailed: The server does not acknowledge all.
    """
    waiting = iter(pushes)
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=site.tls, limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:

        async def send_some() -> None:
            for push in waiting:
                async with client.post(site.url + _PATH, data=push.body, headers=_headers(push)) as answer:
                    raw = await answer.read()
                    if answer.status != 200 or codec.decode_response(raw).acknowledged != rows:
                        raise MeasurementFailed(f"the server answered {answer.status} to a push", "see its log", 1)

        async with client.get(site.url + "/livez") as answer:
            await answer.read()
        cpu_began, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(send_some() for _ in range(CONNECTIONS)))
        return Ingested(rows * len(pushes), len(pushes), time.perf_counter() - began, time.process_time() - cpu_began)


def _headers(push: Push) -> dict[str, str]:
    digest = http_signature.content_digest(push.body)
    created_s, nonce = int(time.time()), secrets.token_urlsafe(16)
    key_id = push.identity.device_id
    base = http_signature.signature_base("POST", _PATH, digest, created_s, nonce, key_id)
    return {
        "Content-Type": codec.CONTENT_TYPE,
        "Content-Digest": digest,
        "Signature-Input": http_signature.signature_input(created_s, nonce, key_id),
        "Signature": http_signature.signature_header(push.identity.sign(base)),
    }
