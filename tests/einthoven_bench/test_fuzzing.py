"""A short slice of the fuzzing that ``make fuzz`` does, and what counts and shows in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.account import Account
from einthoven_bench.fuzzing.__main__ import as_document
from einthoven_bench.fuzzing.running import Fuzzed, FuzzOptions, fuzz
from einthoven_bench.fuzzing.showing import SignatureShown, TokenShown
from einthoven_bench.fuzzing.tally import Counting, Tally, read_tally
from einthoven_protocol import http_signature

RSS_GROWTH_MAX_MIB = 64
"""Of a slice; what a long run grows by is in docs/server.md."""


@pytest.mark.timeout(400)
def test_no_answer_is_a_5xx_whatever_is_sent(tmp_path: Path) -> None:
    found = fuzz(FuzzOptions(examples=2, phases="fuzzing", folder=tmp_path))
    document = as_document(found)
    assert found.tally.failures == {}, found.errors
    assert found.tally.unanswered == {}
    assert found.errors == ()
    assert found.tally.requests > 150
    assert document["operations"] == len(found.tally.answers) > 85
    statuses = found.tally.by_status
    # Neither are all turned away at the door.
    assert statuses[200] + statuses[201] > found.tally.requests / 10
    assert max(found.rss_mib) - found.rss_mib[0] < RSS_GROWTH_MAX_MIB
    json.dumps(document)


def test_a_5xx_is_counted_as_a_failure_and_kept_between_processes(tmp_path: Path) -> None:
    counting = Counting(tmp_path / "tally.json", every=2)
    counting.answered("GET /x", 200)
    assert read_tally(tmp_path / "tally.json") == Tally()
    counting.answered("GET /x", 500)
    counting.unanswered("GET /y")
    counting.write()
    kept = read_tally(tmp_path / "tally.json")
    assert (kept.requests, kept.failures) == (3, {"GET /x": {500: 1}})
    document = as_document(Fuzzed(kept, (10.0, 12.0), ("a line",), ""))
    assert (document["requests"], document["unanswered"]) == (3, {"GET /y": 1})


class Request:
    """As ``requests`` prepares one."""

    def __init__(self, path: str, body: object = None) -> None:
        self.method: str | None = "POST"
        self.path_url, self.url, self.body = path, "https://x" + path, body
        self.headers: dict[str, str] = {}


def test_a_signature_is_over_what_is_sent() -> None:
    key = Ed25519PrivateKey.generate()
    shown = SignatureShown("device", key.private_bytes_raw().hex())
    request = Request("/v1/exchange", "text")
    shown(request)
    parts = http_signature.parse(request.headers)
    assert request.headers["Content-Digest"] == http_signature.content_digest(b"text")
    base = http_signature.signature_base(
        "POST", "/v1/exchange", parts.content_digest, parts.created_s, parts.nonce, "device"
    )
    key.public_key().verify(parts.signature, base)
    unusual = Request("/v1/exchange?x=%00")
    assert "Signature" not in shown(unusual).headers


def test_a_refused_token_is_asked_for_again_but_not_at_once(tmp_path: Path) -> None:
    Account("me").save(tmp_path / "key.json")
    asked: list[str] = []

    def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
        asked.append(url)
        return b'{"access_token": "t%d", "token_type": "DPoP", "expires_in": 300}' % len(asked)

    shown = TokenShown("https://x", str(tmp_path / "key.json"), post)
    for _ in range(2):
        assert shown(Request("/v1/patients")).headers["Authorization"] == "DPoP t1"
    shown.refused()  # a second has not passed
    assert shown(Request("/v1/patients")).headers["Authorization"] == "DPoP t1"
    shown._asked_at_s -= 2
    shown.refused()
    assert shown(Request("/v1/patients")).headers["Authorization"] == "DPoP t2"
    assert asked == ["https://x/v1/token"] * 2
