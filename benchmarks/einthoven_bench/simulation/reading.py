"""Requests read once: who hears a message on its way, and who gets it, need not each decode the same bytes.

It deliberately reads with the real decoder and nothing else. What it gives can't be changed, so that it can be shared.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from einthoven_protocol import codec
from einthoven_protocol.messages import ExchangeRequest

KEPT_REQUESTS: Final = 256
"""Messages that are remembered; one that comes later than that is read anew."""


@lru_cache(maxsize=KEPT_REQUESTS)
def decode_request(body: bytes) -> ExchangeRequest:
    """A request's message.

    Raises:
        ProtocolError: It is none.
    """
    return codec.decode_request(body)
