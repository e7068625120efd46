"""What the first version of device and server said to each other. Pure.

An old app, or an old server, is the one of now behind this: all that was added since is taken off what passes.

It deliberately asserts that nothing new is said to who can't understand it: that would be the other's mistake.
"""

from __future__ import annotations

import msgspec

from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse


def first_version_request(request: ExchangeRequest) -> ExchangeRequest:
    """The request as the first version sent and read it."""
    return ExchangeRequest(
        device_alias=request.device_alias,
        epoch=request.epoch,
        cursor=request.cursor,
        results=request.results,
        annotations=request.annotations,
        seals=request.seals,
    )


def first_version_response(response: ExchangeResponse) -> ExchangeResponse:
    """The response as the first version sent and read it."""
    return ExchangeResponse(
        acknowledged=response.acknowledged,
        verdicts=response.verdicts,
        annotations=response.annotations,
        cursor=response.cursor,
        digest=response.digest,
        more=response.more,
        server_time_ms=response.server_time_ms,
    )


def says_only_what_is_understood(request: ExchangeRequest) -> bool:
    """Whether a request to a server of the first version holds nothing that this one would not read."""
    read = first_version_request(request)
    return msgspec.structs.replace(request, capabilities=0, owners_known=0) == read
