"""A whole recording in one call, by the same path as a live stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from einthoven.analysis import Runner
from einthoven.clock import SystemClock
from einthoven.events import Event, StoreFailed, WindowAnalyzed
from einthoven.heart_summary import HeartSummary, summarize_heart
from einthoven.models import Model
from einthoven.ports import Clock, Source, Store
from einthoven.results import WindowResult
from einthoven.risk import RiskAssessment
from einthoven.session import Session
from einthoven.signal_monitor import SignalTally
from einthoven.signals import SignalAnalysis


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording's analysis.

    Attributes:
        results: One a window, in order.
        assessment: What they add up to.
        sampling_rate_hz: Samples a second, exact.
        signal: Beats, and the quality of each second.
    """

    results: tuple[WindowResult, ...]
    assessment: RiskAssessment
    sampling_rate_hz: Fraction
    signal: SignalAnalysis

    @property
    def heart(self) -> HeartSummary:
        """Heart rate, its variability, and how much of the signal is usable."""
        return summarize_heart(self.signal, self.sampling_rate_hz)


def analyze(
    model: Model,
    store: Store,
    source: Source,
    *,
    started_at_ms: int | None = None,
    clock: Clock | None = None,
    runner: Runner | None = None,
) -> Recording:
    """Analyse a whole source by the same path as a live stream, and keep it in the store.

    The source is read to its end before the first window is kept: one that breaks off leaves nothing behind.

    Args:
        model: A verified model.
        store: Where results and signal are kept.
        source: Where samples come from.
        started_at_ms: UTC of the first sample where the source does not know it; if not given, the recording is taken
            to have ended now, so that nothing is dated in the future.
        clock: Tells now; the system's, if not given.
        runner: Runs the model; LiteRT, if not given.

    Raises:
        InputError: The source can't be read.
        StoreError: The store can't keep the results.
    """
    chunks = list(source.chunks())
    rate = source.sampling_rate_hz
    begun = source.started_at_ms if source.started_at_ms is not None else started_at_ms
    if begun is None:
        begun = (clock or SystemClock()).now_ms() - int(sum(map(len, chunks)) * 1000 / rate)
    session = Session.open(model, store, sampling_rate_hz=rate, started_at_ms=begun, runner=runner)
    results: list[WindowResult] = []
    tally = SignalTally(rate)
    with session:
        for chunk in chunks:
            events = session.push(chunk)
            results += _verdicts(events)
            tally.take(events)
        events = session.close()
        results += _verdicts(events)
        tally.take(events)
    return Recording(tuple(results), session.assessment, rate, tally.signal)


def _verdicts(events: Sequence[Event]) -> list[WindowResult]:
    """The verdicts among the events.

    Raises:
        StoreError: A window could not be stored; a file, unlike a heart, can be analysed again later.
    """
    for event in events:
        if isinstance(event, StoreFailed):
            raise event.error
    return [event.result for event in events if isinstance(event, WindowAnalyzed)]
