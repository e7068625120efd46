"""An explanation in sentences: what is said, that each share has its n, and what `einthoven explain` shows of it."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.explained_windows import RATE, ScriptedRunner, a_model, heart, judged_by, regular, tables

from einthoven.analysis import analyze_window
from einthoven.cli import main
from einthoven.cli_explain import explained_document, results_of
from einthoven.errors import InputError
from einthoven.explanation import explain_window
from einthoven.explanation_events import ExplainedWindow, what_drove
from einthoven.explanation_measures import RATE_COLUMN, VARIATION_COLUMN
from einthoven.explanation_words import basis_text, probabilities_text, runs, sentences, set_text, spans
from einthoven.ports import MISSING_UV, Segment
from einthoven.results import Rhythm
from einthoven.source_simulated import SimulatedSource
from einthoven.store_memory import MemoryStore
from einthoven.verdicts import window_result

MODEL = a_model()
START_MS = 1_753_000_000_000


def told(script, samples=None, judging=None) -> str:
    model = MODEL if judging is None else judged_by(MODEL, judging)
    found = explain_window(model, ScriptedRunner(script), regular() if samples is None else samples, RATE)
    return "\n".join(sentences(found, model.verdict.tables))


@given(st.sets(st.integers(0, 40)))
def test_runs_are_the_seconds_again(seconds):
    found = runs(sorted(seconds))
    assert {second for first, past in found for second in range(first, past)} == seconds
    assert all(past < first for (_, past), (first, _) in pairwise(found))


def test_spans_read_as_times():
    assert spans([4, 5, 6, 9]) == "4–7 s, 9–10 s"
    assert spans([4, 9], lambda second: f"0:{second:02d}") == "0:04–0:05, 0:09–0:10"
    assert spans([]) == ""


def test_a_set_says_what_is_not_ruled_out():
    assert set_text((Rhythm.AF, Rhythm.OTHER), Rhythm.AF) == "A, not ruled out: O"
    assert set_text((Rhythm.NORMAL, Rhythm.AF, Rhythm.OTHER), Rhythm.AF) == "A, not ruled out: N O"
    assert set_text((Rhythm.NORMAL,), Rhythm.NORMAL) == "N"
    assert set_text((), Rhythm.NORMAL) == "–"


def test_probabilities_rest_on_a_count():
    opinion = MODEL.verdict.of_logits((0, 4096, 0, 0))
    assert probabilities_text(opinion) == "N 5.2 %  A 84.4 %  O 5.2 %  ~ 5.2 %"
    assert "n = 6,800 records (4,000 N, 600 A, 2,000 O, 200 ~)" in basis_text(MODEL.verdict.tables.sets)
    assert "95.0 %" in basis_text(MODEL.verdict.tables.sets)


def test_without_calibration_it_says_so():
    import msgspec

    untrained = msgspec.structs.replace(MODEL.verdict.tables.sets, n=(0, 0, 0, 0))
    assert "n = 0" in basis_text(untrained)
    assert "%" not in basis_text(untrained)


def test_af_is_told_with_its_counts():
    irregular = np.cumsum(np.random.default_rng(4).uniform(0.5, 1.2, 40))
    samples = heart(irregular[irregular < 29.5].tolist())
    text = told(lambda second: [0, 120 if 4 <= second < 9 else 1, 0, 0], samples)
    assert text.startswith("Atrial fibrillation.")
    assert re.search(r"Intervals vary by \d+\.\d % about \d+/min \(n = \d+\)", text)
    assert re.search(r"P wave not seen in the median beat \(n = \d+ beats\)", text)
    assert re.search(r"ventricular and \d+ supraventricular of \d+ beats", text)
    assert "The network heard atrial fibrillation in 28 of 28 seconds: speaks for it (1000 of 1000" in text
    assert "Strongest at 4–9 s (5 of 30 seconds hold" in text or "Strongest at 4–8 s (4 of 30 seconds hold" in text


def test_every_per_cent_has_its_n():
    for judging in (tables(), tables(af=(10, 950)), tables(directions=(RATE_COLUMN,), limit=10)):
        text = told(lambda second: [9, 7 + second % 3, 0, 0], judging=judging)
        for sentence in text.splitlines():
            assert "%" not in sentence or "n = " in sentence, sentence


@pytest.mark.parametrize(
    ("script", "samples", "judging", "wanted"),
    [
        (lambda _: [9, 0, 0, 0], regular()[:900], None, "too short, 1 of the 5 seconds"),
        (lambda _: [9, 0, 0, 0], np.full(9_000, MISSING_UV, np.int32), None, "poor signal, 0 of 30 seconds usable"),
        (lambda _: [0, 0, 0, 9], regular(), None, "what is there looks like noise"),
        (lambda _: [9, 0, 0, 0], regular(rr_s=0.22), None, " intervals) is outside 25-240/min"),
        (lambda _: [9, 8, 0, 0], regular(), tables(af=(10, 950)), "from 1.0 % to under 95.0 % (n = 6,800 records)"),
        (lambda _: [9, 8, 0, 0], regular(), tables(af=(10, 950)), "the prediction set holds N, A"),
        (lambda _: [9, 0, 0, 0], regular(), tables(directions=(RATE_COLUMN,), limit=10), "most of it by heart rate"),
    ],
    ids=["short", "missing", "noise", "rate", "AF open", "set", "unlike"],
)
def test_why_there_is_no_verdict(script, samples, judging, wanted):
    text = told(script, samples, judging)
    assert text.startswith("No verdict: ")
    assert wanted in text


def test_faults_name_their_seconds():
    samples = regular()
    samples[4 * 300 : 6 * 300] = MISSING_UV
    assert "gap at 4–6 s" in told(lambda _: [9, 0, 0, 0], samples)


def test_one_second_that_decides_is_named():
    assert "changes the most likely class: 11–12 s" in told(lambda second: [2, 60 * (second == 11), 0, 0])
    assert "keeps the most likely class" in told(lambda second: [9, 0, 0, 0])


# Events


def an_explained(script, samples, counter=1, judging=None) -> ExplainedWindow:
    model = MODEL if judging is None else judged_by(MODEL, judging)
    runner = ScriptedRunner(script)
    result = window_result(
        model, analyze_window(model, runner, samples, RATE), Segment(RATE, samples), START_MS + 30_000 * (counter - 1)
    )
    return ExplainedWindow(result, explain_window(model, runner, samples, RATE))


def test_an_af_event_is_driven_by_the_seconds_of_its_windows():
    windows = [
        an_explained(lambda second: [1, 60 * (second in (27, 5)), 0, 0], regular(), 1),
        an_explained(lambda second: [1, 60 * (second == 2), 0, 0], regular(), 2),
    ]
    driven = what_drove("af_episode", (START_MS + 20_000, START_MS + 40_000), windows)
    assert not driven.by_beats
    assert driven.spans == ((START_MS + 27_000, START_MS + 28_000), (START_MS + 32_000, START_MS + 33_000))


def test_a_pause_is_driven_by_the_seconds_it_spans():
    window = an_explained(lambda _: [9, 0, 0, 0], heart([at for at in np.arange(0.4, 29.8, 0.9) if not 14 < at < 16.9]))
    driven = what_drove("pause_2s", (START_MS, START_MS + 30_000), [window])
    ((first, last),) = driven.spans
    assert driven.by_beats
    assert first <= START_MS + 14_000
    assert last >= START_MS + 16_500
    assert what_drove("pause_2s", (START_MS, START_MS + 5_000), [window]).by_beats is False


def test_nothing_outside_the_stretch():
    window = an_explained(lambda second: [1, 60 * (second == 5), 0, 0], regular())
    assert what_drove("", (START_MS + 5_500, START_MS + 9_000), [window]).spans == (
        (START_MS + 5_500, START_MS + 6_000),
    )
    assert what_drove("", (START_MS + 7_000, START_MS + 9_000), [window]).spans == ()


# The command


@pytest.fixture(scope="module")
def ecg_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = SimulatedSource.demo()
    samples = np.concatenate(list(source.chunks()))[(60 * 300) : (130 * 300)]
    path = tmp_path_factory.mktemp("ecg") / "ecg.csv"
    path.write_text("# sampling_rate_hz=300\n# unit=uV\n" + "\n".join(map(str, samples.tolist())) + "\n")
    return path


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_file_is_explained_and_nothing_kept(capsys, ecg_csv, tmp_path):
    home = tmp_path / "home"
    status, out, err = run(capsys, "explain", ecg_csv, "--home", home, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert [len(window["seconds"]) for window in document["windows"]] == [30, 30, 10]
    for window in document["windows"]:
        assert window["replays"]
        assert window["sentences"]
        assert window["confidence_n"] == sum(document["calibration"]["n"].values())
        driven = {second for first, past in window["driving_s"] for second in range(first, past)}
        assert driven <= {second["second"] for second in window["seconds"] if second["fall"] > 0}
    assert not home.exists()


def test_people_see_a_line_a_window_and_sentences(capsys, ecg_csv, tmp_path):
    status, out, _ = run(capsys, "explain", ecg_csv, "--home", tmp_path, "--window", "1")
    assert status == 0
    assert "driven by" in out
    assert "Window 1" in out
    assert "Window 2" not in out
    assert "Not a medical device" in out


def test_what_is_stored_is_explained_from_its_segments(capsys, ecg_csv, tmp_path):
    assert run(capsys, "analyze", ecg_csv, "--home", tmp_path / "home")[0] == 0
    status, out, _ = run(capsys, "explain", "--home", tmp_path / "home", "--json")
    assert status == 0
    stored = json.loads(out)
    status, out, _ = run(capsys, "explain", ecg_csv, "--home", tmp_path / "home", "--json")
    for one, other in zip(stored["windows"], json.loads(out)["windows"], strict=True):
        assert one["seconds"] == other["seconds"]
        assert one["sentences"] == other["sentences"]


def test_what_is_not_there_gets_one_line(capsys, ecg_csv, tmp_path):
    for arguments in (("--home", tmp_path / "none"), (ecg_csv, "--home", tmp_path, "--window", "99")):
        status, _, err = run(capsys, "explain", *arguments)
        assert status == 2
        assert err.startswith("einthoven: ")
        assert err.count("\n") == 1
    with pytest.raises(InputError):
        results_of(MemoryStore(), 3)


def test_results_of_another_model_are_named_only():
    runner, samples = ScriptedRunner(lambda _: [9, 0, 0, 0]), regular()
    store = MemoryStore()
    segment = Segment(RATE, samples)
    stored = store.append_window(
        window_result(MODEL, analyze_window(MODEL, runner, samples, RATE), segment, START_MS), segment
    )
    assert explained_document(MODEL, runner, store, [stored])["windows"][0]["replays"]
    from dataclasses import replace

    other = replace(MODEL, digest=bytes(32))
    document = explained_document(other, runner, store, [stored])
    assert document["windows"] == []
    assert document["unexplained"] == [{"counter": 1, "why": "other_model"}]
    lost = replace(stored, segment_digest=bytes(32))
    assert explained_document(MODEL, runner, store, [lost])["unexplained"] == [{"counter": 1, "why": "no_segment"}]


def test_a_verdict_that_does_not_replay_is_said_not_to():
    samples = regular()
    store = MemoryStore()
    segment = Segment(RATE, samples)
    heard = ScriptedRunner(lambda _: [9, 0, 0, 0])
    stored = store.append_window(
        window_result(MODEL, analyze_window(MODEL, heard, samples, RATE), segment, START_MS), segment
    )
    judging = tables((VARIATION_COLUMN, -1, Rhythm.AF, 3000))
    changed = judged_by(MODEL, judging)
    assert not explained_document(changed, heard, store, [stored])["windows"][0]["replays"]
