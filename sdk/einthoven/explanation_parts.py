"""What an explanation of a window's verdict holds. Values only (``explanation`` makes them).

It deliberately holds no samples, and makes no claim of outcome: it says what moved a verdict, not what will happen.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.analysis import WindowAnalysis
from einthoven.results import BeatClass, Quality, Rhythm
from einthoven.verdict import Logits, Opinion


@dataclass(frozen=True, slots=True)
class Second:
    """What one second of a window did.

    Attributes:
        index: Second within the window, from 0: it lasts from ``index`` to ``index + 1`` s.
        logits: What the network heard up to here, for N, A, O, ~ in 1/1024 octave; ``None`` where it lacked look-ahead
            at the window's end. The network remembers some 16 s, so this is not of the second alone.
        heard: The class with the highest of them.
        counted: Whether they enter the verdict.
        quality: What is wrong with its signal.
        beats: Beats in it.
        fall: By how much what is asked (``Explanation.strength``) falls when the second is left out, 1/1024 octave;
            negative where it speaks against.
        af_fall: The same for AF against all else.
        without: The most likely class when it is left out.
    """

    index: int
    logits: Logits | None
    heard: Rhythm | None
    counted: bool
    quality: Quality
    beats: int
    fall: int
    af_fall: int
    without: Rhythm


@dataclass(frozen=True, slots=True)
class BeatMark:
    """A beat that stands out.

    Attributes:
        at_ms: Of its R peak, milliseconds since the window's first sample, rounded down.
        beat_class: Its class.
        early: Whether it came early.
        pause: Whether a pause is before it.
        rr_ms: The interval before it, milliseconds rounded down; ``None`` where it is not known.
    """

    at_ms: int
    beat_class: BeatClass
    early: bool
    pause: bool
    rr_ms: int | None


@dataclass(frozen=True, slots=True)
class Rhythmicity:
    """The window's beats in numbers; every share has its n beside it.

    Attributes:
        beats: Beats found.
        ventricular: Of them, of class V.
        supraventricular: Of them, of class S.
        unknown: Of them, not judged.
        intervals: Intervals with no gap in them.
        early: Of them, under 0.85 of the median one.
        pauses: Of them, over 2 s.
        rate_bpm: Beats a minute of the median interval; 0 with too few of them.
        variation_permille: Standard deviation of the intervals in 1/1000 of the median one.
        p_height_permille: P wave of the median beat in 1/1000 of its R wave.
        p_likeness_permille: Median likeness of each beat's P wave with the median beat's: a correlation.
        laid_over: Beats that the median beat is taken of; 0 where there are too few, and then nothing is said of P.
    """

    beats: int
    ventricular: int
    supraventricular: int
    unknown: int
    intervals: int
    early: int
    pauses: int
    rate_bpm: int
    variation_permille: int
    p_height_permille: int
    p_likeness_permille: int
    laid_over: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a measure, or a group of them, is worth in this window.

    Attributes:
        name: Of the measure or group.
        fall: By how much what is asked falls when it is put at what is usual in training, 1/1024 octave; negative where
            it speaks against.
        permille: Share of all falls and rises of its kind, 1/1000.
        unusual: By how much the window's outlyingness falls with it.
    """

    name: str
    fall: int
    permille: int
    unusual: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a window got its verdict, or none.

    Attributes:
        analysis: The verdict.
        opinion: What the tables said.
        about: The class that is asked about: the most likely one; AF where it is open whether there is any.
        strength: How clearly the verdict speaks for it, 1/1024 octave: its margin to the best other class; where AF is
            open, its odds against all else.
        af_log_odds: AF against all else, 1/1024 octave.
        seconds: Every second, in order.
        driving: Those that drove it, in order: the fewest that hold ``explanation.DRIVING_PERMILLE`` of all falls.
        driving_permille: Share of all falls that these hold; less than that where the limit of their number ends it.
        beats: Beats that stand out, in order; ``explanation.BEATS_MAX`` at most.
        rhythmicity: All of them in numbers.
        groups: What the four kinds of evidence are worth, the strongest first.
        measures: The strongest single measures, ``explanation.MEASURES_MAX`` at most.
        unusual: The measures that make the window most unlike the training windows.
        faults: Each quality flag with the seconds that have it.
    """

    analysis: WindowAnalysis
    opinion: Opinion
    about: Rhythm
    strength: int
    af_log_odds: int
    seconds: tuple[Second, ...]
    driving: tuple[int, ...]
    driving_permille: int
    beats: tuple[BeatMark, ...]
    rhythmicity: Rhythmicity
    groups: tuple[Contribution, ...]
    measures: tuple[Contribution, ...]
    unusual: tuple[Contribution, ...]
    faults: tuple[tuple[Quality, tuple[int, ...]], ...]
