"""The verdict's tables: refused when damaged, and otherwise what their integers say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import ModelCorrupt
from einthoven.probability import permilles
from einthoven.results import Rhythm
from einthoven.verdict import FULL_SCALE, MAX_DEVIATION, Opinion, Verdict, read_verdict, run_forest
from einthoven.verdict_tables import (
    CLASSES,
    SCHEMA,
    Forest,
    Outlyingness,
    PredictionSets,
    Trees,
    VerdictTables,
    pack,
    read_tables,
    unpack,
    unpack_forest,
)
from einthoven.window_features import FEATURES, LIMIT
from einthoven_models import read_resource

FEATURE_ROW = st.lists(st.integers(-LIMIT, LIMIT), min_size=FEATURES, max_size=FEATURES)
LOGITS = st.tuples(*[st.integers(-40_000, 40_000)] * CLASSES)


def forest_of(seed: int, depth: int, count: int) -> Forest:
    """Trees drawn at random."""
    rng = np.random.default_rng(seed)
    nodes = 2**depth - 1
    return Forest(
        rng.integers(0, FEATURES, (count, nodes)).astype(np.intp),
        rng.integers(-LIMIT, LIMIT, (count, nodes)),
        rng.integers(-500, 500, (count, nodes + 1)),
        depth,
    )


def tables_of(seed: int = 0, **changes: Any) -> VerdictTables:
    rng = np.random.default_rng(seed)
    forest = forest_of(seed, 3, 12)
    directions = rng.integers(-60, 61, (7, FEATURES))
    tables = VerdictTables(
        schema=SCHEMA,
        features=FEATURES,
        base=(10, -20, 30, -40),
        pooled_permille=300,
        trees=Trees(
            depth=3,
            count=12,
            features=pack(forest.features.astype(np.int64), "u1"),
            thresholds=pack(forest.thresholds, "<i2"),
            leaves=pack(forest.leaves, "<i2"),
        ),
        temperature=1.0,
        af_possible_permille=300,
        af_certain_permille=700,
        sets=PredictionSets(coverage_permille=950, least_permille=(100, 200, 300, 400), n=(9, 9, 9, 9)),
        outlyingness=Outlyingness(
            center=tuple(rng.integers(-1000, 1000, FEATURES).tolist()),
            scale=tuple(rng.integers(1, 900, FEATURES).tolist()),
            directions=pack(directions, "i1"),
            k=7,
            limit=40_000,
            share_permille=5,
            n=100,
        ),
        metrics={},
        recipe={},
    )
    return msgspec.structs.replace(tables, **changes)


TABLES = tables_of()
CONTENT = msgspec.json.encode(TABLES)


# --- the tables as a file


def test_the_shipped_tables_are_whole() -> None:
    tables = read_tables(read_resource("verdict.json"))
    assert tables.features == FEATURES
    forest = unpack_forest(tables.trees)
    assert forest.leaves.shape == (tables.trees.count, 2**tables.trees.depth)
    assert forest.features.size == 0 or int(forest.features.max()) < FEATURES
    assert len(read_resource("verdict.json")) <= 100_000


def test_the_same_bytes_are_the_same_verdict() -> None:
    assert read_verdict(CONTENT) is read_verdict(bytes(bytearray(CONTENT)))
    assert read_tables(CONTENT) == TABLES


def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value(place[last]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    "change",
    [
        edit("features", FEATURES - 1),
        edit("base", [0, 0, 0]),
        edit("base", [0, 0, 0, 2**31]),
        edit("pooled_permille", -1),
        edit("trees.depth", 0),
        edit("trees.depth", 2),
        edit("trees.depth", 9),
        edit("trees.count", 11),
        edit("trees.count", 8_193),
        edit("trees.features", lambda text: text[:-4]),
        edit("trees.features", pack(np.full((12, 7), FEATURES), "u1")),
        edit("trees.thresholds", "?"),
        edit("trees.thresholds", lambda text: text[1:]),
        edit("trees.leaves", "\u00e4"),
        edit("trees.leaves", lambda text: text + "AAAA"),
        edit("af_possible_permille", 701),
        edit("af_certain_permille", 1_002),
        edit("sets.least_permille", [0, 0, 0]),
        edit("sets.least_permille", [0, 0, 0, 1_002]),
        edit("sets.n", [0, 0, 0, -1]),
        edit("outlyingness.center", lambda values: values[1:]),
        edit("outlyingness.scale", lambda values: [*values, 1]),
        edit("outlyingness.scale", lambda values: [0, *values[1:]]),
        edit("outlyingness.directions", ""),
        edit("outlyingness.k", 6),
        edit("outlyingness.k", FEATURES + 1),
        edit("outlyingness.limit", -1),
        edit("temperature", "warm"),
        lambda document: document.pop("sets"),
        lambda document: document["trees"].pop("leaves"),
    ],
)
def test_damaged_tables_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(CONTENT)
    change(document)
    with pytest.raises(ModelCorrupt, match="install the package again"):
        read_verdict(json.dumps(document).encode())


def test_a_later_layout_says_what_to_do() -> None:
    with pytest.raises(ModelCorrupt, match="update einthoven"):
        read_verdict(msgspec.json.encode(msgspec.structs.replace(TABLES, schema=SCHEMA + 1)))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"schema": 1}', b"[" * 100_000])
def test_what_is_no_table_is_refused(content: bytes) -> None:
    with pytest.raises(ModelCorrupt):
        read_tables(content)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 12), st.binary(max_size=12))
def test_damage_anywhere_is_a_typed_error_or_tables_that_run(place: int, cut: int, put: bytes) -> None:
    damaged = CONTENT[:place] + put + CONTENT[place + cut :]
    try:
        verdict = Verdict(read_tables(damaged))
    except ModelCorrupt as error:
        refusal = str(error)
        assert "\n" not in refusal
        assert "; " in refusal
        return
    opinion = verdict.opinion(np.zeros(FEATURES, np.int64), [0, 0, 0, 0])
    assert sum(opinion.permilles) == 1000


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=6, max_size=6))
def test_packing_is_undone(values: list[int]) -> None:
    array = np.array(values, np.int64).reshape(2, 3)
    np.testing.assert_array_equal(unpack(pack(array, "<i2"), "<i2", (2, 3)), array)


@pytest.mark.parametrize(("value", "dtype"), [(128, "i1"), (-129, "i1"), (256, "u1"), (-1, "u1"), (2**15, "<i2")])
def test_what_does_not_fit_is_not_packed(value: int, dtype: str) -> None:
    with pytest.raises(OverflowError):
        pack(np.array([[value]]), dtype)


# --- the trees


def walked(forest: Forest, tree: int, node: int, features: list[int]) -> int:
    """A leaf by questions, one after the other."""
    nodes = len(forest.features[tree])
    if node >= nodes:
        return int(forest.leaves[tree][node - nodes])
    above = features[int(forest.features[tree][node])] > int(forest.thresholds[tree][node])
    return walked(forest, tree, 2 * node + (2 if above else 1), features)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 13), FEATURE_ROW)
def test_a_forest_is_its_trees_walked_one_by_one(seed: int, depth: int, count: int, row: list[int]) -> None:
    forest = forest_of(seed, depth, count)
    wanted = [sum(walked(forest, tree, 0, row) for tree in range(label, count, CLASSES)) for label in range(CLASSES)]
    assert run_forest(forest, np.array(row, np.int64)) == wanted


def test_a_value_on_the_threshold_goes_left() -> None:
    forest = Forest(np.zeros((1, 1), np.intp), np.array([[5]]), np.array([[-1, 1]]), 1)
    row = np.zeros(FEATURES, np.int64)
    for value, leaf in ((4, -1), (5, -1), (6, 1)):
        row[0] = value
        assert run_forest(forest, row) == [leaf, 0, 0, 0]


# --- what follows from logits


@given(FEATURE_ROW, LOGITS)
def test_logits_are_base_pooled_and_trees(row: list[int], means: tuple[int, ...]) -> None:
    features = np.array(row, np.int64)
    opinion = read_verdict(CONTENT).opinion(features, means)
    trees = run_forest(unpack_forest(TABLES.trees), features)
    assert opinion.logits == tuple(
        base + 300 * mean // 1000 + tree for base, mean, tree in zip(TABLES.base, means, trees, strict=True)
    )
    assert opinion.permilles == permilles(opinion.logits, 1, 1)


@given(LOGITS)
def test_the_set_holds_the_most_likely_class_and_whatever_is_likely_enough(logits: tuple[int, int, int, int]) -> None:
    opinion = read_verdict(CONTENT).of_logits(logits)
    assert opinion.rhythm == Rhythm(logits.index(max(logits)))
    assert opinion.rhythm in opinion.prediction_set
    assert list(opinion.prediction_set) == sorted(set(opinion.prediction_set))
    for one, least in zip(Rhythm, TABLES.sets.least_permille, strict=True):
        assert (one in opinion.prediction_set) == (one is opinion.rhythm or opinion.permilles[one] >= least)


def with_af(permille: int) -> Opinion:
    """The opinion at the logits that come nearest to a probability of AF, against N alone."""
    wanted = [
        opinion
        for logit in range(-12_000, 12_001, 8)
        if (opinion := read_verdict(CONTENT).of_logits((0, logit, -60_000, -60_000))).permilles[Rhythm.AF] == permille
    ]
    assert wanted
    return wanted[0]


@pytest.mark.parametrize(("permille", "is_open"), [(0, False), (299, False), (300, True), (699, True), (700, False)])
def test_af_is_open_between_possible_and_certain(permille: int, is_open: bool) -> None:
    assert with_af(permille).af_open is is_open


def test_tables_that_refuse_nothing_leave_nothing_open() -> None:
    verdict = Verdict(tables_of(af_possible_permille=1001, af_certain_permille=1001))
    assert not any(verdict.of_logits((0, logit, 0, 0)).af_open for logit in range(-9_000, 9_000, 500))


# --- what was never seen


@settings(deadline=None)
@given(FEATURE_ROW)
def test_the_distance_is_a_mean_square_of_projections(row: list[int]) -> None:
    entry = TABLES.outlyingness
    deviation = [
        max(-MAX_DEVIATION, min(MAX_DEVIATION, (value - center) * FULL_SCALE // scale))
        for value, center, scale in zip(row, entry.center, entry.scale, strict=True)
    ]
    directions = unpack(entry.directions, "i1", (entry.k, FEATURES)).tolist()
    along = [sum(a * b for a, b in zip(direction, deviation, strict=True)) >> 7 for direction in directions]
    wanted = sum(one * one for one in along) // entry.k
    opinion = read_verdict(CONTENT).opinion(np.array(row, np.int64), [0, 0, 0, 0])
    assert opinion.outlyingness == wanted
    assert opinion.out_of_distribution == (wanted > entry.limit)


def test_the_center_is_near_and_a_wild_window_is_far() -> None:
    verdict = read_verdict(CONTENT)
    at_center = verdict.opinion(np.array(TABLES.outlyingness.center, np.int64), [0, 0, 0, 0])
    wild = verdict.opinion(np.full(FEATURES, LIMIT), [0, 0, 0, 0])
    assert (at_center.outlyingness, at_center.out_of_distribution) == (0, False)
    assert wild.outlyingness > at_center.outlyingness


def test_without_directions_nothing_is_out_of_distribution() -> None:
    entry = msgspec.structs.replace(TABLES.outlyingness, directions="", k=0, limit=0)
    opinion = Verdict(tables_of(outlyingness=entry)).opinion(np.full(FEATURES, LIMIT), [0, 0, 0, 0])
    assert (opinion.outlyingness, opinion.out_of_distribution) == (0, False)
