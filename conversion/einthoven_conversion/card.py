"""Writes the model card for people, from the manifest alone, so that it can name nothing the training did not see.

``bom`` writes the same for tools. It deliberately measures nothing and words no limits of its own (``intended_use``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from einthoven.analysis import MIN_STEPS, MIN_USABLE_PERCENT, WINDOW_S
from einthoven.model_manifest import Manifest, Model
from einthoven_conversion import intended_use
from einthoven_conversion.data_sources import PART_SOURCES, SOURCES
from einthoven_conversion.datasets import LABELS
from einthoven_conversion.figure_tables import (
    MEANING,
    Figure,
    FigureTable,
    by_class,
    further_tables,
    headline,
    rest,
)

PART_ROLES = {
    "beats.json": "finds the beats",
    "quality.json": "judges the signal of every second",
    "beat_classes.json": "classes the beats",
    "verdict.json": "turns seconds, beats and intervals into the verdict on a window",
}


def multiply_adds_a_second(layers: list[dict[str, Any]]) -> int:
    """Multiply-adds of one step, from the recipe's layers."""
    rate, inputs, total = 128, 1, 0
    for layer in layers:
        rate //= layer["stride"]
        total += rate * layer["kernel"] * inputs * layer["channels"]
        inputs = layer["channels"]
    return total + inputs * len(LABELS)


def render_card(model: Model) -> str:
    """The card in Markdown.

    Raises:
        ReportIncomplete: A figure of the manifest lacks its n.
    """
    manifest = model.manifest
    sections = (
        _head(model),
        _use(),
        _parts(manifest),
        _training(manifest),
        _figures(manifest),
        *(_table_section(table) for table in further_tables(manifest.metrics)),
        _rest(manifest.metrics),
        _confidence(model),
        _limits(),
        _made_by(manifest),
    )
    return "\n".join(line for section in sections for line in section)


def _head(model: Model) -> list[str]:
    manifest = model.manifest
    state_bytes = sum(tensor.shape[1] for tensor in manifest.inputs[1:])
    return [
        f"# {manifest.name} {manifest.version}",
        "",
        "**Not a medical device.** Rhythm class of a single-lead ECG, one int8 step a second. For research and",
        "engineering; it has been through no clinical validation and must not be used to diagnose or treat.",
        "",
        "| | |",
        "| --- | --- |",
        f"| digest, which every result names: SHA-256 of `{manifest.name}.json` | `{model.digest.hex()}` |",
        f"| SHA-256 of `{manifest.name}.tflite` | `{manifest.sha256}` |",
        f"| size | {manifest.size_bytes} B |",
        f"| multiply-adds a second of ECG | {multiply_adds_a_second(list(manifest.recipe['layers']))} |",
        f"| state | {state_bytes} B, int8 |",
        f"| input | int8 [1, 128]: one second at 128 Hz behind front end {manifest.front_end.version} |",
        f"| output | int8 [1, 4]: one logit for each of {', '.join(manifest.labels)} |",
        f"| window | up to {WINDOW_S} s; no verdict under {MIN_STEPS} steps or {MIN_USABLE_PERCENT} % usable seconds |",
        "",
    ]


def _use() -> list[str]:
    return [
        "## Use",
        "",
        *(f"- For: {user}." for user in intended_use.USERS),
        *(f"- To do: {case}." for case in intended_use.USE_CASES),
        *(f"- Not for: {case}." for case in intended_use.OUT_OF_SCOPE),
        "",
    ]


def _parts(manifest: Manifest) -> list[str]:
    lines = ["## Parts", "", "The manifest names, and its signature covers, every file that decides a result.", ""]
    rows = [
        (
            f"`{name}`",
            PART_ROLES.get(name, ""),
            ", ".join(f"`{source}`" for source in PART_SOURCES.get(name, ())),
            sha256,
        )
        for name, sha256 in manifest.parts.items()
    ]
    return lines + _table(("part", "what it does", "fitted on", "SHA-256"), rows)


def _training(manifest: Manifest) -> list[str]:
    recipe = manifest.recipe
    named = {entry["cite"] for entry in manifest.licences}
    used = {source for part in manifest.parts for source in PART_SOURCES.get(part, ())}
    others = [SOURCES[source] for source in SOURCES if source in used and SOURCES[source].cite not in named]
    return [
        "## Training data",
        "",
        f"{recipe['records']['n']} records of `{recipe['dataset']}`; the shipped model is trained on all of them.",
        "",
        *(
            f"- {entry['name']}{_licence(entry['licence'])}{_purpose(entry)}. {entry['cite']}."
            for entry in manifest.licences
        ),
        "",
        *(["Its parts also saw:", ""] if others else []),
        *(f"- {source.name}{_licence(source.licence)}. {source.cite}." for source in others),
        *([""] if others else []),
    ]


