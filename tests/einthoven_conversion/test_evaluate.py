"""Figures, class table and card from scores worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.models import load_model
from einthoven.results import InconclusiveReason
from einthoven_conversion.card import multiply_adds_a_second, render_card
from einthoven_conversion.evaluate import class_table, figures
from einthoven_conversion.scoring import Scores, join_scores

NONE, LOW, POOR = (
    int(reason)
    for reason in (InconclusiveReason.NONE, InconclusiveReason.LOW_CONFIDENCE, InconclusiveReason.POOR_SIGNAL)
)


def scores(labels: list[int], rhythms: list[int], reasons: list[int]) -> Scores:
    n = len(labels)
    confidences = np.full(n, 900)
    return Scores(
        np.array(labels), np.array(rhythms), confidences, np.array(reasons), np.zeros((n, 4), np.int64), np.full(n, 30)
    )


HAND = scores([0, 0, 1, 1, 1, 2, 3, 3], [0, 1, 1, 1, 0, 2, 3, 0], [NONE, NONE, NONE, NONE, LOW, NONE, POOR, NONE])


def found(**options: object) -> dict[str, dict[str, object]]:
    return {figure["id"].split(".")[-1]: figure for figure in figures("cinc2017", HAND, **options)}  # type: ignore[arg-type]


def test_figures_by_hand() -> None:
    by_name = found()
    assert by_name["f1_nao"]["value"] == pytest.approx((2 / 5 + 4 / 6 + 1) / 3, abs=1e-5)
    assert by_name["f1_af"]["value"] == pytest.approx(4 / 6, abs=1e-5)
    assert by_name["inconclusive"]["value"] == 2 / 8
    assert "1 of these 2 are labelled ~" in str(by_name["inconclusive"]["note"])
    assert by_name["ece"]["value"] == pytest.approx(0.9 - 5 / 8, abs=1e-5)


def test_selective_figures_rest_on_verdicts_of_real_rhythms_only() -> None:
    by_name = found()
    assert (by_name["selective_af_sensitivity"]["value"], by_name["selective_af_sensitivity"]["n"]) == (1, 2)
    assert by_name["selective_af_specificity"]["value"] == pytest.approx(2 / 3, abs=1e-5)
    assert by_name["selective_af_specificity"]["n"] == 3


def test_f1_counts_records_without_a_verdict_too() -> None:
    assert found()["f1_nao"]["n"] == 8


def test_the_cost_of_quantization_only_with_a_float_twin() -> None:
    assert "int8_minus_float" not in found()
    twin = HAND.labels
    assert float(found(float_rhythms=twin)["int8_minus_float"]["value"]) < 0  # type: ignore[arg-type]
    assert found(float_rhythms=HAND.rhythms)["int8_minus_float"]["value"] == 0


def test_a_note_is_said_with_every_figure() -> None:
    assert all("seen before" in str(figure["note"]) for figure in found(note="seen before").values())


def test_class_table_by_hand() -> None:
    table = class_table(HAND)
    assert [table[label]["n"] for label in ("N", "A", "O", "~")] == [2, 3, 1, 2]
    assert table["A"]["sensitivity"] == pytest.approx(2 / 3, abs=1e-5)
    assert table["~"]["inconclusive"] == 0.5
    assert np.array(table["confusion"]).sum() == 8


def test_folds_are_joined_in_the_order_of_the_index() -> None:
    parts = [
        (np.array([1, 3]), scores([1, 3], [1, 3], [NONE, NONE])),
        (np.array([0, 2]), scores([0, 2], [0, 2], [LOW, LOW])),
    ]
    joined = join_scores(parts, 4)
    assert joined.labels.tolist() == [0, 1, 2, 3]
    assert joined.reasons.tolist() == [LOW, NONE, LOW, NONE]


def test_multiply_adds_by_hand() -> None:
    layers = [{"channels": 4, "kernel": 8, "stride": 4}, {"channels": 2, "kernel": 3, "stride": 32}]
    assert multiply_adds_a_second(layers) == 32 * 8 * 4 + 1 * 3 * 4 * 2 + 2 * 4


def test_the_shipped_model_is_under_a_million_multiply_adds() -> None:
    assert multiply_adds_a_second(load_model().manifest.recipe["layers"]) < 1_000_000


def test_the_shipped_card_is_what_the_manifest_renders() -> None:
    from einthoven_models import read_resource

    assert read_resource("rhythm.md").decode() == render_card(load_model())
