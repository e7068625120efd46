"""Figures, class table and card from scores worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.models import load_model
from einthoven.results import InconclusiveReason
from einthoven_conversion.card import multiply_adds_a_second
from einthoven_conversion.evaluate import SUBGROUP_LEAST, class_table, figures, noise_figures, subgroup_table
from einthoven_conversion.scoring import Scores

NONE, LOW, POOR = (
    int(reason)
    for reason in (InconclusiveReason.NONE, InconclusiveReason.LOW_CONFIDENCE, InconclusiveReason.POOR_SIGNAL)
)


def scores(labels: list[int], rhythms: list[int], reasons: list[int]) -> Scores:
    n = len(labels)
    shares = np.full((n, 4), 33)
    shares[np.arange(n), rhythms] = 900
    return Scores(
        labels=np.array(labels),
        rhythms=np.array(rhythms),
        shares=shares,
        reasons=np.array(reasons),
        in_set=shares > 500,
        usable_permille=np.full(n, 1000),
        rate_bpm=np.full(n, 70),
        seconds=np.full(n, 30),
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


def test_coverage_by_hand() -> None:
    figure = found()["conformal_gap_max"]
    assert figure["n"] == 8
    # N is covered once in two, ~ too; nominal is 0.95.
    assert figure["value"] == pytest.approx(0.45, abs=1e-5)
    assert "1.00 classes a set" in str(figure["note"])


def test_area_of_af_leaves_noise_out() -> None:
    by_name = found()
    assert by_name["auc_af"]["n"] == 6
    # AF is said of 2 of 3 with AF and of 1 of 3 without: 900 against 33.
    assert by_name["auc_af"]["value"] == pytest.approx((2 * 2 + (2 + 2) / 2) / 9, abs=0.06)
    assert "auc_af" not in {
        figure["id"].split(".")[-1] for figure in figures("cinc2017", scores([0, 2], [0, 2], [NONE, NONE]))
    }


def test_confidence_is_of_the_class_that_is_said() -> None:
    assert HAND.confidences.tolist() == [900] * 8
    assert HAND.at(HAND.labels == 3).reasons.tolist() == [POOR, NONE]


def test_noise_costs_nothing_where_it_changes_nothing() -> None:
    by_name = {figure["id"].split(".")[-1]: figure for figure in noise_figures("cinc2017", HAND, {6: HAND, 0: HAND})}
    assert set(by_name) == {f"{name}_em_{snr}db" for name in ("auc_loss", "inconclusive", "error") for snr in (6, 0)}
    assert by_name["auc_loss_em_6db"]["value"] == 0
    assert (by_name["inconclusive_em_6db"]["value"], by_name["inconclusive_em_6db"]["n"]) == (
        pytest.approx(1 / 6, abs=1e-5),
        6,
    )
    # Of the five with a verdict one N is called AF.
    assert (by_name["error_em_0db"]["value"], by_name["error_em_0db"]["n"]) == (0.2, 5)


def test_noise_that_hides_af_costs_area() -> None:
    blind = scores(HAND.labels.tolist(), [0] * 8, [POOR] * 8)
    by_name = {figure["id"].split(".")[-1]: figure for figure in noise_figures("cinc2017", HAND, {0: blind})}
    assert float(by_name["auc_loss_em_0db"]["value"]) > 0.1
    assert by_name["inconclusive_em_0db"]["value"] == 1
    assert "error_em_0db" not in by_name  # nobody got a verdict


def test_subgroups_are_whole_and_not_too_small() -> None:
    n = SUBGROUP_LEAST
    many = scores([0, 1] * n, [0, 1] * n, [NONE, LOW] * n)
    many.rate_bpm[: n + 10] = 90
    many.rate_bpm[n + 10 :] = 120
    many.seconds[:10] = 9
    table = subgroup_table("cinc2017", many)
    by_slice = {(figure["id"].split(".")[-1], figure["slice"]): figure for figure in table["figures"]}
    rates = {
        name: figure["n"] for (kind, name), figure in by_slice.items() if kind == "inconclusive" and "beats" in name
    }
    assert sorted(rates.values()) == [n + 10]  # n - 10 records are too few
    assert all(figure["n"] >= SUBGROUP_LEAST for figure in table["figures"])
    assert not any("0 to 14" in name for _, name in by_slice)


def test_multiply_adds_by_hand() -> None:
    layers = [{"channels": 4, "kernel": 8, "stride": 4}, {"channels": 2, "kernel": 3, "stride": 32}]
    assert multiply_adds_a_second(layers) == 32 * 8 * 4 + 1 * 3 * 4 * 2 + 2 * 4


def test_the_shipped_model_is_under_a_million_multiply_adds() -> None:
    assert multiply_adds_a_second(load_model().manifest.recipe["layers"]) < 1_000_000
