"""What is a beat, and where the reference says nothing that counts."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven_bench.annotations import FAR, flutter_spans, from_qrs_marks, joined, outside, read_references
from einthoven_bench.datasets import open_dataset
from einthoven_bench.errors import DatasetCorrupt

RATE = Fraction(1_000)


def test_flutter_from_brackets_rhythms_and_lone_waves() -> None:
    marks = [(100, "["), (120, "!"), (200, "]"), (5_000, "!"), (9_000, "N")]
    assert flutter_spans(marks, [(150, 400), (7_000, 7_100)], RATE) == [(-30, 400), (4_850, 5_151), (7_000, 7_100)]


def test_a_bracket_that_never_closes_lasts_to_the_end() -> None:
    assert flutter_spans([(100, "[")], [], RATE) == [(100, FAR)]


def test_a_bracket_that_never_opened_began_before() -> None:
    assert flutter_spans([(100, "]")], [], RATE) == [(-FAR, 101)]


def test_joined_spans_are_the_same_set() -> None:
    assert joined([(5, 9), (1, 3), (3, 4), (6, 7)]) == [(1, 4), (5, 9)]


def test_outside_takes_the_start_in_and_the_end_out() -> None:
    samples = np.array([0, 9, 10, 19, 20, 29, 30, 40])
    assert outside(samples, [(10, 20), (30, 40)]).tolist() == [True, True, False, False, True, True, False, True]
    assert outside(samples, []).all()


def test_hand_set_marks_count_only_where_they_are_consecutive() -> None:
    marks = [10_000 + 800 * i for i in range(10)] + [60_000 + 800 * i for i in range(10)]
    reference = from_qrs_marks(marks, RATE)
    assert reference.beats.tolist() == marks
    places = np.array([0, 9_800, 9_900, 12_300, 17_300, 17_400, 40_000, 59_900, 67_300, 67_400])
    expected = [False, False, True, True, True, False, False, True, True, False]
    assert outside(places, reference.unmarked).tolist() == expected
    assert outside(reference.beats, reference.unmarked).all()


def test_one_mark_is_a_run_of_its_own() -> None:
    reference = from_qrs_marks([500], RATE)
    assert outside(np.array([340, 350, 650, 651]), reference.unmarked).tolist() == [False, True, True, False]


def test_references_of_a_data_set(make_root: Callable[..., Path]) -> None:
    root = make_root("mitdb", "qtdb", "cinc2017")
    mitdb = open_dataset(root, "mitdb")
    qtdb = open_dataset(root, "qtdb")
    cinc2017 = open_dataset(root, "cinc2017")
    assert mitdb is not None
    assert qtdb is not None
    assert cinc2017 is not None
    references = read_references(mitdb)
    assert set(references) == {"x0", "x1", "x2"}
    assert references["x0"].flutter == [(3_600, 7_200)]
    assert references["x1"].flutter == []
    assert references["x0"].normal.all()
    marked = read_references(qtdb)
    assert marked["y0"].unmarked == []
    assert len(marked["y1"].beats) == 20
    assert marked["y1"].unmarked
    assert read_references(cinc2017) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        b"\x1f\x8b\x08\x00 cut",
        gzip.compress(b"record_id,sample\nx0,1\n"),
        gzip.compress(b"record_id,sample,symbol\nx0,one,N\n"),
        gzip.compress(b"record_id,sample,symbol\nx0,1\n"),
        gzip.compress(b"record_id,sample,symbol\nx0,1,\xff\n"),
    ],
    ids=["no gzip", "cut", "no symbol", "no number", "short line", "no text"],
)
def test_damaged_marks_are_named(make_root: Callable[..., Path], content: bytes) -> None:
    root = make_root("mitdb")
    (root / "mitdb" / "annotations.csv.gz").write_bytes(content)
    dataset = open_dataset(root, "mitdb")
    assert dataset is not None
    with pytest.raises(DatasetCorrupt, match=r"mitdb/annotations\.csv\.gz"):
        read_references(dataset)
