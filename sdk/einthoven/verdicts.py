"""From an analysis to the verdict that is kept: one function, the same for a live window and for its replay. Pure."""

from __future__ import annotations

from einthoven.analysis import WindowAnalysis
from einthoven.models import Model
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Rhythm, WindowResult
from einthoven.risk import window_tier
from einthoven.segments import segment_digest


def window_result(model: Model, analysis: WindowAnalysis, segment: Segment, started_at_ms: int) -> WindowResult:
    """Turn an analysis into the verdict that is stored; the same for a live window and for its replay."""
    return WindowResult(
        counter=0,
        started_at_ms=started_at_ms,
        duration_ms=int(len(segment.samples_uv) * 1000 / segment.sampling_rate_hz),
        n_steps=analysis.n_steps,
        usable_s=analysis.usable_s,
        quality=analysis.quality,
        rhythm=analysis.rhythm,
        confidence_permille=analysis.confidence_permille,
        logits=analysis.logits,
        tier=window_tier(analysis.rhythm, analysis.reason),
        reason=_reason(analysis),
        model_digest=model.digest,
        front_end_version=model.front_end_version,
        segment_digest=segment_digest(segment),
    )


def _reason(analysis: WindowAnalysis) -> InconclusiveReason:
    if analysis.reason is InconclusiveReason.NONE and analysis.rhythm is Rhythm.NOISE:
        return InconclusiveReason.POOR_SIGNAL
    return analysis.reason
