"""The frozen vectors of ``tests/vectors/sync``, which other implementations and later versions must agree on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from einthoven_protocol import codec, digests, enrolment, hlc, http_signature, merge, merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.frame import REQUEST, RESPONSE, open_frame
from einthoven_protocol.messages import AnnotationRow, Digest, ResultRow

VECTORS = Path(__file__).parents[1] / "vectors" / "sync"
KINDS = {"request": REQUEST, "response": RESPONSE}


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="ascii"))


def as_json(value: Any) -> Any:
    """A message as the vectors write it: bytes, and a digest's total, in hex."""
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [as_json(item) for item in value]
        case Digest():
            return {"count": value.count, "total": value.total.to_bytes(16, "big").hex()}
        case msgspec.Struct():
            return {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value


def named_rows(table: str) -> dict[str, bytes]:
    return {vector["name"]: bytes.fromhex(vector["octets"]) for vector in vectors("canonical.json")[table]}


RESULTS, ANNOTATIONS = named_rows("results"), named_rows("annotations")
MESSAGES = {vector["name"]: vector for vector in vectors("messages.json")}
REFUSED = {vector["name"]: vector for vector in vectors("refused.json")}
MERGES = {vector["name"]: vector for vector in vectors("merge.json")}


def result_row(name: str) -> ResultRow:
    return codec.decode_result_row(RESULTS[name])


def annotation_row(plain: dict[str, Any]) -> AnnotationRow:
    return msgspec.convert(plain, AnnotationRow)


@pytest.mark.parametrize("place", range(len(RESULTS)))
def test_canonical_results(place: int) -> None:
    vector = vectors("canonical.json")["results"][place]
    row = codec.decode_result_row(bytes.fromhex(vector["octets"]))
    assert as_json(row) == vector["row"]
    assert codec.encode_result_row(row).hex() == vector["octets"]


@pytest.mark.parametrize("place", range(len(ANNOTATIONS)))
def test_canonical_annotations(place: int) -> None:
    vector = vectors("canonical.json")["annotations"][place]
    assert codec.encode_annotation_row(annotation_row(vector["row"])).hex() == vector["octets"]
    assert codec.decode_annotation_row(bytes.fromhex(vector["octets"])) == annotation_row(vector["row"])


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    vector = MESSAGES[name]
    decode: Any = codec.decode_request if vector["kind"] == "request" else codec.decode_response
    encode: Any = codec.encode_request if vector["kind"] == "request" else codec.encode_response
    kind, body, content = KINDS[vector["kind"]], bytes.fromhex(vector["body"]), bytes.fromhex(vector["content"])
    assert as_json(decode(body)) == vector["message"]
    assert open_frame(body, kind) == content
    assert as_json(decode(bytes((1, kind, 0)) + content)) == vector["message"]
    # What zstd makes of the content may change with its version; the content itself may not.
    assert (open_frame(encode(decode(body)), kind) == content) is vector["written_so"]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_messages(name: str) -> None:
    vector = REFUSED[name]
    decode: Any = codec.decode_request if vector["kind"] == "request" else codec.decode_response
    with pytest.raises(ProtocolError) as caught:
        decode(bytes.fromhex(vector["body"]))
    assert caught.value.code == vector["code"]


def test_digests() -> None:
    vector = vectors("digests.json")
    key = bytes.fromhex(vector["sync_key"])
    digest = digests.EMPTY
    for entry in vector["results"]:
        share = digests.result_sum(key, vector["device_alias"], vector["epoch"], result_row(entry["row"]))
        assert share.to_bytes(16, "big").hex() == entry["share"]
        digest = digests.add(digest, share)
    for entry in vector["annotations"]:
        share = digests.annotation_sum(key, codec.decode_annotation_row(ANNOTATIONS[entry["row"]]))
        assert share.to_bytes(16, "big").hex() == entry["share"]
        digest = digests.add(digest, share)
    assert as_json(digest) == vector["digest"]


def test_seal() -> None:
    vector = vectors("seal.json")
    seal = vector["seal"]
    results_root = merkle.tree_hash([RESULTS[name] for name in vector["rows"]])
    segments_root = merkle.tree_hash([bytes.fromhex(digest) for digest in vector["segment_digests"]])
    assert (results_root.hex(), segments_root.hex()) == (seal["results_root"], seal["segments_root"])
    message = merkle.seal_message(
        vector["device_alias"], seal["epoch"], seal["first_counter"], seal["last_counter"], results_root, segments_root
    )
    assert message.hex() == vector["message"]
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["signing_key_seed"]))
    assert key.public_key().public_bytes_raw().hex() == vector["public_key"]
    assert key.sign(message).hex() == seal["signature"]


def test_merkle() -> None:
    vector = vectors("merkle.json")
    leaves = [bytes.fromhex(leaf) for leaf in vector["leaves"]]
    for size, root in enumerate(vector["roots"]):
        assert merkle.tree_hash(leaves[:size]).hex() == root
    for proof in vector["paths"]:
        size, index = proof["size"], proof["index"]
        path = [bytes.fromhex(sibling) for sibling in proof["path"]]
        assert list(merkle.audit_path(leaves[:size], index)) == path
        assert merkle.verify_path(leaves[index], index, size, path, bytes.fromhex(vector["roots"][size]))


@pytest.mark.parametrize("name", MERGES)
def test_merges(name: str) -> None:
    a, b, merged = (annotation_row(MERGES[name][part]) for part in ("a", "b", "merged"))
    assert merge.merge_annotation(a, b) == merge.merge_annotation(b, a) == merged


def test_hlc() -> None:
    vector = vectors("hlc.json")
    for call in vector["tick"]:
        assert hlc.tick(call["last"], call["now_ms"]) == call["time"]
    for call in vector["receive"]:
        assert hlc.receive(call["last"], call["remote"], call["now_ms"]) == call["time"]


def test_http_signature() -> None:
    vector = vectors("http_signature.json")
    headers = vector["headers"]
    parts = http_signature.parse(headers)
    assert (parts.created_s, parts.nonce, parts.key_id) == (vector["created_s"], vector["nonce"], vector["key_id"])
    assert http_signature.content_digest(bytes.fromhex(vector["body"])) == parts.content_digest
    base = http_signature.signature_base(
        vector["method"], vector["path"], parts.content_digest, parts.created_s, parts.nonce, parts.key_id
    )
    assert base.decode("ascii") == vector["signature_base"]
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["public_key"])).verify(parts.signature, base)
    assert http_signature.signature_input(parts.created_s, parts.nonce, parts.key_id) == headers["Signature-Input"]
    assert http_signature.signature_header(parts.signature) == headers["Signature"]


def test_enrolment() -> None:
    vector = vectors("enrolment.json")
    code = enrolment.parse_code(vector["text"])
    assert as_json(code) == vector["code"]
    assert enrolment.format_code(code) == vector["text"]
    public_key = bytes.fromhex(vector["public_key"])
    message = enrolment.proof_message(code.secret, public_key, code.url)
    assert message.hex() == vector["proof_message"]
    Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(vector["proof"]), message)
