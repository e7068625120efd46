"""The frozen vectors of ``repair.json``, read by both implementations, and the specification that quotes them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.einthoven_protocol import slow_repair
from tests.einthoven_protocol.test_vectors import as_json

from einthoven_protocol import limits, repair_codec, riblt, strata
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.frame import REPAIR_REQUEST, REPAIR_RESPONSE, open_frame
from einthoven_protocol.siphash import siphash24

ROOT = Path(__file__).parents[2]
SPECIFICATION = (ROOT / "docs" / "sync-repair-v1.md").read_text(encoding="utf-8")
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "sync" / "repair.json").read_text(encoding="ascii"))
EXAMPLES = re.findall(r"<!-- vector: repair.json (.+?) -->\n```\n(.*?)\n```", SPECIFICATION, re.DOTALL)

SESSION = bytes.fromhex(VECTORS["session"])
ROWS = VECTORS["rows"]
SYMBOLS = bytes.fromhex("".join(VECTORS["symbols"]))
KINDS = {
    "repair_request": (REPAIR_REQUEST, repair_codec.encode_repair_request, repair_codec.decode_repair_request),
    "repair_response": (REPAIR_RESPONSE, repair_codec.encode_repair_response, repair_codec.decode_repair_response),
}


def items_of(places: list[int]) -> list[int]:
    return [int(ROWS[place]["item"], 16) for place in places]


def test_siphash() -> None:
    for vector in VECTORS["siphash"]:
        key, message = bytes.fromhex(vector["key"]), bytes.fromhex(vector["message"])
        assert f"{slow_repair.siphash(key, message):016x}" == vector["hash"]
        assert f"{int(siphash24(key, np.frombuffer(message, np.uint8)[None, :])[0]):016x}" == vector["hash"]


def test_items_checks_and_cells() -> None:
    octets = bytes.fromhex("".join(row["share"] for row in ROWS))
    items = riblt.items(SESSION, np.frombuffer(octets, np.uint8).reshape(-1, 16)).tolist()
    assert items == items_of(list(range(len(ROWS))))
    for number, (row, item) in enumerate(zip(ROWS, items, strict=True)):
        assert bytes.fromhex(row["share"]) == hashlib.sha256(b"row %d" % number).digest()[:16]
        assert slow_repair.item_of(SESSION, bytes.fromhex(row["share"])) == item
        assert f"{slow_repair.check_of(SESSION, item):04x}" == row["check"]
        assert slow_repair.cells_of(item, riblt.MAX_SYMBOLS) == row["cells"]
        symbols = np.frombuffer(riblt.encode(SESSION, np.array([item], np.uint64), riblt.MAX_SYMBOLS), np.uint8)
        assert np.flatnonzero(symbols.reshape(-1, 6).any(axis=1)).tolist() == row["cells"]


def test_symbols() -> None:
    items = items_of(VECTORS["device_rows"])
    assert slow_repair.symbols(SESSION, items, len(VECTORS["symbols"])) == SYMBOLS
    assert riblt.encode(SESSION, np.array(items, np.uint64), len(VECTORS["symbols"])) == SYMBOLS


def test_decoding() -> None:
    own = items_of(VECTORS["server_rows"])
    for decode in (_decode, slow_repair.decoded):
        found = decode(SESSION, own, SYMBOLS)
        assert found is not None
        server_only, device_only = found
        assert [VECTORS["server_rows"][place] for place in server_only] == VECTORS["decoded"]["server_only"]
        assert [f"{item:08x}" for item in device_only] == VECTORS["decoded"]["device_only"]
        assert decode(SESSION, own, SYMBOLS[: 6 * VECTORS["undecoded_with"]]) is None


def _decode(session: bytes, own: list[int], symbols: bytes) -> tuple[list[int], list[int]] | None:
    found = riblt.decode(session, np.array(own, np.uint64), symbols)
    return None if found is None else (found.own_only.tolist(), found.foreign.tolist())


def test_sketch_and_estimate() -> None:
    items = items_of(VECTORS["device_rows"])
    assert strata.sketch(np.array(items, np.uint64)).hex() == slow_repair.sketch(items).hex() == VECTORS["sketch"]
    estimate = VECTORS["estimate"]
    many = [int.from_bytes(hashlib.sha256(b"item %d" % n).digest()[:4], "big") for n in range(300)]
    assert slow_repair.sketch(many).hex() == estimate["sketch"]
    found = strata.difference(np.empty(0, np.uint64), bytes.fromhex(estimate["sketch"]))
    assert abs(found - estimate["of_the_empty_set"]) <= 0.1 * estimate["of_the_empty_set"]


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages(vector: dict[str, Any]) -> None:
    kind, encode, decode = KINDS[vector["kind"]]
    body, content = bytes.fromhex(vector["body"]), bytes.fromhex(vector["content"])
    message: Any = decode(body)
    assert as_json(message) == vector["message"]
    assert open_frame(body, kind) == content
    assert as_json(decode(bytes((1, kind, 0)) + content)) == vector["message"]
    # What zstd makes of the content may change with its version; the content itself may not.
    assert open_frame(encode(message), kind) == content  # type: ignore[operator]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        KINDS[vector["kind"]][2](bytes.fromhex(vector["body"]))
    assert caught.value.code == vector["code"]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == SPECIFICATION.count("<!-- vector: repair.json ") >= 9


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_an_example_is_the_vector_it_names(path: str, example: str) -> None:
    found: Any = VECTORS
    for step in path.split():
        named = isinstance(found, list)
        found = next(entry for entry in found if entry["name"] == step) if named else found[step]
    assert re.sub(r"#.*|\s", "", example) == "".join(found)


def test_the_limits_are_the_codes() -> None:
    written = re.findall(r"^\| `([A-Z_]+)` \| (-?\d+) \|", SPECIFICATION, re.M)
    assert len(written) == 9
    for name, value in written:
        assert getattr(limits, name) == int(value)
