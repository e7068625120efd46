"""Requests that take more memory than there is: refused before they take it, and nobody else with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest
from tests.einthoven_server.part_site import running_part
from tests.einthoven_server.site import Answer, Device, ManualClock, Site

from einthoven_protocol.codec import encode_request
from einthoven_protocol.fields import write_fields
from einthoven_protocol.frame import REQUEST, close_frame, content_bytes, open_frame
from einthoven_protocol.limits import MAX_DECODED_BYTES
from einthoven_server import limits
from einthoven_server.memory_in_flight import Budget

KIB = 1024
UNKNOWN_FIELD = 100


class WatchedBudget(Budget):
    """A budget that tells when 250 KiB are lent."""

    def __init__(self) -> None:
        super().__init__(most_bytes=512 * KIB, light_bytes=64 * KIB, heavy_share=Fraction(3, 4))
        self.much_is_lent = asyncio.Event()

    def resize(self, before_bytes: int, after_bytes: int) -> None:
        super().resize(before_bytes, after_bytes)
        if self.lent_bytes >= 250 * KIB:
            self.much_is_lent.set()


@pytest.fixture
def budget() -> WatchedBudget:
    return WatchedBudget()


@pytest.fixture
async def device(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock, budget: WatchedBudget
) -> AsyncIterator[Device]:
    enrolled = await site.new_device()
    async with running_part(data_folder, database_url, clock, site.tenant, budget=budget) as (part, _):
        yield Device(part, enrolled.key, enrolled.identity)


def padded(device: Device, filling: bytes) -> bytes:
    """An exchange with a field of a version to come."""
    content = open_frame(encode_request(device.request()), REQUEST)
    return close_frame(REQUEST, [content, *write_fields({UNKNOWN_FIELD: [filling]})])


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


async def test_a_body_that_does_not_fit_is_refused_for_now(device: Device, budget: Budget) -> None:
    answer = await device.post(padded(device, noise(400 * KIB)))
    assert (answer.status, answer.error) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await device.post(padded(device, noise(300 * KIB)))).status == 200
    assert budget.lent_bytes == 0


async def test_rows_that_do_not_fit_are_refused_and_not_written(device: Device, budget: Budget) -> None:
    rows = device.rows(1, 512 * KIB // limits.ROW_IN_FLIGHT_BYTES)
    answer = await device.post(device.request(rows))
    assert (answer.status, answer.error) == (503, "busy")
    assert (await device.exchange()).acknowledged == 0
    few = rows[: len(rows) // 2]
    assert (await device.exchange(few)).acknowledged == len(few)
    assert budget.lent_bytes == 0


async def test_who_sends_slowly_keeps_large_ones_out_but_no_small_one(device: Device, budget: WatchedBudget) -> None:
    body, rest = padded(device, noise(300 * KIB)), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[: 250 * KIB]
        await rest.wait()
        yield body[250 * KIB :]

    async def send() -> Answer:
        headers = device.sign(body)
        return await device.site.send("POST", "/v1/exchange", headers=headers, data=slowly())

    slow = asyncio.create_task(send())
    await asyncio.wait_for(budget.much_is_lent.wait(), 10)
    assert (await device.post(padded(device, noise(200 * KIB)))).status == 503
    assert (await device.exchange(device.rows(1, 3))).acknowledged == 3
    rest.set()
    assert (await slow).status == 200
    assert budget.lent_bytes == 0


async def test_large_content_is_decoded_in_turns_and_comes_to_the_same(device: Device) -> None:
    bodies = [padded(device, bytes(MAX_DECODED_BYTES - KIB)) for _ in range(2 * limits.LARGE_DECODED_AT_ONCE)]
    assert all(content_bytes(body) > limits.LARGE_CONTENT_BYTES and len(body) < 2 * KIB for body in bodies)
    answers = await asyncio.gather(*(device.post(body) for body in bodies))
    assert [answer.status for answer in answers] == [200] * len(bodies)


def test_the_size_of_a_content_is_known_before_it_is_opened(device: Device) -> None:
    for filling in (b"", noise(10 * KIB), bytes(10 * KIB)):
        body = padded(device, filling)
        assert content_bytes(body) == len(open_frame(body, REQUEST))
    assert [content_bytes(body) for body in (b"", b"\1", b"\1\1\0", b"\1\1\1", b"\1\1\1no zstd")] == [0] * 5
    too_much = bytearray(padded(device, bytes(10 * KIB)))
    assert too_much[7] & 0xC0 == 0x40  # the content's size stands in two bytes, less 256
    too_much[7] |= 0xC0  # now in eight
    assert content_bytes(bytes(too_much)) == 0
