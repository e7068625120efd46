"""Writes the model card for tools: a CycloneDX 1.6 bill of materials with a machine-learning model in it.

The standard: ECMA-424, first edition (CycloneDX 1.6), ``modelCard``. Same manifest, same bytes: it holds no time and no
random number, and its serial number is derived from the model's digest (UUID version 5, RFC 9562).

It deliberately measures nothing and names nothing that the manifest does not; ``card`` writes the same for people.

Invariants:
    1. Every figure has its n, in ``slice``, and its interval where one was computed.
    2. It is valid against the 1.6 schema (a test runs the reference validator).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from einthoven.model_manifest import Manifest, Model
from einthoven_conversion import intended_use
from einthoven_conversion.card import PART_ROLES, multiply_adds_a_second
from einthoven_conversion.data_sources import PART_SOURCES, SOURCES
from einthoven_conversion.figure_tables import MEANING, Figure, by_class, further_tables, headline

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://einthoven.invalid/model-digest")
MODEL_LICENCE: Final = "Apache-2.0"
_Json = dict[str, Any]


def render_bom(model: Model) -> bytes:
    """The bill of materials as JSON.

    Raises:
        ReportIncomplete: A figure of the manifest lacks its n.
    """
    manifest = model.manifest
    main = _model_component(model)
    parts = [_part_component(name, sha256) for name, sha256 in manifest.parts.items()]
    sources = [_source_component(source) for source in _sources(manifest)]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, model.digest.hex())}",
        "version": 1,
        "metadata": {"component": main},
        "components": [*parts, *sources],
        "dependencies": [
            {"ref": main["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": component["bom-ref"]} for component in (*parts, *sources)),
        ],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _model_component(model: Model) -> _Json:
    manifest = model.manifest
    return {
        "type": "machine-learning-model",
        "bom-ref": f"{manifest.name}@{manifest.version}",
        "name": manifest.name,
        "version": manifest.version,
        "description": "Rhythm class of a single-lead ECG, one int8 step a second. Not a medical device.",
        "hashes": [_hash(manifest.sha256)],
        "licenses": [{"license": {"id": MODEL_LICENCE}}],
        "modelCard": {
            "modelParameters": _model_parameters(manifest),
            "quantitativeAnalysis": {"performanceMetrics": [_metric(figure) for figure in _all_figures(manifest)]},
            "considerations": _considerations(),
            "properties": _card_properties(manifest),
        },
        "properties": _properties(
            {
                "file": f"{manifest.name}.tflite",
                "manifest": f"{manifest.name}.json",
                "manifest.sha256": model.digest.hex(),
                "signature": f"{manifest.name}.json.sig",
                "size_bytes": manifest.size_bytes,
            }
        ),
    }


def _model_parameters(manifest: Manifest) -> _Json:
    layers = len(manifest.recipe.get("layers", ()))
    state_bytes = sum(tensor.shape[1] for tensor in manifest.inputs[1:])
    return {
        "approach": {"type": "supervised"},
        "task": "classification",
        "architectureFamily": "convolutional neural network",
        "modelArchitecture": f"causal temporal convolutions, {layers} layers, int8, explicit state of {state_bytes} B",
        "datasets": [{"ref": _source_ref(entry["id"])} for entry in manifest.licences if entry.get("id") in SOURCES],
        "inputs": [
            {"format": f"int8 [1, 128]: a second at 128 Hz behind front end {manifest.front_end.version}; state"}
        ],
        "outputs": [{"format": f"int8 [1, 4]: a logit for each of {', '.join(manifest.labels)}; state"}],
    }


def _all_figures(manifest: Manifest) -> list[Figure]:
    metrics = manifest.metrics
    tables = [figure for table in further_tables(metrics) for figure in table.figures]
    return [*headline(metrics), *by_class(metrics), *tables]


def _metric(figure: Figure) -> _Json:
    of = MEANING.get(figure.slice, "")
    named = f"{figure.slice} ({of})" if of else figure.slice
    metric: _Json = {
        "type": figure.name,
        "value": "not measured" if figure.value is None else f"{figure.value:.6g}",
        "slice": f"{named or 'all'}; n = {figure.n}",
    }
    if figure.interval is not None:
        low, high = figure.interval
        metric["confidenceInterval"] = {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}
    return metric


def _considerations() -> _Json:
    return {
        "users": list(intended_use.USERS),
        "useCases": [*intended_use.USE_CASES, *(f"Not for: {case}" for case in intended_use.OUT_OF_SCOPE)],
        "technicalLimitations": list(intended_use.LIMITS),
        "performanceTradeoffs": list(intended_use.TRADEOFFS),
        "ethicalConsiderations": [{"name": risk, "mitigationStrategy": answer} for risk, answer in intended_use.ETHICS],
        "fairnessAssessments": [
            {"groupAtRisk": group, "benefits": benefit, "harms": harm, "mitigationStrategy": answer}
            for group, benefit, harm, answer in intended_use.FAIRNESS
        ],
    }


def _card_properties(manifest: Manifest) -> list[_Json]:
    recipe, metrics = manifest.recipe, manifest.metrics
    return _properties(
        {
            "training.dataset": recipe.get("dataset", ""),
            "training.records.n": recipe.get("records", {}).get("n", ""),
            "training.records.ids.sha256": recipe.get("records", {}).get("record_ids_sha256", ""),
            "training.command": metrics.get("command", ""),
            "split": metrics.get("protocol", ""),
            "interval": "95 %",
            "multiply_adds_a_second": multiply_adds_a_second(list(recipe["layers"])),
            "temperature": metrics.get("temperature", ""),
            "af_possible_permille": metrics.get("af_possible_permille", ""),
            "af_certain_permille": metrics.get("af_certain_permille", ""),
        }
    )


def _part_component(name: str, sha256: str) -> _Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": name,
        "name": name,
        "description": f"Integer network that {PART_ROLES.get(name, 'decides with the model')}",
        "hashes": [_hash(sha256)],
        "licenses": [{"license": {"id": MODEL_LICENCE}}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "datasets": [{"ref": _source_ref(source)} for source in PART_SOURCES.get(name, ())],
            }
        },
    }


def _source_component(source_id: str) -> _Json:
    source = SOURCES[source_id]
    component: _Json = {
        "type": "data",
        "bom-ref": _source_ref(source_id),
        "name": source.name,
        "licenses": [{"license": {"id": source.licence} if source.licence else {"name": "not confirmed"}}],
        "externalReferences": [{"type": "website", "url": source.url}],
        "data": [
            {
                "type": "dataset",
                "name": source_id,
                "description": f"{source.contents}. Cite: {source.cite}.",
                "classification": "public",
                "sensitiveData": ["de-identified ECGs of people, published by PhysioNet"],
            }
        ],
    }
    return component


def _sources(manifest: Manifest) -> list[str]:
    """Every source that the model or a part of it saw, in the order of ``SOURCES``."""
    seen = {entry.get("id") for entry in manifest.licences}
    seen |= {source for part in manifest.parts for source in PART_SOURCES.get(part, ())}
    return [source for source in SOURCES if source in seen]


def _source_ref(source_id: str) -> str:
    return f"data:{source_id}"


def _hash(sha256: str) -> _Json:
    return {"alg": "SHA-256", "content": sha256}


def _properties(values: Mapping[str, object]) -> list[_Json]:
    return [{"name": f"einthoven:{name}", "value": str(value)} for name, value in values.items()]
