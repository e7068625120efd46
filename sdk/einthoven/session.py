"""A session: samples in, typed events out, everything kept in the encrypted store as it goes.

It deliberately does no signal processing (``analysis``), no risk rules (``risk``), no storage (``Store``) and no
networking (``syncing``): it puts them in order.

Invariants:
    1. A window's verdict and its signal are durable before its ``WindowAnalyzed`` event is returned. What the store
       can't take is kept (``MAX_UNSAVED_WINDOWS`` at most), said in a ``StoreFailed`` event, and tried again. Beats are
       stored with the window that ends after them, in the same transaction.
    2. The events and results of a recording do not depend on how its samples were chunked, but for the order of events
       of different kinds.
    3. Beats and signal quality are found over the whole time line, not window by window.
    4. Each window starts from a fresh front end and model state, so its segment alone replays its result.
    5. What happened to the store (``Store.take_events``) is passed on with the next window's events.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from einthoven.analysis import Runner, StepOutput, WindowAnalyzer, window_stop
from einthoven.beat_collecting import collected
from einthoven.clock import SystemClock
from einthoven.errors import InputError, StoreError
from einthoven.events import (
    BeatDetected,
    Event,
    LineEnded,
    SecondAnalyzed,
    StoreFailed,
    WindowAnalyzed,
)
from einthoven.models import Model
from einthoven.off_the_loop import in_thread
from einthoven.ports import Clock, Packet, Segment, Store
from einthoven.resampling import ResamplerTable
from einthoven.results import WindowResult
from einthoven.risk import RiskAssessment
from einthoven.risk_monitor import RiskMonitor
from einthoven.runner_litert import LiteRtRunner
from einthoven.samples import as_microvolts
from einthoven.signal_monitor import SignalMonitor
from einthoven.signal_path import BLOCK_MS
from einthoven.store_values import BeatRun
from einthoven.timeline import NewLine, Placed, Run, Timeline
from einthoven.verdicts import window_result

MAX_PUSH_SAMPLES = 50_000_000
"""Samples that one push may hold: 13 hours at 1000 Hz."""
MAX_UNSAVED_WINDOWS = 120
"""Windows kept in memory while the store refuses them: an hour; the oldest go first."""


class Session:
    """Analyses one stream of ECG; a context manager, sync and async.

    Safe to use from several threads; calls are served one at a time. Use :meth:`open`.
    """

    def __init__(
        self, model: Model, store: Store, runner: Runner, rate: Fraction, started_at_ms: int, block_ms: int = BLOCK_MS
    ) -> None:
        self._model = model
        self._store = store
        self._runner = runner
        self._rate = rate
        self._window_start = 0
        self._windows = 0
        self._window_stop = window_stop(1, rate)
        self._collected: list[NDArray[np.int32]] = []
        self._collected_samples = 0
        self._analyzer = self._fresh_analyzer()  # refuses a rate out of range
        self._timeline = Timeline(rate, started_at_ms)
        self._risk = RiskMonitor(rate)
        self._table = ResamplerTable(model.coefficients, rate)
        self._block_ms = block_ms
        self._monitor = SignalMonitor(model.coefficients, rate, self._table, block_ms)
        self._placed = 0
        self._beats: list[BeatDetected] = []
        self._unsaved: list[tuple[WindowResult, Segment, BeatRun | None]] = []
        self._ended = self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        model: Model,
        store: Store,
        *,
        sampling_rate_hz: Fraction | int,
        started_at_ms: int | None = None,
        clock: Clock | None = None,
        runner: Runner | None = None,
        block_ms: int = BLOCK_MS,
    ) -> Self:
        """Begin a recording.

        Args:
            model: A verified model (``einthoven.load_model()``).
            store: Where results and signal are kept.
            sampling_rate_hz: Samples a second, exact, 100-1000.
            started_at_ms: UTC of the first sample, ms since 1970; now, if not given.
            clock: Tells now; the system's, if not given.
            runner: Runs the model; LiteRT, if not given.
            block_ms: Look for beats in so much signal at a time, 50-60,000 ms. A short block says each beat within
                2.3 s, a long one saves the battery; what is found is the same.

        Raises:
            InputError: ``block_ms`` is out of range.
            SamplingRateError: The rate is outside the supported range.
            ModelError: The model can't be run.
        """
        if started_at_ms is None:
            started_at_ms = (clock or SystemClock()).now_ms()
        rate = Fraction(sampling_rate_hz)
        return cls(model, store, runner or LiteRtRunner(model), rate, started_at_ms, block_ms)

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Samples a second by the sensor's stamps; the nominal rate while there are none, or span too little.

        Windows, and so all results, are cut at the nominal rate; times, intervals and heart rates follow this one.
        """
        return self._timeline.rate_hz

    @property
    def assessment(self) -> RiskAssessment:
        """What beats and windows so far add up to; after ``close``, all of them."""
        return self._risk.assessment

    def push(self, samples: ArrayLike, at: int | None = None) -> list[Event]:
        """Take the next samples.

        Args:
            samples: [n] microvolts, integers or floats; NaN or ``MISSING_UV`` where none was received.
            at: UTC of the first sample, ms since 1970; directly after what came before, if not given.

        Returns:
            What happened, in order.

        Raises:
            InputError: Not a flat sequence of numbers, too long, or the session is closed.
        """
        packet = as_microvolts(samples, max_samples=MAX_PUSH_SAMPLES)
        with self._lock:
            self._require_open()
            return self._follow_timeline(self._timeline.push(Packet(packet, None if at is None else at * 1_000_000)))

    async def push_async(self, samples: ArrayLike, at: int | None = None) -> list[Event]:
        """As :meth:`push`, without blocking the event loop."""
        return await in_thread(self.push, samples, at)

    def push_packet(self, packet: Packet) -> list[Event]:
        """Take a live sensor's packet, whatever its clock; :func:`einthoven.follow` does so off the event loop.

        Returns:
            What happened, in order. A packet that does not fit may wait (``timeline.REORDER_S``) for one that is late.

        Raises:
            InputError: As :meth:`push`.
        """
        samples_uv = as_microvolts(packet.samples_uv, max_samples=MAX_PUSH_SAMPLES)
        with self._lock:
            self._require_open()
            return self._follow_timeline(self._timeline.push(replace(packet, samples_uv=samples_uv)))

    def close(self) -> list[Event]:
        """End the recording: the last, shorter window gets its verdict. Closing twice is allowed.

        Raises:
            StoreError: Something could not be stored; it is kept, and ``close`` can be tried again.
        """
        with self._lock:
            if self._closed:
                return []
            events = self._follow_timeline(self._timeline.flush())
            if not self._ended:
                self._ended = True
                events += self._judged(self._monitor.finish(self._timeline.at_ms, self._timeline.rate_hz))
            events += self._finish_window() if self._collected_samples else self._save()
            events += self._save_late_beats()
            events += self._risk.finish(self._timeline.at_ms(self._placed))
            failed = next((event for event in events if isinstance(event, StoreFailed)), None)
            if failed is not None:
                raise failed.error
            self._closed = True
            return events

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await in_thread(self.close)

    def _require_open(self) -> None:
        if self._closed:
            raise InputError("the session is closed", "open a new one to go on recording")

    def _fresh_analyzer(self) -> WindowAnalyzer:
        return WindowAnalyzer(self._model, self._runner, self._rate)

    def _follow_timeline(self, placed: Iterable[Placed]) -> list[Event]:
        events: list[Event] = []
        for item in placed:
            match item:
                case Run(samples):
                    events += self._take(samples)
                case NewLine():
                    events += self._restart()
                case _:
                    events.append(item)
        return events

    def _restart(self) -> list[Event]:
        """Finish what the old time line began; samples count from 0 again."""
        events = self._judged(self._monitor.finish(self._timeline.at_ms, self._timeline.rate_hz))
        events += self._finish_window() if self._collected_samples else []
        events += self._judged([LineEnded(self._timeline.at_ms(self._placed))])
        self._monitor = SignalMonitor(
            self._model.coefficients, self._rate, self._table, self._block_ms, self._monitor.quality
        )
        self._placed = self._window_start = self._windows = 0
        self._window_stop = window_stop(1, self._rate)
        return events

    def _take(self, samples: NDArray[np.int32]) -> list[Event]:
        """Cut samples into windows; a chunk may end anywhere in one, or span many."""
        events: list[Event] = []
        while len(samples):
            head = samples[: self._window_stop - self._placed]
            samples = samples[len(head) :]
            # Window by window, so that a verdict is there before any later beat is: the risk takes them in order.
            events += self._judged(self._monitor.push(head, self._timeline.at_ms, self._timeline.rate_hz))
            if self._collected_samples == 0:
                self._window_start = self._placed
            events += [self._second(step) for step in self._analyzer.push(head)]
            self._collected.append(head)
            self._collected_samples += len(head)
            self._placed += len(head)
            if self._placed == self._window_stop:
                self._windows += 1
                self._window_stop = window_stop(self._windows + 1, self._rate)
                events += self._finish_window()
        return events

    def _second(self, step: StepOutput) -> Event:
        at_ms = self._timeline.at_ms(self._window_start) + step.index * 1000
        return SecondAnalyzed(at_ms, step.rhythm, step.quality)

    def _finish_window(self) -> list[Event]:
        analysis = self._analyzer.finish()
        samples = np.concatenate(self._collected)
        samples.flags.writeable = False
        segment = Segment(self._rate, samples)
        started_at_ms = self._timeline.at_ms(self._window_start)
        self._collected = []
        self._collected_samples = 0
        self._analyzer = self._fresh_analyzer()
        result = window_result(self._model, analysis, segment, started_at_ms)
        self._unsaved.append((result, segment, collected(self._beats)))
        self._beats = []
        return self._save()

    def _save_late_beats(self) -> list[Event]:
        """Store beats that no window comes after; while windows wait, they wait as well."""
        late = collected(self._beats)
        if late is None or self._unsaved:
            return []
        try:
            self._store.append_beats(late)
        except StoreError as problem:
            return [StoreFailed(int(late.at_ms[0]), problem, 0, 0)]
        self._beats = []
        return list(self._store.take_events())

    def _save(self) -> list[Event]:
        """Store what waits, oldest first; what the store refuses waits on, in bounded memory."""
        events: list[Event] = []
        while self._unsaved:
            verdict, segment, beats = self._unsaved[0]
            try:
                result = self._store.append_window(verdict, segment, beats)
            except StoreError as problem:
                dropped = len(self._unsaved) - MAX_UNSAVED_WINDOWS
                del self._unsaved[: max(0, dropped)]
                failed = StoreFailed(verdict.started_at_ms, problem, len(self._unsaved), max(0, dropped))
                return [*events, *self._store.take_events(), failed]
            del self._unsaved[0]
            events += [WindowAnalyzed(result), *self._risk.add(result)]
        return [*events, *self._store.take_events()]

    def _judged(self, events: list[Event]) -> list[Event]:
        """Events of the signal, and what they change of the risk."""
        self._beats += [event for event in events if isinstance(event, BeatDetected)]
        return [*events, *self._risk.take(events)]
