"""Einthoven: single-lead ECG in; a calibrated, explained and signed risk out, on the device.

The public face of the SDK is what this module exports; everything else may change between minor versions::

    from einthoven import FileKeyProvider, Session, SqlCipherStore, load_model

    store = SqlCipherStore.open("ecg.db", FileKeyProvider("ecg.key", create=True))
    with store, Session.open(load_model(), store, sampling_rate_hz=300) as session:
        for event in session.push(samples_uv):
            ...

Names are imported when they are first asked for, so that an app that never syncs never pays for HTTP.

It is not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from einthoven.annotating import annotate
    from einthoven.clock import FixedClock, SystemClock
    from einthoven.enrolling import enroll
    from einthoven.errors import EinthovenError
    from einthoven.events import (
        BeatDetected,
        ClockJumped,
        EpisodeEnded,
        EpisodeFound,
        Event,
        GapFound,
        LateDropped,
        LineEnded,
        OverlapDropped,
        PacketRefused,
        PacketsDropped,
        QualityChanged,
        RateEstimated,
        RiskChanged,
        SecondAnalyzed,
        SecondAssessed,
        SensorChanged,
        SensorState,
        StampIgnored,
        StoreFailed,
        WindowAnalyzed,
    )
    from einthoven.explanation import explain_window
    from einthoven.explanation_parts import Explanation
    from einthoven.following import follow
    from einthoven.heart_rate_variability import HeartRateVariability, HrvRefusal, heart_rate_variability
    from einthoven.heart_summary import HeartSummary, summarize_heart
    from einthoven.key_provider_file import FileKeyProvider
    from einthoven.keys import StaticKeyProvider
    from einthoven.model_signature import TrustedKey
    from einthoven.models import Model, load_model
    from einthoven.ports import LiveSource, Packet, Stamped
    from einthoven.recordings import Recording, analyze
    from einthoven.replaying import Replay, ReplayOutcome, replay, replay_all
    from einthoven.results import BeatClass, InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
    from einthoven.risk import Evidence, RiskAssessment, RiskTally, assess
    from einthoven.risk_beats import RiskBeat
    from einthoven.risk_evidence import EvidenceStrip, Unjudged
    from einthoven.risk_periods import Periods
    from einthoven.rr_artefacts import IntervalClass
    from einthoven.rr_intervals import RRSeries, corrected, rr_series
    from einthoven.session import Session
    from einthoven.signal_monitor import SignalTally
    from einthoven.signals import SignalAnalysis, analyze_signal
    from einthoven.source_polar import PolarSource
    from einthoven.source_replay import Faults, ReplaySource
    from einthoven.source_simulated import SimulatedSource
    from einthoven.sources import open_source
    from einthoven.store_sqlcipher import SqlCipherStore
    from einthoven.syncing import SyncReport, sync
    from einthoven_protocol.messages import AnnotationRow, ResultId

_EXPORTS: Final = {
    "einthoven.annotating": ("annotate",),
    "einthoven.clock": ("FixedClock", "SystemClock"),
    "einthoven.enrolling": ("enroll",),
    "einthoven.errors": ("EinthovenError",),
    "einthoven.events": (
        "BeatDetected",
        "ClockJumped",
        "EpisodeEnded",
        "EpisodeFound",
        "Event",
        "GapFound",
        "LateDropped",
        "LineEnded",
        "OverlapDropped",
        "PacketRefused",
        "PacketsDropped",
        "QualityChanged",
        "RateEstimated",
        "RiskChanged",
        "SecondAnalyzed",
        "SecondAssessed",
        "SensorChanged",
        "SensorState",
        "StampIgnored",
        "StoreFailed",
        "WindowAnalyzed",
    ),
    "einthoven.explanation": ("explain_window",),
    "einthoven.explanation_parts": ("Explanation",),
    "einthoven.following": ("follow",),
    "einthoven.heart_rate_variability": ("HeartRateVariability", "HrvRefusal", "heart_rate_variability"),
    "einthoven.heart_summary": ("HeartSummary", "summarize_heart"),
    "einthoven.key_provider_file": ("FileKeyProvider",),
    "einthoven.keys": ("StaticKeyProvider",),
    "einthoven.model_signature": ("TrustedKey",),
    "einthoven.models": ("Model", "load_model"),
    "einthoven.ports": ("LiveSource", "Packet", "Stamped"),
    "einthoven.recordings": ("Recording", "analyze"),
    "einthoven.replaying": ("Replay", "ReplayOutcome", "replay", "replay_all"),
    "einthoven.results": ("BeatClass", "InconclusiveReason", "Quality", "Rhythm", "RiskTier", "WindowResult"),
    "einthoven.risk": ("Evidence", "RiskAssessment", "RiskTally", "assess"),
    "einthoven.risk_beats": ("RiskBeat",),
    "einthoven.risk_evidence": ("EvidenceStrip", "Unjudged"),
    "einthoven.risk_periods": ("Periods",),
    "einthoven.rr_artefacts": ("IntervalClass",),
    "einthoven.rr_intervals": ("RRSeries", "corrected", "rr_series"),
    "einthoven.session": ("Session",),
    "einthoven.signal_monitor": ("SignalTally",),
    "einthoven.signals": ("SignalAnalysis", "analyze_signal"),
    "einthoven.source_polar": ("PolarSource",),
    "einthoven.source_replay": ("Faults", "ReplaySource"),
    "einthoven.source_simulated": ("SimulatedSource",),
    "einthoven.sources": ("open_source",),
    "einthoven.store_sqlcipher": ("SqlCipherStore",),
    "einthoven.syncing": ("SyncReport", "sync"),
    "einthoven_protocol.messages": ("AnnotationRow", "ResultId"),
}
_MODULE_OF: Final = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import an exported name on first use (PEP 562)."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "AnnotationRow",
    "BeatClass",
    "BeatDetected",
    "ClockJumped",
    "EinthovenError",
    "EpisodeEnded",
    "EpisodeFound",
    "Event",
    "Evidence",
    "EvidenceStrip",
    "Explanation",
    "Faults",
    "FileKeyProvider",
    "FixedClock",
    "GapFound",
    "HeartRateVariability",
    "HeartSummary",
    "HrvRefusal",
    "InconclusiveReason",
    "IntervalClass",
    "LateDropped",
    "LineEnded",
    "LiveSource",
    "Model",
    "OverlapDropped",
    "Packet",
    "PacketRefused",
    "PacketsDropped",
    "Periods",
    "PolarSource",
    "Quality",
    "QualityChanged",
    "RRSeries",
    "RateEstimated",
    "Recording",
    "Replay",
    "ReplayOutcome",
    "ReplaySource",
    "ResultId",
    "Rhythm",
    "RiskAssessment",
    "RiskBeat",
    "RiskChanged",
    "RiskTally",
    "RiskTier",
    "SecondAnalyzed",
    "SecondAssessed",
    "SensorChanged",
    "SensorState",
    "Session",
    "SignalAnalysis",
    "SignalTally",
    "SimulatedSource",
    "SqlCipherStore",
    "StampIgnored",
    "Stamped",
    "StaticKeyProvider",
    "StoreFailed",
    "SyncReport",
    "SystemClock",
    "TrustedKey",
    "Unjudged",
    "WindowAnalyzed",
    "WindowResult",
    "analyze",
    "analyze_signal",
    "annotate",
    "assess",
    "corrected",
    "enroll",
    "explain_window",
    "follow",
    "heart_rate_variability",
    "load_model",
    "open_source",
    "replay",
    "replay_all",
    "rr_series",
    "summarize_heart",
    "sync",
]
