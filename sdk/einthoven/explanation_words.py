"""An explanation in plain sentences, and a verdict with all that can't be ruled out. Text only. Pure.

It deliberately says what was seen and what moved the verdict, never what it means for a patient's future.

Invariants:
    1. No share stands without what it is a share of.
    2. The same explanation gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

from einthoven.analysis import MAX_RATE_BPM, MIN_RATE_BPM, MIN_STEPS, MIN_USABLE_PERCENT
from einthoven.explanation import DRIVING_PERMILLE
from einthoven.explanation_measures import Group
from einthoven.explanation_parts import Contribution, Explanation
from einthoven.probability import OCTAVE
from einthoven.results import InconclusiveReason, Rhythm
from einthoven.verdict import Opinion
from einthoven.verdict_tables import PredictionSets, VerdictTables
from einthoven.window_features import LEAST_INTERVALS

RHYTHM_LETTERS: Final = {Rhythm.NORMAL: "N", Rhythm.AF: "A", Rhythm.OTHER: "O", Rhythm.NOISE: "~"}
RHYTHM_NAMES: Final = {
    Rhythm.NORMAL: "Normal sinus rhythm",
    Rhythm.AF: "Atrial fibrillation",
    Rhythm.OTHER: "Another rhythm",
    Rhythm.NOISE: "Noise",
}
P_SEEN_PERMILLE: Final = 40
P_ALIKE_PERMILLE: Final = 500
"""A P wave is said to be seen when it is this high (1/1000 of the R wave) and this alike from beat to beat: so it is in
785 of 1000 N and 168 of 1000 AF records of CinC 2017's training set that have 8 intervals or more."""
SECONDS_HEARD: Final = (
    "The network remembers about 16 s: what it heard in a second is not of that second alone, and seconds left out one"
    " by one do not add up to the whole."
)

Clock = Callable[[int], str]
"""How a second of the window is told."""


def in_seconds(second: int) -> str:
    """Seconds since the window's first sample."""
    return str(second)


