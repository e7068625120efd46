"""`einthoven-bench model`: one document, counts that are counted, and bits that do not depend on how samples come."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any

import numpy as np
import pytest

from einthoven.ports import MISSING_UV
from einthoven.results import Rhythm
from einthoven_bench import model_cost
from einthoven_bench.constructed_ecg import constructed_ecg
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.model_digest import PartDigest, combined, digest_part
from einthoven_bench.model_exactness import ModelExactnessTask, check_model_exactness
from einthoven_bench.model_outputs import loaded, outputs_of, streamed, whole
from einthoven_bench.model_timing import Timed, TimingOutcome, timed, timing_figures
from einthoven_bench.signal_outputs import differing_bits, output_bits
from einthoven_bench.targets import TARGETS
from einthoven_conversion.export_tables import read_table

MakeRoot = Callable[..., Path]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(*arguments: object, module: str = "einthoven_bench", code: str = "") -> CompletedProcess[str]:
    """Run a command in a process of its own, after ``code``."""
    program = f"import runpy, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n{code}\n"
    program += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return run(command, capture_output=True, text=True, check=False, timeout=110)


def test_a_quick_run_measures_every_target(make_root: MakeRoot, tmp_path: Path) -> None:
    done = bench("model", "--data", make_root("cinc2017"), "--quick", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    figures = {figure["id"]: figure for figure in content["figures"]}
    assert {name for name in TARGETS if name.startswith("model.")} <= figures.keys()
    assert all(name.startswith("model.") for name in figures)
    assert figures["model.exactness_differing_bits"]["value"] == 0
    assert figures["model.exactness_differing_bits"]["n"] == 4
    assert figures["model.state_bytes"]["value"] <= 8_192
    assert figures["model.step_invoke_us"]["value"] <= figures["model.step_us"]["value"]
    assert content["machine"]["ai-edge-litert"]
    assert not content["left_out"]

    (tmp_path / "old.json").write_text(done.stdout, encoding="utf-8")
    root = tmp_path / "empty"
    root.mkdir()
    again = bench("model", "--data", root, "--quick", "--compare", tmp_path / "old.json")
    assert again.returncode == 0, again.stderr
    assert "compared with the earlier run" in again.stdout
    assert "constructed signals" in again.stdout
    model_targets = sum(name.startswith("model.") for name in TARGETS)
    assert f"{model_targets} there are" in again.stdout


@pytest.mark.parametrize(("arguments", "words"), [(("--data", "/no/such/folder"), "--data")])
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = bench("model", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_digests_agree_between_the_two_ways_to_ask(make_root: MakeRoot) -> None:
    root = make_root("cinc2017")
    block = "sys.modules.update(dict.fromkeys(('typer', 'rich', 'scipy', 'wfdb', 'tensorflow', 'flatbuffers')))"
    plain = bench("--data", root, module="einthoven_bench.model_digest", code=block)
    assert plain.returncode == 0, plain.stderr
    command = bench("model", "--data", root, "--digest-only")
    assert command.returncode == 0, command.stderr
    found = json.loads(plain.stdout)
    assert found == json.loads(command.stdout)
    assert found["records"] == 4
    assert len(found["output_sha256"]) == 64
    fewer = bench("--data", root, "--records", 2, module="einthoven_bench.model_digest")
    assert json.loads(fewer.stdout)["output_sha256"] != found["output_sha256"]


def test_digests_without_data_and_of_no_folder() -> None:
    done = bench("--records", 1, module="einthoven_bench.model_digest")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 1
    missing = bench("--data", "/no/such", module="einthoven_bench.model_digest")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


def test_a_digest_sees_one_sample_and_the_order() -> None:
    first, second = (constructed_ecg(12, Fraction(300), seed)[0] for seed in (1, 2))
    rate = Fraction(300)
    other = first.copy()
    other[1_000] += 400
    parts = [digest_part(batch) for batch in ([(first, rate)], [(other, rate)], [(second, rate)])]
    assert parts[0].inputs != parts[1].inputs
    assert parts[0].outputs != parts[1].outputs
    assert combined(parts[:2]).output_sha256 != combined(parts[1::-1]).output_sha256
    both = combined([parts[0], parts[2]])
    assert (both.records, both.steps) == (2, parts[0].steps + parts[2].steps)
    assert both.model == loaded()[0].digest.hex()


def test_parts_tell_where_two_machines_differ() -> None:
    one, other = (PartDigest(b"i" * 32, hashlib.sha256(text).digest(), 1.0, 1, 1) for text in (b"a", b"b"))
    here, there = combined([one, one, one]), combined([one, other, one])
    assert [a == b for a, b in zip(here.parts, there.parts, strict=True)] == [True, False, True]


# Exactness


def test_streaming_is_exact_over_windows_and_gaps() -> None:
    samples, _ = constructed_ecg(40, Fraction(512_617, 1_000), 5)
    samples[4_000:6_000] = MISSING_UV
    outcome = check_model_exactness(ModelExactnessTask(samples, Fraction(512_617, 1_000), 1, 2))
    assert outcome.differing_bits == 0
    assert outcome.compared_bits > 10_000
    assert outcome.pushes > 1_000
    assert outcome.chunkings == 9


def test_a_difference_is_counted_in_bits() -> None:
    samples, _ = constructed_ecg(35, Fraction(300), 6)
    windows = streamed(samples, Fraction(300), [100, 5_000])
    assert len(windows) == 2
    step = replace(windows[0].steps[3], logits=(windows[0].steps[3].logits[0] ^ 3, *windows[0].steps[3].logits[1:]))
    changed = replace(windows[0], steps=(*windows[0].steps[:3], step, *windows[0].steps[4:]))
    assert differing_bits(outputs_of(windows), outputs_of([changed, windows[1]])) == 2
    assert differing_bits(outputs_of(windows), outputs_of(windows[:1])) > 0
    expected = outputs_of(whole(samples, Fraction(300)).windows)
    assert differing_bits(expected, outputs_of(tuple(windows))) == 0


@dataclass(frozen=True)
class _Anything:
    number: int
    flag: bool
    nothing: int | None
    real: float
    rhythm: Rhythm
    text: str
    lists: tuple[tuple[int, ...], ...]
    array: np.ndarray
    named: dict[str, int]


def test_everything_that_comes_out_is_compared() -> None:
    first = _Anything(1, True, None, 0.5, Rhythm.NORMAL, "a", ((1, 2), (3,)), np.array([1, 2], np.int8), {"a": 1})
    others = [
        {"number": 2},
        {"flag": False},
        {"nothing": 0},
        {"real": 0.25},
        {"rhythm": Rhythm.NOISE},
        {"text": "b"},
        {"lists": ((1,), (2, 3))},
        {"array": np.array([1, 3], np.int8)},
        {"named": {"b": 1}},
    ]
    assert output_bits(outputs_of(first)) > 500
    assert differing_bits(outputs_of(first), outputs_of(replace(first))) == 0
    for change in others:
        assert differing_bits(outputs_of(first), outputs_of(replace(first, **change))) > 0, change
    with pytest.raises(TypeError, match="number"):
        outputs_of(replace(first, number=object()))


# Counts


def test_what_is_shipped_is_counted() -> None:
    contents = model_cost.shipped_files()
    assert {"rhythm.tflite", "rhythm.json", "beats.json", "quality.json"} <= contents.keys()
    assert not any(name.endswith((".cdx.json", ".folds.json", ".py")) for name in contents)
    figures = {figure.id: figure for figure in model_cost.cost_figures(contents)}
    model = loaded()[0]
    assert figures["model.state_bytes"].value == sum(tensor.shape[1] for tensor in model.manifest.inputs[1:])
    assert figures["model.size_bytes_max"].value >= len(model.content)
    assert figures["model.file_bytes_max"].value == max(map(len, contents.values()))
    assert figures["model.mac_per_s"].value > 100_000


def test_a_table_counts_with_its_worst_case() -> None:
    contents = {name: content for name, content in model_cost.shipped_files().items() if name.endswith(".tflite")}
    bare = {figure.id: figure for figure in model_cost.cost_figures(contents)}
    layers = [{"weights": [[1] * 30] * 20, "bias": [0] * 30}, {"weights": [[2]] * 30, "bias": [0]}]
    document: dict[str, Any] = {"tables": {"layers": layers}, "provenance": {"weights": [[1]]}}
    assert model_cost.table_products(read_table("x.json", json.dumps(document).encode())) == 630
    packed = {"outlyingness": {"directions": base64.b64encode(bytes(48)).decode(), "k": 4}}
    assert model_cost.table_products(read_table("x.json", json.dumps(packed).encode())) == 48
    more = contents | {
        "beat_classes.json": json.dumps(document).encode(),
        "verdict.json": json.dumps(document).encode(),
    }
    found = {figure.id: figure for figure in model_cost.cost_figures(more)}
    added = found["model.mac_per_s"].value - bare["model.mac_per_s"].value
    assert added == pytest.approx(630 * (200 / 60 + 1))
    assert "beat_classes.json" in found["model.mac_per_s"].note
    other = contents | {"other.json": json.dumps(document).encode()}
    beside = next(figure for figure in model_cost.cost_figures(other) if figure.id == "model.mac_per_s")
    assert beside.value == bare["model.mac_per_s"].value
    assert "other.json 630 a run" in beside.note


@pytest.mark.parametrize("contents", [{}, {"a.json": b"{}"}, {"a.tflite": b"none"}])
def test_what_cannot_be_counted_is_one_line(contents: dict[str, bytes]) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        model_cost.cost_figures(contents)
    assert "\n" not in str(caught.value)


# Time


def test_each_call_is_timed_by_itself() -> None:
    calls = []
    found = timed(lambda: calls.append(1), 50, warm_up=7)
    assert len(calls) == 57
    assert found.cpu_us.shape == found.wall_us.shape == (50,)
    assert (found.wall_us >= 0).all()


def test_figures_of_time_are_medians() -> None:
    ramp = Timed(np.arange(1.0, 102.0), np.arange(1.0, 102.0) * 2)
    figures = {one.id: one for one in timing_figures(TimingOutcome(ramp, ramp, ramp, ramp), "x")}
    assert figures["model.step_invoke_us"].value == 51
    assert figures["model.step_invoke_us"].n == 101
    assert figures["model.load_ms"].value == pytest.approx(0.051)
    assert "p99 100" in figures["model.step_us"].note