def _figures(manifest: Manifest) -> list[str]:
    metrics = manifest.metrics
    lines = [
        "## Figures",
        "",
        f"{metrics['protocol']}. n = {metrics['n']} records; 95 % intervals. No figure here is of the shipped",
        "model itself, which is trained on all folds; expect it to do about as well on new records like these.",
        "",
        *_figure_lines(headline(metrics)),
        "### By class",
        "",
        *_class_lines(by_class(metrics)),
    ]
    confusion = metrics.get("classes", {}).get("confusion")
    if confusion:
        lines += [f"Rows are true, columns predicted ({', '.join(LABELS)}):", "", "```"]
        lines += ["".join(f"{count:7d}" for count in row) for row in confusion]
        lines += ["```", ""]
    return lines


def _table_section(table: FigureTable) -> list[str]:
    text = [table.text, ""] if table.text else []
    return [f"### {table.title}", "", *text, *_figure_lines(table.figures)]


def _rest(metrics: dict[str, Any]) -> list[str]:
    left = rest(metrics)
    if not left:
        return []
    return ["### Further", "", "```json", *json.dumps(left, indent=1, ensure_ascii=False).splitlines(), "```", ""]


def _confidence(model: Model) -> list[str]:
    tables = model.verdict.tables
    sets = tables.sets
    least = ", ".join(f"{label} {share}" for label, share in zip(LABELS, sets.least_permille, strict=True))
    counts = ", ".join(f"{label} {n}" for label, n in zip(LABELS, sets.n, strict=True))
    return [
        "## Confidence",
        "",
        f"Temperature {tables.temperature}; no verdict while AF has a probability of {tables.af_possible_permille} to",
        f"{tables.af_certain_permille - 1} permille. Both were chosen on all out-of-fold records; for the figures",
        "above, fold by fold on the other folds' records.",
        "",
        f"A class is in the prediction set (nominal coverage {sets.coverage_permille / 10:.0f} % of each class) from",
        f"these probabilities in permille on: {least} (n: {counts}).",
        "",
        f"Out of distribution: over {tables.outlyingness.limit}; {tables.outlyingness.share_permille / 10:.1f} % are,",
        f"of {tables.outlyingness.n} training records that were good enough to be judged.",
        "",
    ]


def _limits() -> list[str]:
    return [
        "## Limits",
        "",
        *(f"- {limit}" for limit in intended_use.LIMITS),
        "",
        "## What could go wrong, and what is done about it",
        "",
        *(f"- {risk}: {answer}." for risk, answer in intended_use.ETHICS),
        *(f"- {group}: {harm}. {answer}." for group, _, harm, answer in intended_use.FAIRNESS),
        "",
    ]


def _made_by(manifest: Manifest) -> list[str]:
    return [
        "## Made by",
        "",
        f"`{manifest.metrics['command']}`; the recipe is in `{manifest.name}.json`, the same card for tools in",
        f"`{manifest.name}.cdx.json` (CycloneDX), the experiments are in `conversion/EXPERIMENTS.md`.",
        "",
    ]


def _figure_lines(figures: Sequence[Figure]) -> list[str]:
    """A table; columns that would be empty throughout are left out."""
    rows = [
        (figure.name, figure.slice, _number(figure), _interval(figure), str(figure.n), figure.note)
        for figure in figures
    ]
    heads = ("figure", "of", "value", "95 % interval", "n", "note")
    kept = [i for i in range(len(heads)) if i not in (1, 3, 5) or any(row[i] for row in rows)]
    return _table([heads[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _class_lines(figures: Sequence[Figure]) -> list[str]:
    rows = []
    for label in LABELS:
        mine = {figure.name: figure for figure in figures if figure.slice == label}
        if mine:
            f1, sensitivity, without = mine["f1"], mine["sensitivity"], mine["inconclusive"]
            name = f"{label} ({MEANING[label]})"
            rows.append((name, str(f1.n), _number(f1), _interval(f1), _number(sensitivity), _number(without)))
    return _table(("class", "n", "F1", "95 % interval", "sensitivity", "no verdict"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _number(figure: Figure) -> str:
    if figure.value is None:
        return "not measured"
    unit = "" if figure.unit == "1" else f" {figure.unit}"
    return f"{figure.value:.4f}{unit}"


def _interval(figure: Figure) -> str:
    return f"{figure.interval[0]:.4f} to {figure.interval[1]:.4f}" if figure.interval else ""


def _licence(licence: str) -> str:
    return f" ({licence})" if licence else ""


def _purpose(entry: dict[str, Any]) -> str:
    return f": {entry['use']}" if entry.get("use") else ""
