"""docs/signals-v1.md says what the code does: its limits, and its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from einthoven_protocol import merkle, signal_chunks, signal_missing, signal_parcels
from einthoven_protocol.merkle_subsets import subset_proof
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import ChunkSegment, chunk_name, encode_chunk
from einthoven_protocol.signal_missing import (
    MissingRequest,
    MissingResponse,
    encode_missing_request,
    encode_missing_response,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "signals-v1.md").read_text("utf-8")
HEX = "".join(re.findall(r"^    (?:name |request +|response +)?([0-9a-f]{12,})$", DOCUMENT, re.MULTILINE))
LIMITS = re.findall(r"^\| `(MAX_\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_every_limit_is_as_written(name: str, value: str) -> None:
    (found,) = {
        getattr(module, name) for module in (signal_chunks, signal_parcels, signal_missing) if hasattr(module, name)
    }
    assert found == int(value)


def test_no_limit_is_left_out() -> None:
    named = {
        name
        for module in (signal_chunks, signal_parcels, signal_missing)
        for name in vars(module)
        if name.startswith("MAX_")
    }
    assert named == {name for name, _ in LIMITS}


def test_every_example_is_what_the_code_gives() -> None:
    chunk = encode_chunk(
        7,
        [
            ChunkSegment(epoch=1, counter=300, digest=b"\x11" * 32, stored=b"first"),
            ChunkSegment(epoch=2, counter=1, digest=b"\x22" * 32, stored=b"second"),
        ],
    )
    leaves = [bytes([number]) * 32 for number in range(1, 6)]
    request = MissingRequest((chunk_name(chunk),), (Run(1, 300, 300), Run(2, 1, 1)))
    response = MissingResponse((True,), (Run(1, 299, 301),))
    expected = [
        chunk,
        chunk_name(chunk),
        merkle.tree_hash(leaves),
        *subset_proof(leaves, [1, 2]),
        encode_missing_request(request),
        encode_missing_response(response),
    ]
    assert b"".join(expected).hex() == HEX
