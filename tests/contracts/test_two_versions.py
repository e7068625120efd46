"""A device of version 1.0 on a server of today: the bytes it always sent, read and answered as ever."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contracts.shards import Phone, Shard, memory_shard
from tests.vectors.protocol_1_0 import codec as codec_1_0

from einthoven_protocol.codec import decode_request, encode_response
from einthoven_protocol.messages import FurtherRegister, ResultId, RowVerdict, VerdictCode

VECTORS = Path(__file__).parent.parent / "vectors" / "sync"
BODIES = {one["name"]: one for one in json.loads((VECTORS / "messages.json").read_text())}
SEAL = json.loads((VECTORS / "seal.json").read_text())


@pytest.fixture
async def shard() -> AsyncIterator[Shard]:
    async with memory_shard() as shard:
        yield shard


@pytest.fixture
async def phones(shard: Shard) -> tuple[Phone, Phone]:
    """The device of the vectors, alias 7, and a newer one of the same patient."""
    patient = shard.new_patient()
    for _ in range(6):
        await shard.new_phone()
    old = await shard.new_phone(patient)
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEAL["signing_key_seed"]))
    device = replace(old.device, public_key=private.public_key().public_bytes_raw())
    await shard.enrolment.enrol(device)
    return replace(old, device=device, private=private), await shard.new_phone(patient)


async def exchange_1_0(old: Phone, name: str) -> codec_1_0.ExchangeResponse:
    """Send a frozen body, and read the answer as version 1.0 did."""
    request = decode_request(bytes.fromhex(BODIES[name]["body"]))
    request = msgspec.structs.replace(request, cursor=old.cursor)
    response = await old.send(request)
    read = codec_1_0.decode_response(encode_response(response, peer=request.capabilities))
    old.cursor = response.cursor
    return read


async def test_an_old_devices_bytes_are_taken_and_answered_as_ever(phones: tuple[Phone, Phone]) -> None:
    old, _ = phones
    first = await exchange_1_0(old, "request_first_push")
    assert (first.acknowledged, first.verdicts, first.digest.count, first.more) == (2, (), 2, False)
    again = await exchange_1_0(old, "request_first_push")
    assert [(one.counter, one.code) for one in again.verdicts] == [
        (1, VerdictCode.DUPLICATE),
        (2, VerdictCode.DUPLICATE),
    ]
    nothing = await exchange_1_0(old, "request_nothing_new")
    assert (nothing.acknowledged, nothing.digest) == (2, first.digest)


async def test_an_old_and_a_new_device_of_a_patient_live_together(phones: tuple[Phone, Phone]) -> None:
    old, new = phones
    await exchange_1_0(old, "request_first_push")
    extra = ((64, 5), (65, b"later"))
    await new.exchange(new.rows(1, 2, extra=extra), notes=(new.note(1, "hello"),))
    said = new.words(ResultId(7, 1, 1), comment=("seen", 1 << 16))
    said = msgspec.structs.replace(said, further=(FurtherRegister(2, 1 << 16, b"?"),))
    await new.exchange(annotations=(said,), annotation_bases=((0, 0),))
    assert len(new.results) == 4
    new.check()
    heard = await exchange_1_0(old, "request_nothing_new")
    assert [(row.author, row.comment.value) for row in heard.annotations] == [(new.device.patient_id, "seen")]
    third = await new.shard.new_phone(new.device.patient_key)
    response = await third.catch_up()
    assert {one.row.extra for one in response.results} == {(), extra}
    assert [row.further for row in response.annotations] == [said.further]


async def test_a_request_of_a_newer_sender_is_taken(phones: tuple[Phone, Phone]) -> None:
    old, _ = phones
    response = await old.send(decode_request(bytes.fromhex(BODIES["request_of_a_newer_sender"]["body"])))
    assert response.acknowledged == 2
    assert all(isinstance(verdict, RowVerdict) for verdict in response.verdicts)
