"""The bill of materials: valid by the reference validator, complete, the same every time."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from einthoven.models import load_model
from einthoven_conversion import intended_use
from einthoven_conversion.bom import render_bom
from einthoven_conversion.data_sources import PART_SOURCES, SOURCES
from einthoven_conversion.manifests import with_manifest
from einthoven_models import read_resource

validation = pytest.importorskip("cyclonedx.validation.json", reason="needs cyclonedx-python-lib (extra 'test')")
MODEL = load_model()
BOM: dict[str, Any] = json.loads(read_resource("rhythm.cdx.json"))
CARD = BOM["metadata"]["component"]["modelCard"]
TABLES = {
    "conformal": {
        "title": "Conformal coverage",
        "figures": [{"id": "coverage", "slice": "A", "value": 0.8977, "n": 606, "spread": [0.8712, 0.9197]}],
    },
    "heart_rate": {
        "title": "By heart rate",
        "figures": [{"id": "f1_nao", "slice": "over 100 beats/min", "value": None, "n": 0}],
    },
}


def faults(text: str) -> Any:
    from cyclonedx.schema import SchemaVersion

    return validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def test_the_shipped_one_is_valid_cyclonedx_1_6() -> None:
    assert faults(read_resource("rhythm.cdx.json").decode()) is None


def test_the_validator_would_notice() -> None:
    broken = {**BOM, "metadata": {"component": {**BOM["metadata"]["component"], "type": "a model"}}}
    assert faults(json.dumps(broken)) is not None
    assert faults(json.dumps({**BOM, "more": 1})) is not None


def test_the_shipped_one_is_what_the_manifest_renders() -> None:
    assert read_resource("rhythm.cdx.json") == render_bom(MODEL)


def test_further_tables_are_performance_metrics() -> None:
    text = render_bom(with_manifest(MODEL, metrics={**MODEL.manifest.metrics, "tables": TABLES})).decode()
    assert faults(text) is None
    metrics = json.loads(text)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[-2:] == [
        {
            "type": "coverage",
            "value": "0.8977",
            "slice": "A (atrial fibrillation); n = 606",
            "confidenceInterval": {"lowerBound": "0.8712", "upperBound": "0.9197"},
        },
        {"type": "f1_nao", "value": "not measured", "slice": "over 100 beats/min; n = 0"},
    ]


def test_it_names_the_files_that_decide() -> None:
    main = BOM["metadata"]["component"]
    assert main["type"] == "machine-learning-model"
    assert main["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(read_resource("rhythm.tflite")).hexdigest()}]
    parts = {
        component["name"]: component["hashes"][0]["content"] for component in BOM["components"] if "hashes" in component
    }
    assert parts == MODEL.manifest.parts
    properties = {entry["name"]: entry["value"] for entry in main["properties"]}
    assert properties["einthoven:manifest.sha256"] == MODEL.digest.hex()


def test_every_source_has_its_licence_and_citation() -> None:
    sources = {component["bom-ref"]: component for component in BOM["components"] if component["type"] == "data"}
    for reference, component in sources.items():
        source = SOURCES[reference.removeprefix("data:")]
        assert source.cite in component["data"][0]["description"]
        (licence,) = component["licenses"]
        assert licence["license"] == ({"id": source.licence} if source.licence else {"name": "not confirmed"})


def test_every_reference_leads_somewhere() -> None:
    known = {BOM["metadata"]["component"]["bom-ref"], *(component["bom-ref"] for component in BOM["components"])}
    assert CARD["modelParameters"]["datasets"][0] == {"ref": "data:cinc2017"}
    cards = [CARD, *(component["modelCard"] for component in BOM["components"] if "modelCard" in component)]
    referred = {entry["ref"] for card in cards for entry in card["modelParameters"]["datasets"]}
    referred |= {entry["ref"] for entry in BOM["dependencies"]}
    assert referred <= known
    assert {f"data:{source}" for part in MODEL.manifest.parts for source in PART_SOURCES[part]} <= known


def test_every_figure_has_its_n_and_the_headlines_their_interval() -> None:
    metrics = CARD["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) >= len(MODEL.manifest.metrics["figures"]) + 12
    assert all("; n = " in metric["slice"] for metric in metrics)
    assert all("confidenceInterval" in metric for metric in metrics[: len(MODEL.manifest.metrics["figures"])])
    assert {metric["slice"].split(" ")[0] for metric in metrics if metric["type"] == "f1"} == {"N", "A", "O", "~"}


def test_users_uses_limits_and_risks_are_said() -> None:
    said = CARD["considerations"]
    assert said["users"] == list(intended_use.USERS)
    assert set(intended_use.USE_CASES) < set(said["useCases"])
    assert said["technicalLimitations"] == list(intended_use.LIMITS)
    assert len(said["ethicalConsiderations"]) == len(intended_use.ETHICS)
    assert all(entry["harms"] and entry["mitigationStrategy"] for entry in said["fairnessAssessments"])


def test_it_is_the_same_every_time_and_another_for_another_model() -> None:
    assert render_bom(MODEL) == render_bom(MODEL)
    other = json.loads(render_bom(with_manifest(MODEL, version="9.9.9")))
    assert other["serialNumber"] != BOM["serialNumber"]
