"""The frozen vectors of ``tests/vectors/sync``, which other implementations and later versions must agree on.

Those of the first version 1 are as they were, byte for byte; what came later has files of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from einthoven_protocol import canonical, codec, digests, documents, enrolment, hlc, http_signature, merge, merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.frame import REQUEST, RESPONSE, open_frame
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    FurtherRegister,
    IdentifiedResult,
    NoteRow,
    RepairRequest,
    ResultRow,
    Tombstone,
)
from einthoven_protocol.packed_results import IdentifiedResults, ResultRows

VECTORS = Path(__file__).parents[1] / "vectors" / "sync"
KINDS = {"request": REQUEST, "response": RESPONSE}


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="ascii"))


LATER: dict[type[msgspec.Struct], frozenset[str]] = {
    ResultRow: frozenset({"extra"}),
    NoteRow: frozenset({"extra"}),
    Tombstone: frozenset({"hlc"}),
    AnnotationRow: frozenset({"further"}),
    ExchangeRequest: frozenset(ExchangeRequest.__struct_fields__)
    - {"device_alias", "epoch", "cursor", "results", "annotations", "seals"},
    ExchangeResponse: frozenset(ExchangeResponse.__struct_fields__)
    - {"acknowledged", "verdicts", "annotations", "cursor", "digest", "more", "server_time_ms"},
    RepairRequest: frozenset({"powers"}),
}
"""What 1.1 and later additions brought: left out of a vector where it says nothing."""


def as_json(value: Any) -> Any:
    """A message as the vectors write it: bytes, and a digest's total, in hex."""
    match value:
        case bytes():
            return value.hex()
        case tuple() | ResultRows() | IdentifiedResults():
            return [as_json(item) for item in value]
        case Digest():
            return {"count": value.count, "total": value.total.to_bytes(16, "big").hex()}
        case BucketDigest():
            return {
                "device_alias": value.device_alias,
                "kind": int(value.kind),
                "count": value.count,
                "total": value.total.to_bytes(16, "big").hex(),
            }
        case msgspec.Struct():
            defaults = {field.name: field.default for field in msgspec.structs.fields(value)}
            later = LATER.get(type(value), frozenset())
            return {
                name: as_json(member)
                for name in value.__struct_fields__
                if (member := getattr(value, name)) != defaults[name] or name not in later
            }
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


CODERS: dict[str, tuple[Any, Any]] = {
    "results": (canonical.encode_result_row, canonical.decode_result_row),
    "annotations": (canonical.encode_annotation_row, canonical.decode_annotation_row),
    "notes": (canonical.encode_note_row, canonical.decode_note_row),
    "superseded": (canonical.encode_superseded_row, canonical.decode_superseded_row),
}
LATER_ROWS = [(table, vector) for table, rows in vectors("canonical_1_1.json").items() for vector in rows]


@pytest.mark.parametrize(("table", "vector"), LATER_ROWS, ids=[f"{table}-{v['name']}" for table, v in LATER_ROWS])
def test_canonical_rows_of_1_1(table: str, vector: dict[str, Any]) -> None:
    encode, decode = CODERS[table]
    row = decode(bytes.fromhex(vector["octets"]))
    assert as_json(row) == vector["row"]
    assert encode(row).hex() == vector["octets"]


@pytest.mark.parametrize("vector", vectors("messages_1_1.json"), ids=lambda vector: vector["name"])
def test_messages_of_1_1(vector: dict[str, Any]) -> None:
    decode: Any = codec.decode_request if vector["kind"] == "request" else codec.decode_response
    encode: Any = codec.encode_request if vector["kind"] == "request" else codec.encode_response
    kind, body, content = KINDS[vector["kind"]], bytes.fromhex(vector["body"]), bytes.fromhex(vector["content"])
    assert as_json(decode(body)) == vector["message"]
    assert open_frame(body, kind) == content
    assert open_frame(encode(decode(body), vector["peer"]), kind) == content


@pytest.mark.parametrize("vector", vectors("refused_1_1.json"), ids=lambda vector: vector["name"])
def test_refused_messages_of_1_1(vector: dict[str, Any]) -> None:
    decode: Any = codec.decode_request if vector["kind"] == "request" else codec.decode_response
    with pytest.raises(ProtocolError) as caught:
        decode(bytes.fromhex(vector["body"]))
    assert caught.value.code == vector["code"]


def test_digests_of_1_1() -> None:
    vector = vectors("digests_1_1.json")
    key = bytes.fromhex(vector["sync_key"])
    octets = {(table, row["name"]): bytes.fromhex(row["octets"]) for table, row in LATER_ROWS}
    sums: dict[str, Any] = {
        "results": lambda row: digests.result_sum(key, vector["device_alias"], vector["epoch"], row),
        "annotations": lambda row: digests.annotation_sum(key, row),
        "notes": lambda row: digests.note_sum(key, row),
        "superseded": lambda row: digests.superseded_sum(key, row),
    }
    for bucket, tables in (("records", ("results", "annotations")), ("words", ("notes", "superseded"))):
        digest = digests.EMPTY
        for table in tables:
            for entry in vector[table]:
                share = sums[table](CODERS[table][1](octets[table, entry["row"]]))
                assert share.to_bytes(16, "big").hex() == entry["share"]
                digest = digests.add(digest, share)
        assert as_json(digest) == vector[bucket]


@pytest.mark.parametrize("vector", vectors("merge_1_1.json")["merges"], ids=lambda vector: vector["name"])
def test_merges_of_1_1(vector: dict[str, Any]) -> None:
    a, b = (from_json(vector[part]) for part in ("a", "b"))
    assert as_json(merge.merge_annotation(a, b)) == as_json(merge.merge_annotation(b, a)) == vector["merged"]


def test_base_marks() -> None:
    for vector in vectors("merge_1_1.json")["base_marks"]:
        assert merge.base_mark(vector["hlc"]) == vector["mark"]


@pytest.mark.parametrize("vector", vectors("documents.json"), ids=lambda vector: vector["name"])
def test_documents(vector: dict[str, Any]) -> None:
    document = vector["document"] | {"body": bytes.fromhex(vector["document"]["body"])}
    assert documents.signed_bytes(**document).hex() == vector["octets"]


def test_given() -> None:
    vector = vectors("given.json")
    given = tuple(
        IdentifiedResult(device_alias=one["device_alias"], epoch=one["epoch"], row=from_json(one["row"], ResultRow))
        for one in vector["given"]
    )
    root = merkle.tree_hash([bytes.fromhex(digest) for digest in vector["segment_digests"]])
    assert root.hex() == vector["segments_root"]
    message = merkle.given_message(vector["device_alias"], given, root)
    assert message.hex() == vector["message"]
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["signing_key_seed"]))
    assert key.sign(message).hex() == vector["signature"]


def from_json(plain: Any, kind: Any = AnnotationRow) -> Any:
    """A row whose bytes are in hex."""
    if kind is ResultRow:
        extra = tuple((n, bytes.fromhex(v) if n % 2 else v) for n, v in plain.get("extra", ()))
        model = bytes.fromhex(plain["model_digest"])
        return ResultRow(**plain | {"logits": tuple(plain["logits"]), "model_digest": model, "extra": extra})
    further = tuple(
        FurtherRegister(one["number"], one["hlc"], bytes.fromhex(one["value"])) for one in plain.get("further", ())
    )
    bare = msgspec.convert({name: plain[name] for name in plain if name != "further"}, AnnotationRow)
    return msgspec.structs.replace(bare, further=further)


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
