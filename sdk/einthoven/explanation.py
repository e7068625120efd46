"""Why a window got its verdict: which seconds, which beats, which measures drove it. Integers. Pure.

A second is left out (occlusion; Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53): its logits out of the pool,
its beats and every interval that touches it out of the rhythm, and the verdict is asked again. How much less clearly it
speaks for its class is what the second was worth. Measures are put, group by group, at what is usual among the training
windows (a permutation importance for one window; Breiman 2001, doi:10.1023/A:1010933404324).

It deliberately says what moved this verdict, never what causes a disease or what will happen. The network remembers
some 16 s, so what it heard in a second is not of that second alone; seconds left out one by one do not add up
to the whole.

Invariants:
    1. A function of (model, front end, samples, rate) alone, integers throughout: as replayable as the verdict.
    2. The verdict that is explained is the one that ``analysis`` gives, inconclusive ones too.
    3. At most a third of a window's seconds are said to have driven it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import Observed, Runner, WindowAnalyzer, decide, judge_views, view_of
from einthoven.beat_detector import TICKS_HZ
from einthoven.explanation_beats import BEATS_MAX, find_beats
from einthoven.explanation_margins import log_odds, margin
from einthoven.explanation_measures import COLUMNS, MEASURES, Group
from einthoven.explanation_parts import BeatMark, Contribution, Explanation, Rhythmicity, Second
from einthoven.model_manifest import CLASSES, Model
from einthoven.results import InconclusiveReason, Quality, Rhythm
from einthoven.verdict import Logits, Opinion
from einthoven.window_beats import WindowBeats
from einthoven.window_features import Integers, window_features

__all__ = [
    "BEATS_MAX",
    "BeatMark",
    "Contribution",
    "Explanation",
    "Rhythmicity",
    "Second",
    "explain",
    "explain_window",
]

DRIVING_PERMILLE: Final = 667
"""Share of all falls that the driving seconds hold together: two thirds of what single seconds explain."""
DRIVING_PART: Final = 3
"""At most one in so many seconds is called driving; where that is not enough, the window as a whole drove it."""
MEASURES_MAX: Final = 5
"""Single measures that are named."""
_SAMPLES_A_SECOND: Final = 128


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of every variant of a window: how clearly does it still speak for this class?"""

    about: Rhythm
    against_all: bool

    def of(self, opinion: Opinion) -> int:
        ask = log_odds if self.against_all else margin
        return ask(opinion.logits, self.about)


def explain_window(
    model: Model, runner: Runner, samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction
) -> Explanation:
    """Recompute a window from its samples and explain its verdict.

    Args:
        model: A verified model.
        runner: Runs it.
        samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received; one window, such as a stored segment.
        sampling_rate_hz: Samples a second, exact.

    Raises:
        SamplingRateError: A rate outside 100-1000 Hz.
        ModelError: The native kernel refused.
    """
    analyzer = WindowAnalyzer(model, runner, sampling_rate_hz)
    analyzer.push(samples_uv)
    return explain(model, analyzer.observe())


def explain(model: Model, observed: Observed) -> Explanation:
    """Explain the verdict on one window.

    Args:
        model: The model that observed it.
        observed: What ``WindowAnalyzer.observe`` gave.
    """
    analysis = decide(model, [observed])
    opinion = judge_views(model, [observed.view])
    af_open = analysis.reason is InconclusiveReason.LOW_CONFIDENCE
    question = _Question(Rhythm.AF if af_open else opinion.rhythm, against_all=af_open)
    features = window_features(observed.view)
    seconds = _seconds(model, observed, opinion, question)
    driving, driving_permille = _driving([second.fall for second in seconds])
    groups, measures = _contributions(model, observed, features, opinion, question)
    beats, rhythmicity = find_beats(observed.view, features, opinion.rhythm, observed.beats.flags)
    strongest = sorted(measures, key=lambda one: -abs(one.fall))
    unusual = sorted((one for one in measures if one.unusual > 0), key=lambda one: -one.unusual)
    return Explanation(
        analysis=analysis,
        opinion=opinion,
        about=question.about,
        strength=question.of(opinion),
        af_log_odds=log_odds(opinion.logits, Rhythm.AF),
        seconds=seconds,
        driving=driving,
        driving_permille=driving_permille,
        beats=beats,
        rhythmicity=rhythmicity,
        groups=tuple(sorted(groups, key=lambda one: -abs(one.fall))),
        measures=tuple(one for one in strongest[:MEASURES_MAX] if one.fall),
        unusual=tuple(unusual[:MEASURES_MAX]),
        faults=_faults(observed.beats.flags),
    )


