"""How much memory a real server takes at most, when many devices send the largest bodies there are at once."""

from __future__ import annotations

import asyncio
import io
import os
import random
import secrets
import time
from pathlib import Path

import aiohttp
import pytest

from einthoven import MemoryStore
from einthoven.identity import Identity
from einthoven_bench.sync_site import Site, running_site
from einthoven_protocol import codec, http_signature
from einthoven_protocol.fields import write_fields
from einthoven_protocol.frame import REQUEST, close_frame, open_frame
from einthoven_protocol.limits import MAX_DECODED_BYTES
from einthoven_protocol.messages import ExchangeRequest
from einthoven_server import limits

PATH = "/v1/exchange"
MIB = 1024 * 1024
DEVICES = 28
"""Their bodies together are 448 MiB."""
DECODING_BYTES = limits.LARGE_DECODED_AT_ONCE * 4 * MAX_DECODED_BYTES
OTHER_BYTES = 64 * MIB
"""A batch on its way to the database, connections, what the allocator keeps."""


def peak_bytes(processes: set[int]) -> int:
    """The highest resident size that any of these ever had."""
    peaks = [0]
    for process in processes:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        peaks += [1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks)


def children() -> set[int]:
    return {int(one) for task in Path("/proc/self/task").iterdir() for one in (task / "children").read_text().split()}


def largest(identity: Identity) -> bytes:
    """A field of a version to come that fills the message and does not compress."""
    request = ExchangeRequest(device_alias=identity.device_alias, epoch=1)
    content = open_frame(codec.encode_request(request), REQUEST)
    noise = random.Random(identity.device_alias).randbytes(MAX_DECODED_BYTES - len(content) - 64)
    return close_frame(REQUEST, [content, *write_fields({100: [noise]})])


def signed(identity: Identity, digest: str) -> dict[str, str]:
    created_s, nonce, key_id = int(time.time()), secrets.token_urlsafe(16), identity.device_id
    base = http_signature.signature_base("POST", PATH, digest, created_s, nonce, key_id)
    return {
        "Content-Type": codec.CONTENT_TYPE,
        "Content-Digest": digest,
        "Signature-Input": http_signature.signature_input(created_s, nonce, key_id),
        "Signature": http_signature.signature_header(identity.sign(base)),
    }


async def send_all(site: Site, identities: list[Identity]) -> list[int]:
    """Every device sends until it is answered; how often each was asked to come back."""
    timeout, connector = aiohttp.ClientTimeout(total=120), aiohttp.TCPConnector(ssl=site.tls, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:

        async def send(identity: Identity) -> int:
            body = largest(identity)
            digest = http_signature.content_digest(body)
            refused = 0
            while True:
                async with client.post(
                    site.url + PATH, data=io.BytesIO(body), headers=signed(identity, digest)
                ) as answer:
                    await answer.read()
                    if answer.status == 200:
                        return refused
                    assert answer.status in {429, 503}
                    await asyncio.sleep(random.uniform(0.1, float(answer.headers["Retry-After"])))
                refused += 1

        return await asyncio.gather(*map(send, identities))


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")  # noqa: PTH110
def test_many_of_the_largest_bodies_at_once_stay_within_the_budget(tmp_path: Path) -> None:
    before = children()
    with running_site(tmp_path) as site:
        identities = [site.enrol(MemoryStore(), site.patient()) for _ in range(DEVICES)]
        server = children() - before
        resting_bytes = peak_bytes(server)
        assert resting_bytes > 0
        refused = asyncio.run(send_all(site, identities))
        assert sum(refused) > 0, "there was room for all: the test shows nothing"
        taken_bytes = peak_bytes(server) - resting_bytes
    assert taken_bytes <= limits.IN_FLIGHT_MAX_BYTES + DECODING_BYTES + OTHER_BYTES
