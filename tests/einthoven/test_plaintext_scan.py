"""The proof that nothing leaks, and that it can fail: the same content in an unencrypted file is found."""

from __future__ import annotations

import random
import secrets
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import RecordNotFound
from einthoven.keys import StaticKeyProvider
from einthoven.plaintext_scan import (
    DATABASE_HEADER,
    MAX_NEEDLE_BYTES,
    READ_BYTES,
    Finding,
    files_of_store,
    find_plaintext,
    needles_found,
    signal_needles,
    text_needles,
)
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import encode_segment, segment_digest
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.store_plain import plain_store
from einthoven_protocol.messages import AnnotationRow, Register, ResultId

COMMENT = "irregularly irregular, no P waves"
IDENTITY = b'{"device_id": "3f0c9d5e-5a0e-4c3f-9a53-0d8b1f3a77aa", "patient_id": "p-4711-0815"}'
AUTHOR = "principal-0123456789"


def ecg(seed: int) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(Fraction(300), np.cumsum(rng.integers(-40, 41, 9_000)).astype(np.int32))


def result_of(segment: Segment) -> WindowResult:
    return WindowResult(
        counter=0,
        started_at_ms=1_700_000_000_000,
        duration_ms=30_000,
        n_steps=30,
        usable_s=30,
        quality=Quality.USABLE,
        rhythm=Rhythm.AF,
        confidence_permille=900,
        logits=(1, 2, 3, 4),
        tier=RiskTier.ELEVATED,
        reason=InconclusiveReason.NONE,
        model_digest=bytes(range(32)),
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )


NOTE = AnnotationRow(target=ResultId(1, 1, 1), author=AUTHOR, rhythm=Register("A", 10), comment=Register(COMMENT, 10))
SEGMENTS = [ecg(seed) for seed in range(5)]


def needles() -> list[bytes]:
    words = [COMMENT, AUTHOR, "3f0c9d5e-5a0e-4c3f-9a53-0d8b1f3a77aa", '"patient_id"', "CREATE TABLE", "identity"]
    signal = [needle for segment in SEGMENTS for needle in signal_needles(segment)]
    return [DATABASE_HEADER, bytes(range(32)), *text_needles(words), *signal]


def test_nothing_known_is_in_the_encrypted_store_open_or_closed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SqlCipherStore.open(path, StaticKeyProvider(secrets.token_bytes(32))) as store:
        for segment in SEGMENTS:
            store.append_window(result_of(segment), segment)
        store.annotate(NOTE)
        store.put_setting("identity", IDENTITY)

        open_files = files_of_store(path)
        assert [file.name for file in open_files] == ["store.db", "store.db-wal", "store.db-shm"]
        assert find_plaintext(open_files, needles()) == []
        in_log = (path.parent / "store.db-wal").stat().st_size

    assert in_log > sum(len(encode_segment(segment)) for segment in SEGMENTS)
    assert files_of_store(path) == [path]
    assert find_plaintext([path], needles()) == []


def test_the_same_content_unencrypted_is_found(tmp_path: Path) -> None:
    """The same store in plain SQLite: without this, the proof above would prove nothing."""
    path = tmp_path / "plain.db"
    with plain_store(path) as store:
        for segment in SEGMENTS:
            store.append_window(result_of(segment), segment)
        store.annotate(NOTE)
        store.put_setting("identity", IDENTITY)

    wanted = needles()
    found = {finding.needle_index for finding in find_plaintext([path], wanted)}

    for must in (
        DATABASE_HEADER,
        bytes(range(32)),
        COMMENT.encode(),
        AUTHOR.encode(),
        b'"patient_id"',
        b"CREATE TABLE",
    ):
        assert wanted.index(must) in found
    pieces = [index for index, needle in enumerate(wanted) if any(needle in encode_segment(s) for s in SEGMENTS)]
    # A piece may lie across two pages of the file; most do not.
    assert len(pieces) >= 300
    assert len(found.intersection(pieces)) > 0.95 * len(pieces)


