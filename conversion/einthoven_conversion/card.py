"""Writes the model card from the manifest, so that it can name nothing the training did not see."""

from __future__ import annotations

from typing import Any

from einthoven.analysis import MIN_STEPS, MIN_USABLE_PERCENT, WINDOW_S
from einthoven.models import Model
from einthoven_conversion.datasets import LABELS

MEANING = {"N": "normal sinus rhythm", "A": "atrial fibrillation", "O": "any other rhythm", "~": "too noisy to tell"}


def multiply_adds_a_second(layers: list[dict[str, Any]]) -> int:
    """Multiply-adds of one step, from the recipe's layers."""
    rate, inputs, total = 128, 1, 0
    for layer in layers:
        rate //= layer["stride"]
        total += rate * layer["kernel"] * inputs * layer["channels"]
        inputs = layer["channels"]
    return total + inputs * len(LABELS)


def render_card(model: Model) -> str:
    """The card in Markdown."""
    manifest = model.manifest
    metrics, recipe = manifest.metrics, manifest.recipe
    state_bytes = sum(tensor.shape[1] for tensor in manifest.inputs[1:])
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        "**Not a medical device.** Rhythm class of a single-lead ECG, one int8 step a second. For research and",
        "engineering; it has been through no clinical validation and must not be used to diagnose or treat.",
        "",
        "| | |",
        "| --- | --- |",
        f"| SHA-256 of `{manifest.name}.tflite` | `{manifest.sha256}` |",
        f"| size | {manifest.size_bytes} B |",
        f"| multiply-adds a second of ECG | {multiply_adds_a_second(list(recipe['layers']))} |",
        f"| state | {state_bytes} B, int8 |",
        f"| input | int8 [1, 128]: one second at 128 Hz behind front end {manifest.front_end.version} |",
        f"| output | int8 [1, 4]: one logit for each of {', '.join(manifest.labels)}; a window's are their mean |",
        f"| window | up to {WINDOW_S} s; no verdict under {MIN_STEPS} steps or {MIN_USABLE_PERCENT} % usable seconds |",
        "",
        "## Training data",
        "",
        f"{recipe['records']['n']} records of `{recipe['dataset']}`; the shipped model is trained on all of them.",
        "",
        *[f"- {entry['name']}{_licence(entry)}. {entry['cite']}." for entry in manifest.licences],
        "",
        "## Figures",
        "",
        f"{metrics['protocol']}. n = {metrics['n']} records; 95 % intervals. No figure here is of the shipped",
        "model itself, which is trained on all folds; expect it to do about as well on new records like these.",
        "",
        "| figure | value | 95 % interval | n | |",
        "| --- | --- | --- | --- | --- |",
        *[
            f"| {entry['id']} | {entry['value']:.4f} | {entry['spread'][0]:.4f} to {entry['spread'][1]:.4f} "
            f"| {entry['n']} | {entry['note']} |"
            for entry in metrics["figures"]
        ],
        "",
        "### By class",
        "",
        "| class | n | F1 | 95 % interval | sensitivity | no verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *[_class_line(label, metrics["classes"][label]) for label in LABELS],
        "",
        "Rows are true, columns predicted (N, A, O, ~):",
        "",
        "```",
        *["".join(f"{count:7d}" for count in row) for row in metrics["classes"]["confusion"]],
        "```",
        "",
        "## Confidence",
        "",
        f"Temperature {manifest.probability.temperature} and the low-confidence threshold of",
        f"{manifest.probability.low_confidence_permille} permille were chosen on the same {manifest.probability.n}",
        "out-of-fold records that the figures above rest on (two numbers from as many records); `ece` and",
        "`inconclusive` are therefore slightly hopeful.",
        "",
        "## Limits",
        "",
        "- No subject ids are published: recordings of one person may be in several folds, which flatters the figures.",
        "- One device (AliveCor, lead I), adults who chose to record; no age, sex or illness is known, so no subgroup",
        "  other than the class could be examined.",
        "- Experts agreed only moderately on O and ~, and O is a mix of many rhythms.",
        "- Ventricular fibrillation, pacing and paediatric ECGs are not in the training data.",
        "- Electrodes swapped or turned over are handled (training saw both polarities); other leads were not tested.",
        "- The figures are of whole records of 9 to 61 s, not of single seconds.",
        "",
        "## Made by",
        "",
        f"`{metrics['command']}`; the recipe is in `{manifest.name}.json`,",
        "the experiments are in `conversion/EXPERIMENTS.md`.",
        "",
    ]
    return "\n".join(lines)


def _licence(entry: dict[str, Any]) -> str:
    return f" ({entry['licence']})" if entry["licence"] else ""


def _class_line(label: str, row: dict[str, Any]) -> str:
    return (
        f"| {label} ({MEANING[label]}) | {row['n']} | {row['f1']:.4f} | {row['interval'][0]:.4f} to "
        f"{row['interval'][1]:.4f} | {row['sensitivity']:.4f} | {row['inconclusive']:.4f} |"
    )
