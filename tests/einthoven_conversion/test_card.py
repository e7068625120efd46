"""The card for people: everything a report holds is in it, with its n, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from einthoven.model_manifest import Model
from einthoven.models import load_model
from einthoven_conversion import intended_use
from einthoven_conversion.card import render_card
from einthoven_conversion.errors import ReportIncomplete
from einthoven_conversion.figure_tables import by_class, further_tables, headline, rest
from einthoven_conversion.manifests import with_manifest
from einthoven_models import read_resource

MODEL = load_model()


def figure(identifier: str, of: str, value: float | None, n: int, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "slice": of, "value": value, "n": n, **more}


TABLES = {
    "conformal": {
        "title": "Conformal coverage",
        "text": "Nominal 90 %.",
        "figures": [
            figure("coverage", "N", 0.9012, 4060, spread=[0.8921, 0.9101]),
            figure("coverage", "A", 0.8977, 606, spread=[0.8712, 0.9197], note="few records"),
        ],
    },
    "heart_rate": {"title": "By heart rate", "figures": [figure("f1_nao", "50 to 100 beats/min", 0.8512, 5000)]},
    "beats": {"title": "Beats", "figures": [figure("sensitivity", "V", None, 0, unit="1")]},
    "cost": {"title": "Cost", "figures": [figure("step", "", 15.2, 100, unit="us")]},
}


def with_metrics(**changes: Any) -> Model:
    return with_manifest(MODEL, metrics={**copy.deepcopy(MODEL.manifest.metrics), **changes})


def test_the_shipped_card_is_what_the_manifest_renders() -> None:
    assert read_resource("rhythm.md").decode() == render_card(MODEL)


def test_the_card_names_what_a_result_names() -> None:
    card = render_card(MODEL)
    assert MODEL.digest.hex() in card
    assert MODEL.manifest.sha256 in card
    assert all(sha256 in card for sha256 in MODEL.manifest.parts.values())


def test_uses_limits_and_risks_are_all_said() -> None:
    card = render_card(MODEL)
    words = (*intended_use.USERS, *intended_use.USE_CASES, *intended_use.OUT_OF_SCOPE, *intended_use.LIMITS)
    risks = [text for risk in (*intended_use.ETHICS, *(entry[2:] for entry in intended_use.FAIRNESS)) for text in risk]
    for said in (*words, *risks):
        assert said in card


def test_tables_of_a_report_are_rendered_with_n_and_interval() -> None:
    card = render_card(with_metrics(tables=TABLES))
    assert "### Conformal coverage\n\nNominal 90 %.\n" in card
    assert "| figure | of | value | 95 % interval | n | note |" in card
    assert "| coverage | A | 0.8977 | 0.8712 to 0.9197 | 606 | few records |" in card
    assert "| coverage | N | 0.9012 | 0.8921 to 0.9101 | 4060 |  |" in card


def test_columns_that_would_be_empty_are_left_out() -> None:
    card = render_card(with_metrics(tables=TABLES))
    assert (
        "| figure | of | value | n |\n| --- | --- | --- | --- |\n| f1_nao | 50 to 100 beats/min | 0.8512 | 5000 |"
        in card
    )


def test_what_could_not_be_measured_says_so() -> None:
    assert "| sensitivity | V | not measured | 0 |" in render_card(with_metrics(tables=TABLES))


def test_a_unit_is_written_after_its_value() -> None:
    assert "| step | 15.2000 us | 100 |" in render_card(with_metrics(tables=TABLES))


def test_what_is_of_no_known_shape_is_not_lost() -> None:
    card = render_card(with_metrics(odd={"a": [1, 2]}))
    assert '"odd": {' in card
    assert rest(with_metrics(odd=1).manifest.metrics) == {"odd": 1}


@pytest.mark.parametrize("missing", ["id", "value", "n"])
def test_a_figure_without_its_n_is_refused(missing: str) -> None:
    entry = figure("coverage", "N", 0.9, 10)
    del entry[missing]
    with pytest.raises(ReportIncomplete, match="measure it again"):
        render_card(with_metrics(tables={"t": {"title": "T", "figures": [entry]}}))


@pytest.mark.parametrize("wrong", [{"n": "many"}, {"value": "high"}, {"spread": [0.1]}, {"spread": ["a", "b"]}])
def test_a_figure_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ReportIncomplete):
        render_card(with_metrics(tables={"t": {"figures": [figure("coverage", "N", 0.9, 10) | wrong]}}))


def test_a_class_that_was_not_measured_is_left_out() -> None:
    classes = {"N": {"n": 5, "f1": 0.5, "interval": [0.1, 0.9], "sensitivity": 0.4, "inconclusive": 0.0}}
    card = render_card(with_metrics(classes=classes))
    assert "| N (normal sinus rhythm) | 5 | 0.5000 | 0.1000 to 0.9000 | 0.4000 | 0.0000 |" in card
    assert "| A (atrial fibrillation)" not in card
    assert "Rows are true" not in card


def test_figures_in_one_shape() -> None:
    metrics = with_metrics(tables=TABLES).manifest.metrics
    assert [table.name for table in further_tables(metrics)] == list(TABLES)
    assert len(headline(metrics)) == len(metrics["figures"])
    assert len(by_class(metrics)) == 3 * 4


def test_a_manifest_of_another_recipe_renders() -> None:
    recipe = {**MODEL.manifest.recipe, "records": {"n": 3}, "dataset": "mine"}
    manifest = msgspec.structs.replace(MODEL.manifest, recipe=recipe, licences=())
    assert "3 records of `mine`" in render_card(with_manifest(MODEL, recipe=manifest.recipe, licences=()))
