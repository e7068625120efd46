"""What a report shows. Values only; ``report.render_report`` turns them into a page.

It deliberately holds no patient's name and asks for none. Texts may come from anywhere: the page escapes them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.explanation_events import ExplainedWindow
from einthoven.model_manifest import Model
from einthoven.results import InconclusiveReason, Rhythm, RiskTier, WindowResult
from einthoven.risk import RiskAssessment
from einthoven.verdict import Opinion

RHYTHM_WORDS: Final = {
    Rhythm.NORMAL: "Normal sinus rhythm",
    Rhythm.AF: "Atrial fibrillation",
    Rhythm.OTHER: "Other rhythm",
    Rhythm.NOISE: "Too noisy",
}
RHYTHM_CODES: Final = {Rhythm.NORMAL: "N", Rhythm.AF: "AF", Rhythm.OTHER: "O", Rhythm.NOISE: "~"}
TIER_WORDS: Final = {
    RiskTier.INCONCLUSIVE: "Inconclusive",
    RiskTier.ROUTINE: "Routine",
    RiskTier.ELEVATED: "Elevated",
    RiskTier.URGENT: "Urgent",
}
REASON_WORDS: Final = {
    InconclusiveReason.NONE: "",
    InconclusiveReason.POOR_SIGNAL: "poor signal",
    InconclusiveReason.TOO_SHORT: "too short",
    InconclusiveReason.LOW_CONFIDENCE: "low confidence",
    InconclusiveReason.OUT_OF_DISTRIBUTION: "unlike anything the model was trained on",
    InconclusiveReason.RATE_OUT_OF_RANGE: "heart rate out of range",
}


def _no_indices() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A stretch of ECG as it was received.

    Attributes:
        started_at_ms: UTC of the first sample, ms since 1970.
        sampling_rate_hz: Samples a second, exact.
        samples_uv: int32 [n] microvolts, ``MISSING_UV`` where none was received.
    """

    started_at_ms: int
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32] = field(repr=False)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.samples_uv.size / self.sampling_rate_hz)

    def cut(self, from_ms: int, duration_ms: int) -> Trace:
        """The part from a UTC instant on, clipped to what there is."""
        first = max(0, round((from_ms - self.started_at_ms) * self.sampling_rate_hz / 1000))
        last = max(first, first + round(duration_ms * self.sampling_rate_hz / 1000))
        at_ms = self.started_at_ms + round(first * 1000 / self.sampling_rate_hz)
        return Trace(at_ms, self.sampling_rate_hz, self.samples_uv[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """One window's ECG, drawn in full on paper.

    Attributes:
        heading: What it is an example of.
        result: The window's verdict.
        trace: Its signal.
        r_peaks: int64 [k], sample indices of the R peaks within the trace.
        poor_s: Seconds of the trace whose signal is not to be trusted.
        event: Whether it shows an event within the window, not the window.
        rule: Name of the risk rule that found the event; empty for a window.
        explained: The windows it lies in, as far as they were explained, in order of time.
    """

    heading: str
    result: WindowResult
    trace: Trace
    r_peaks: NDArray[np.int64] = field(default_factory=_no_indices, repr=False)
    poor_s: tuple[int, ...] = ()
    event: bool = False
    rule: str = ""
    explained: tuple[ExplainedWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the events table.

    Attributes:
        at_ms: UTC, ms since 1970.
        what: What happened, in a few words.
        detail: The rest.
        tier: The tier it led to, if it led to one.
    """

    at_ms: int
    what: str
    detail: str = ""
    tier: RiskTier | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what it means.

    Attributes:
        label: Its name.
        value: The number with its unit.
        basis: What it rests on: the n, the file, the method.
    """

    label: str
    value: str
    basis: str = ""


@dataclass(frozen=True, slots=True)
class AnnotationLine:
    """What a clinician said of a window, as it came back to the device.

    Attributes:
        counter: The window.
        author: Opaque id of the author.
        rhythm: The rhythm they see; may be empty.
        comment: Their words; may be empty.
    """

    counter: int
    author: str
    rhythm: str
    comment: str


@dataclass(frozen=True, slots=True)
class SyncFigures:
    """One exchange with the server.

    Attributes:
        rows: Rows pushed and pulled.
        bytes_up: Bytes of the request's body.
        bytes_down: Bytes of the response's body.
        round_trips: Requests it took.
        device_digest: Digest over all rows on the device, hex.
        server_digest: Digest over the same on the server, hex.
    """

    rows: int
    bytes_up: int
    bytes_down: int
    round_trips: int
    device_digest: str
    server_digest: str


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """Whether stored results come out the same again from their stored segments.

    Attributes:
        replayed: Results replayed.
        identical: How many were the same bit for bit.
        model_digest: SHA-256 of the manifest of the model that was run, hex.
    """

    replayed: int
    identical: int
    model_digest: str


@dataclass(frozen=True, slots=True)
class FhirDocument:
    """A FHIR resource as the server returned it.

    Attributes:
        heading: What it is.
        json_text: Its JSON, indented.
    """

    heading: str
    json_text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportContent:
    """Everything on the page.

    Attributes:
        title: The page's heading.
        source_name: Name of the source.
        simulated: Whether no heart was involved; then it says so in every place that shows a result.
        generated_at_ms: UTC of the report, ms since 1970.
        recording: The whole recording; drawn as an envelope.
        windows: Every window's verdict in order.
        assessment: What they add up to.
        strips: Windows drawn in full (see ``report_strips``).
        events: The events table.
        heart: Figures on heart rate and its variability, each with the n behind it.
        annotations: Clinicians' notes.
        storage: Figures on the encrypted store.
        sync: Figures of the exchange, where there was one.
        replay: The replay's verdict, where there was one.
        model: Figures on the model, each with the n behind it.
        fhir: Resources to show.
        judge: The model that judged; says what probabilities and prediction sets rest on.
    """

    title: str
    source_name: str
    simulated: bool
    generated_at_ms: int
    recording: Trace
    windows: tuple[WindowResult, ...]
    assessment: RiskAssessment
    strips: tuple[Strip, ...] = ()
    events: tuple[EventLine, ...] = ()
    heart: tuple[Figure, ...] = ()
    annotations: tuple[AnnotationLine, ...] = ()
    storage: tuple[Figure, ...] = ()
    sync: SyncFigures | None = None
    replay: ReplayVerdict | None = None
    model: tuple[Figure, ...] = ()
    fhir: tuple[FhirDocument, ...] = ()
    judge: Model | None = None

    def opinion(self, result: WindowResult) -> Opinion | None:
        """Probabilities and prediction set of a verdict; ``None`` where another model judged, or nothing to judge."""
        if self.judge is None or result.model_digest != self.judge.digest or not result.n_steps:
            return None
        return self.judge.verdict.of_logits(result.logits)
