"""The first version 1 and this one speak with each other, both ways: the codec in the field, frozen, and today's."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors.protocol_1_0 import codec as old_codec
from tests.vectors.protocol_1_0 import limits as old_limits
from tests.vectors.protocol_1_0 import messages as old_messages
from tests.vectors.protocol_1_0.frame import open_frame as old_open_frame

from einthoven_protocol import codec, limits
from einthoven_protocol.frame import open_frame
from einthoven_protocol.messages import (
    AnnotationRow,
    Capability,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    ResultRow,
)

OLD_REQUEST = frozenset(old_messages.ExchangeRequest.__struct_fields__)
OLD_RESPONSE = frozenset(old_messages.ExchangeResponse.__struct_fields__)


def plain(value: object) -> object:
    """A message of either version as built-in values, without what the first version lacks."""
    match value:
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__ if name not in LATER}
        case tuple():
            return tuple(map(plain, value))
        case _:
            return value


LATER = frozenset({"extra", "further"})


def as_first_version(message: ExchangeRequest | ExchangeResponse) -> ExchangeRequest | ExchangeResponse:
    """The same without anything that 1.1 added."""
    known = OLD_REQUEST if isinstance(message, ExchangeRequest) else OLD_RESPONSE
    kept = {name: getattr(message, name) for name in known}
    kept["annotations"] = tuple(bare(row) for row in message.annotations)
    if isinstance(message, ExchangeRequest):
        kept["results"] = tuple(bare(row) for row in message.results)
        first = message.results[0].counter if message.results else 0
        last = first + len(message.results) - 1
        kept["seals"] = tuple(
            seal
            for seal in message.seals
            if not message.results or first <= seal.first_counter <= seal.last_counter <= last
        )
    return type(message)(**kept)


def bare(row: AnnotationRow | ResultRow) -> AnnotationRow | ResultRow:
    return msgspec.structs.replace(row, **dict.fromkeys(LATER & set(row.__struct_fields__), ()))


def members(message: object, names: frozenset[str]) -> dict[str, object]:
    return {name: plain(getattr(message, name)) for name in names}


@given(request=...)
def test_what_the_first_version_would_send_is_the_same_bytes_today(request: ExchangeRequest) -> None:
    request = as_first_version(request)
    body = codec.encode_request(request)
    old = old_codec.decode_request(body)
    assert members(old, OLD_REQUEST) == members(request, OLD_REQUEST)
    assert open_frame(old_codec.encode_request(old), 1) == old_open_frame(body, 1)
    assert codec.decode_request(old_codec.encode_request(old)) == request


@given(response=...)
def test_what_the_first_version_would_answer_is_the_same_bytes_today(response: ExchangeResponse) -> None:
    response = as_first_version(response)
    body = codec.encode_response(response)
    old = old_codec.decode_response(body)
    assert members(old, OLD_RESPONSE) == members(response, OLD_RESPONSE)
    assert open_frame(old_codec.encode_response(old), 2) == old_open_frame(body, 2)
    assert codec.decode_response(old_codec.encode_response(old)) == response


@given(response=..., first=st.sampled_from([0, int(Capability.PACKED), limits.MAX_CAPABILITIES]))
def test_an_old_device_reads_any_answer_of_today(response: ExchangeResponse, first: int) -> None:
    """A server should not send it what it can't read; if it did, it would be skipped, and nothing misread."""
    old = old_codec.decode_response(codec.encode_response(response, first))
    assert members(old, OLD_RESPONSE) == members(response, OLD_RESPONSE)


@given(request=...)
def test_an_old_server_reads_any_request_of_today_but_for_alerts(request: ExchangeRequest) -> None:
    """Nor a device a server; alerts bring seals that lie outside the results, which the first version refuses."""
    request = msgspec.structs.replace(request, alerts=(), seals=as_first_version(request).seals)  # type: ignore[union-attr]
    old = old_codec.decode_request(codec.encode_request(request))
    assert members(old, OLD_REQUEST) == members(request, OLD_REQUEST)


def test_the_first_request_to_an_unknown_server_is_one_that_an_old_one_takes() -> None:
    request = ExchangeRequest(device_alias=7, epoch=1, cursor=Cursor(1, 300), capabilities=int(sum(Capability)))
    old = old_codec.decode_request(codec.encode_request(request))
    assert (old.device_alias, old.epoch, plain(old.cursor)) == (7, 1, plain(request.cursor))


def test_an_answer_to_an_old_device_is_announced_in_a_few_bytes() -> None:
    response = ExchangeResponse(acknowledged=2, digest=Digest(2, 5), capabilities=int(sum(Capability)))
    bare_response = msgspec.structs.replace(response, capabilities=0)
    assert len(codec.encode_response(response)) - len(codec.encode_response(bare_response)) == 3


@pytest.mark.parametrize("name", [name for name in vars(old_limits) if name.isupper()])
def test_no_limit_of_the_first_version_became_tighter(name: str) -> None:
    before, now = getattr(old_limits, name), getattr(limits, name)
    assert now <= before if name.startswith("MIN_") else now >= before