def _seconds(model: Model, observed: Observed, opinion: Opinion, question: _Question) -> tuple[Second, ...]:
    """Each second, and what is left of the verdict without it."""
    steps = {step.index: step for step in observed.steps}
    flags = observed.beats.flags
    whole, whole_af = question.of(opinion), log_odds(opinion.logits, Rhythm.AF)
    seconds = []
    for index in range(-(-len(observed.beats.resampled) // _SAMPLES_A_SECOND)):
        step = steps.get(index)
        kept = [other for other in observed.steps if other.index != index]
        view = view_of(model, kept, _without(observed.beats, index))
        left = judge_views(model, [view])
        heard = None if step is None else view_of(model, [replace(step, quality=Quality.USABLE)], observed.beats).logits
        seconds.append(
            Second(
                index=index,
                logits=None if heard is None else _four(heard[0]),
                heard=None if step is None else step.rhythm,
                counted=len(view.logits) < len(observed.view.logits),
                quality=Quality(int(flags[index])) if index < len(flags) else Quality.USABLE,
                beats=int(np.count_nonzero(observed.beats.at_ticks // TICKS_HZ == index)),
                fall=whole - question.of(left),
                af_fall=whole_af - log_odds(left.logits, Rhythm.AF),
                without=left.rhythm,
            )
        )
    return tuple(seconds)


def _without(beats: WindowBeats, index: int) -> WindowBeats:
    """A window's beats without those of a second, and without the intervals that touch it."""
    second = beats.at_ticks // TICKS_HZ
    after_gap = beats.after_gap.copy()
    following = int(np.searchsorted(second, index, side="right"))
    after_gap[following : following + 1] = True
    keep = second != index
    return replace(
        beats,
        at_ticks=beats.at_ticks[keep],
        after_gap=after_gap[keep],
        amplitudes_uv=beats.amplitudes_uv[keep],
        scores=beats.scores[keep],
        classes=beats.classes[keep],
    )


def _driving(falls: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The fewest seconds that hold ``DRIVING_PERMILLE`` of all falls, and the share that they hold."""
    total = sum(fall for fall in falls if fall > 0)
    ranked = sorted((index for index, fall in enumerate(falls) if fall > 0), key=lambda index: -falls[index])
    chosen: list[int] = []
    held = 0
    for index in ranked[: -(-len(falls) // DRIVING_PART)]:
        chosen.append(index)
        held += falls[index]
        if held * 1000 >= total * DRIVING_PERMILLE:
            break
    return tuple(sorted(chosen)), held * 1000 // max(total, 1)


def _contributions(
    model: Model, observed: Observed, features: Integers, opinion: Opinion, question: _Question
) -> tuple[list[Contribution], list[Contribution]]:
    """What each group, and each measure, is worth."""
    center = np.array(model.verdict.tables.outlyingness.center, np.int64)
    means = observed.view.logits.sum(axis=0) // max(len(observed.view.logits), 1)
    whole = question.of(opinion)

    def worth(group: Group, columns: Sequence[int]) -> tuple[int, int]:
        changed = features.copy()
        changed[list(columns)] = center[list(columns)]
        # The first columns are the mean logits, which also enter the verdict by themselves.
        pooled = center[:CLASSES] if group is Group.SECONDS else means
        left = model.verdict.opinion(changed, pooled.tolist())
        return whole - question.of(left), opinion.outlyingness - left.outlyingness

    groups = [(group.value, *worth(group, columns)) for group, columns in COLUMNS.items()]
    measures = [(one.name, *worth(one.group, one.columns)) for one in MEASURES]
    return _shares(groups), _shares(measures)


def _shares(worths: Sequence[tuple[str, int, int]]) -> list[Contribution]:
    total = max(sum(abs(fall) for _, fall, _ in worths), 1)
    return [Contribution(name, fall, abs(fall) * 1000 // total, unusual) for name, fall, unusual in worths]


def _faults(flags: NDArray[np.uint16]) -> tuple[tuple[Quality, tuple[int, ...]], ...]:
    """Each quality flag that was raised, with its seconds."""
    found = [(flag, np.flatnonzero(flags & flag.value).tolist()) for flag in Quality if flag]
    return tuple((flag, tuple(seconds)) for flag, seconds in found if seconds)


def _four(values: Integers) -> Logits:
    first, second, third, fourth = values.tolist()
    return first, second, third, fourth