def runs(seconds: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive seconds as (first, one past the last)."""
    breaks = [at for at, (one, other) in enumerate(pairwise(seconds), 1) if other != one + 1]
    edges = [0, *breaks, len(seconds)] if seconds else []
    return [(seconds[first], seconds[last - 1] + 1) for first, last in pairwise(edges)]


def spans(seconds: Sequence[int], clock: Clock = in_seconds) -> str:
    """Seconds as spans: ``4-10 s, 12-13 s``."""
    unit = " s" if clock is in_seconds else ""
    return ", ".join(f"{clock(first)}–{clock(past)}{unit}" for first, past in runs(seconds))


def set_text(prediction_set: Sequence[Rhythm], rhythm: Rhythm) -> str:
    """A prediction set: ``A, not ruled out: O``; a dash where it is empty."""
    if not prediction_set:
        return "–"
    others = [RHYTHM_LETTERS[one] for one in prediction_set if one is not rhythm]
    return RHYTHM_LETTERS[rhythm] + (f", not ruled out: {' '.join(others)}" if others else "")


def probabilities_text(opinion: Opinion) -> str:
    """All four probabilities; ``basis_text`` goes with them."""
    return "  ".join(f"{RHYTHM_LETTERS[one]} {_percent(opinion.permilles[one])}" for one in Rhythm)


def basis_text(sets: PredictionSets) -> str:
    """What probabilities and prediction sets rest on."""
    if not sum(sets.n):
        return "Probabilities are not calibrated, and no class is ruled in or out by a count (n = 0 records)."
    counts = ", ".join(f"{sets.n[one]:,} {RHYTHM_LETTERS[one]}" for one in Rhythm)
    return (
        f"Probabilities and sets were calibrated on n = {sum(sets.n):,} records ({counts}); of each class by itself,"
        f" at least {_percent(sets.coverage_permille)} of the records have their class in the set."
    )


def sentences(explanation: Explanation, tables: VerdictTables, clock: Clock = in_seconds) -> tuple[str, ...]:
    """What led to a verdict, in a few sentences with their counts.

    Args:
        explanation: What to say.
        tables: What judged.
        clock: How a second of the window is told; seconds since its first sample, if not given.
    """
    told = [_outcome(explanation, tables)]
    if explanation.analysis.n_steps:
        told += _seen(explanation)
        told += [_strongest(explanation, clock), _turning(explanation, clock)]
    told.append(_faulty(explanation, clock))
    return tuple(sentence for sentence in told if sentence)


def _outcome(explanation: Explanation, tables: VerdictTables) -> str:
    """The class, or the reason why there is none and what made it."""
    analysis, opinion = explanation.analysis, explanation.opinion
    held = f"the prediction set holds {', '.join(RHYTHM_LETTERS[one] for one in analysis.prediction_set) or 'nothing'}"
    match analysis.reason:
        case InconclusiveReason.NONE:
            others = [RHYTHM_NAMES[one].lower() for one in analysis.prediction_set if one is not analysis.rhythm]
            also = f"; not ruled out: {', '.join(others)}" if others else ""
            return f"{RHYTHM_NAMES[analysis.rhythm]}{also}."
        case InconclusiveReason.TOO_SHORT:
            return f"No verdict: too short, {len(analysis.steps)} of the {MIN_STEPS} seconds that are needed."
        case InconclusiveReason.POOR_SIGNAL:
            noise = "; what is there looks like noise" if analysis.n_steps and opinion.rhythm is Rhythm.NOISE else ""
            return (
                f"No verdict: poor signal, {analysis.usable_s} of {analysis.seconds} seconds usable"
                f" ({MIN_USABLE_PERCENT} of 100 are needed){noise}."
            )
        case InconclusiveReason.RATE_OUT_OF_RANGE:
            return (
                f"No verdict: a heart rate of {analysis.heart_rate_bpm}/min (n = {explanation.rhythmicity.intervals}"
                f" intervals) is outside {MIN_RATE_BPM}-{MAX_RATE_BPM}/min."
            )
        case InconclusiveReason.OUT_OF_DISTRIBUTION:
            limit = tables.outlyingness
            most = ", ".join(one.name for one in explanation.unusual[:3]) or "no one measure"
            return (
                f"No verdict: unlike the n = {limit.n:,} windows it was trained on, at a distance of"
                f" {analysis.outlyingness:,} with {limit.limit:,} allowed; most of it by {most}."
            )
        case _:
            return (
                f"No verdict: whether it is atrial fibrillation stays open, its probability of"
                f" {_percent(opinion.permilles[Rhythm.AF])} lies from {_percent(tables.af_possible_permille)} to under"
                f" {_percent(tables.af_certain_permille)} (n = {sum(tables.sets.n):,} records); {held}."
            )


def _seen(explanation: Explanation) -> Iterable[str]:
    """One sentence a group, those that count first."""
    said = {
        Group.SECONDS.value: _heard,
        Group.REGULARITY.value: _regularity,
        Group.SHAPE.value: _p_wave,
        Group.CLASSES.value: _classes,
    }
    for group in explanation.groups:
        yield f"{said[group.name](explanation)}{_pull(group)}."


def _pull(group: Contribution) -> str:
    if not group.fall:
        return ""
    return f": speaks {'for' if group.fall > 0 else 'against'} it ({group.permille} of 1000 parts of the pull)"


def _heard(explanation: Explanation) -> str:
    counted = [second for second in explanation.seconds if second.counted]
    heard = sum(second.heard is explanation.about for second in counted)
    return f"The network heard {RHYTHM_NAMES[explanation.about].lower()} in {heard} of {len(counted)} seconds"


def _regularity(explanation: Explanation) -> str:
    found = explanation.rhythmicity
    if found.intervals < LEAST_INTERVALS:
        return f"Too few intervals to tell whether they are regular (n = {found.intervals})"
    return (
        f"Intervals vary by {_percent(found.variation_permille)} about {found.rate_bpm}/min (n = {found.intervals}),"
        f" {found.early} early, {found.pauses} over 2 s"
    )


def _p_wave(explanation: Explanation) -> str:
    found = explanation.rhythmicity
    if not found.laid_over:
        return f"Too few beats to look for a P wave (n = {found.beats})"
    seen = found.p_height_permille >= P_SEEN_PERMILLE and found.p_likeness_permille >= P_ALIKE_PERMILLE
    return f"P wave {'seen' if seen else 'not seen'} in the median beat (n = {found.laid_over} beats)"


def _classes(explanation: Explanation) -> str:
    found = explanation.rhythmicity
    if not found.beats:
        return "No beat found"
    unknown = f", {found.unknown} not judged" if found.unknown else ""
    return (
        f"{found.ventricular} ventricular and {found.supraventricular} supraventricular of {found.beats} beats{unknown}"
    )


def _strongest(explanation: Explanation, clock: Clock) -> str:
    if not explanation.driving:
        return "No single second speaks for it."
    strongest = max(second.fall for second in explanation.seconds)
    hold = "holds" if len(explanation.driving) == 1 else "hold"
    n = (
        f"{len(explanation.driving)} of {len(explanation.seconds)} seconds {hold} {explanation.driving_permille} of"
        f" 1000 parts of what single seconds add; the strongest alone adds {_doublings(strongest)} to a"
        f" lead of {_doublings(explanation.strength)} doublings of the odds"
    )
    if explanation.driving_permille < DRIVING_PERMILLE:
        return f"Spread over the whole window; strongest at {spans(explanation.driving, clock)} ({n})."
    return f"Strongest at {spans(explanation.driving, clock)} ({n})."


def _turning(explanation: Explanation, clock: Clock) -> str:
    """Whether one second alone decides."""
    turning = [second.index for second in explanation.seconds if second.without is not explanation.opinion.rhythm]
    if not turning:
        return f"Leaving out any one of the {len(explanation.seconds)} seconds keeps the most likely class."
    return f"Leaving out one second alone changes the most likely class: {spans(turning, clock)}."


def _faulty(explanation: Explanation, clock: Clock) -> str:
    faults = [
        f"{(flag.name or '').lower().replace('_', ' ')} at {spans(seconds, clock)}"
        for flag, seconds in explanation.faults
    ]
    return f"Signal faults: {'; '.join(faults)}." if faults else ""


def _doublings(octaves_1024: int) -> str:
    tenths = (abs(octaves_1024) * 10 + OCTAVE // 2) // OCTAVE
    return f"{'-' if octaves_1024 < 0 and tenths else ''}{tenths // 10}.{tenths % 10}"


def _percent(permille: int) -> str:
    return f"{permille // 10}.{permille % 10} %"