@pytest.mark.parametrize("dtype", ["<i4", "<i2"])
@pytest.mark.parametrize("difference", [False, True])
def test_raw_samples_are_found_as_samples_and_as_differences(tmp_path: Path, dtype: str, difference: bool) -> None:
    samples_uv = np.diff(SEGMENTS[0].samples_uv) if difference else SEGMENTS[0].samples_uv
    path = tmp_path / "raw"
    path.write_bytes(b"odd" + samples_uv.astype(dtype).tobytes())

    assert len(find_plaintext([path], signal_needles(SEGMENTS[0]))) >= 64


def test_a_flat_signal_gives_no_needles_of_samples() -> None:
    flat = Segment(Fraction(300), np.zeros(9_000, np.int32))

    assert [needle for needle in signal_needles(flat) if not any(needle)] == []


def test_a_signal_too_short_for_a_run_gives_none() -> None:
    assert signal_needles(Segment(Fraction(300), np.arange(4, dtype=np.int32))) == []


@settings(max_examples=30, deadline=None)
@given(
    places=st.sets(st.integers(0, 2 * READ_BYTES), min_size=1, max_size=4),
    across=st.integers(0, 20),
    long=st.booleans(),
)
def test_every_place_is_found_also_across_reads(
    tmp_path_factory: pytest.TempPathFactory, places: set[int], across: int, long: bool
) -> None:
    needle = b"\x01needle of some length\x02"
    content = bytearray(2 * READ_BYTES + 100)
    expected = []
    for place in sorted({*places, READ_BYTES - across}):
        if not expected or place >= expected[-1] + len(needle):
            content[place : place + len(needle)] = needle
            expected.append(place)
    path = tmp_path_factory.mktemp("scan") / "file"
    path.write_bytes(content)
    others = [b"\x03" * 5_000] if long else [b"\x03" * 6]

    assert find_plaintext([path], [*others, needle]) == [Finding(path, place, 1) for place in expected]


def test_a_finding_says_where_and_holds_no_content(tmp_path: Path) -> None:
    path = tmp_path / "leak"
    path.write_bytes(b"....secret....secret")

    findings = find_plaintext([path], [b"absent", b"secret"])

    assert findings == [Finding(path, 4, 1), Finding(path, 14, 1)]
    assert "secret" not in repr(findings)


@pytest.mark.parametrize("wanted", [[], [b"short"], [b"x" * (MAX_NEEDLE_BYTES + 1)]])
def test_a_scan_that_could_not_fail_is_refused(tmp_path: Path, wanted: list[bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    with pytest.raises(ValueError, match=r"needle|nothing to look for"):
        find_plaintext([path], wanted)
    with pytest.raises(ValueError, match="nowhere"):
        find_plaintext([], [b"needle"])


def test_a_file_that_is_not_there_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(RecordNotFound):
        find_plaintext([tmp_path / "absent"], [b"needle"])


def test_short_texts_are_left_out_only_in_the_encoding_that_is_too_short() -> None:
    assert text_needles(["AF on"]) == ["AF on".encode("utf-16-le")]
    assert text_needles(["AF"]) == []


@given(st.binary(max_size=300), st.integers(33, 60), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_many_needles_at_once_are_found_as_each_is_alone(content: bytes, n: int, seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        wanted = [chance.randbytes(chance.randint(6, 12)) for _ in range(n)]
        # Some share a beginning, some overlap.
        wanted += [wanted[0][:5] + b"\x00", wanted[0] + wanted[1], (wanted[2] * 3)[:20]]
        path.write_bytes(content + b"".join(chance.choices(wanted, k=20)) + content)

        together = find_plaintext([path], wanted)
        alone = [
            Finding(path, found.offset_bytes, index)
            for index, needle in enumerate(wanted)
            for found in find_plaintext([path], [needle])
        ]

        assert together == sorted(alone, key=lambda found: (found.offset_bytes, found.needle_index))
        assert needles_found([path], wanted) == {found.needle_index for found in alone}


def test_a_needle_across_two_reads_is_found_among_many(tmp_path: Path) -> None:
    path = tmp_path / "file"
    needle = secrets.token_bytes(24)
    path.write_bytes(bytes(READ_BYTES - 10) + needle + bytes(100))

    assert needles_found([path], [needle, *(secrets.token_bytes(24) for _ in range(50))]) == {0}
