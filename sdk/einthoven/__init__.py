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
    from einthoven.anchor_file import FileAnchor
    from einthoven.anchor_vault import VaultAnchor
    from einthoven.annotating import annotate
    from einthoven.clock import FixedClock, SystemClock
    from einthoven.enrolling import enroll
    from einthoven.errors import EinthovenError, StoreBusy, StoreDamaged
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
    from einthoven.key_provider_android import AndroidKeyProvider
    from einthoven.key_provider_file import FileKeyProvider
    from einthoven.key_provider_passphrase import PassphraseKeyProvider
    from einthoven.key_provider_vault import VaultKeyProvider
    from einthoven.keys import StaticKeyProvider
    from einthoven.model_signature import TrustedKey
    from einthoven.models import Model, load_model
    from einthoven.noting import add_note, delete_note, list_notes
    from einthoven.passphrases import OWASP_MINIMUM, RFC_9106_SECOND
    from einthoven.ports import LiveSource, Packet, Stamped
    from einthoven.process_hardening import protect_process
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
    from einthoven.store_async import AsyncStore
    from einthoven.store_erase import ErasureReport, erase_store
    from einthoven.store_events import (
        AnchorFailed,
        ContentDropped,
        DamageQuarantined,
        ForkReason,
        StoreForked,
        StoreMigrated,
    )
    from einthoven.store_export import ExportReport, export_store
    from einthoven.store_memory import MemoryStore
    from einthoven.store_sqlcipher import SqlCipherStore
    from einthoven.store_values import (
        AuditAction,
        AuditEntry,
        BeatRun,
        CheckReport,
        ContentKind,
        DamageReason,
        DropReason,
        Quarantined,
        RetentionPolicy,
        RetentionReport,
        StoredResult,
        StoreStats,
    )
    from einthoven.sync_policy import Surroundings
    from einthoven.sync_report import SyncProgress, SyncReport
    from einthoven.syncing import sync
    from einthoven.vault_ios import KeychainVault
    from einthoven.vault_keyring import KeyringVault
    from einthoven.vault_memory import MemoryVault
    from einthoven.watch_events import LineLost, LineOpened, SignalsSent, Synced, SyncFailed, WatchEvent, Woken
    from einthoven.watching import watch
    from einthoven_protocol.messages import AnnotationRow, NoteRow, ResultId

_EXPORTS: Final = {
    "einthoven.anchor_file": ("FileAnchor",),
    "einthoven.anchor_vault": ("VaultAnchor",),
    "einthoven.annotating": ("annotate",),
    "einthoven.clock": ("FixedClock", "SystemClock"),
    "einthoven.enrolling": ("enroll",),
    "einthoven.errors": ("EinthovenError", "StoreBusy", "StoreDamaged"),
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
    "einthoven.key_provider_android": ("AndroidKeyProvider",),
    "einthoven.key_provider_file": ("FileKeyProvider",),
    "einthoven.key_provider_passphrase": ("PassphraseKeyProvider",),
    "einthoven.key_provider_vault": ("VaultKeyProvider",),
    "einthoven.keys": ("StaticKeyProvider",),
    "einthoven.model_signature": ("TrustedKey",),
    "einthoven.models": ("Model", "load_model"),
    "einthoven.passphrases": ("OWASP_MINIMUM", "RFC_9106_SECOND"),
    "einthoven.noting": ("add_note", "delete_note", "list_notes"),
    "einthoven.ports": ("LiveSource", "Packet", "Stamped"),
    "einthoven.process_hardening": ("protect_process",),
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
    "einthoven.store_async": ("AsyncStore",),
    "einthoven.store_erase": ("ErasureReport", "erase_store"),
    "einthoven.store_events": (
        "AnchorFailed",
        "ContentDropped",
        "DamageQuarantined",
        "ForkReason",
        "StoreForked",
        "StoreMigrated",
    ),
    "einthoven.store_export": ("ExportReport", "export_store"),
    "einthoven.store_memory": ("MemoryStore",),
    "einthoven.store_sqlcipher": ("SqlCipherStore",),
    "einthoven.store_values": (
        "AuditAction",
        "AuditEntry",
        "BeatRun",
        "CheckReport",
        "ContentKind",
        "DamageReason",
        "DropReason",
        "Quarantined",
        "RetentionPolicy",
        "RetentionReport",
        "StoreStats",
        "StoredResult",
    ),
    "einthoven.sync_policy": ("Surroundings",),
    "einthoven.sync_report": ("SyncProgress", "SyncReport"),
    "einthoven.syncing": ("sync",),
    "einthoven.vault_ios": ("KeychainVault",),
    "einthoven.vault_keyring": ("KeyringVault",),
    "einthoven.vault_memory": ("MemoryVault",),
    "einthoven.watch_events": (
        "LineLost",
        "LineOpened",
        "SignalsSent",
        "SyncFailed",
        "Synced",
        "WatchEvent",
        "Woken",
    ),
    "einthoven.watching": ("watch",),
    "einthoven_protocol.messages": ("AnnotationRow", "NoteRow", "ResultId"),
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
    "OWASP_MINIMUM",
    "RFC_9106_SECOND",
    "AnchorFailed",
    "AndroidKeyProvider",
    "AnnotationRow",
    "AsyncStore",
    "AuditAction",
    "AuditEntry",
    "BeatClass",
    "BeatDetected",
    "BeatRun",
    "CheckReport",
    "ClockJumped",
    "ContentDropped",
    "ContentKind",
    "DamageQuarantined",
    "DamageReason",
    "DropReason",
    "EinthovenError",
    "EpisodeEnded",
    "EpisodeFound",
    "ErasureReport",
    "Event",
    "Evidence",
    "EvidenceStrip",
    "Explanation",
    "ExportReport",
    "Faults",
    "FileAnchor",
    "FileKeyProvider",
    "FixedClock",
    "ForkReason",
    "GapFound",
    "HeartRateVariability",
    "HeartSummary",
    "HrvRefusal",
    "InconclusiveReason",
    "IntervalClass",
    "KeychainVault",
    "KeyringVault",
    "LateDropped",
    "LineEnded",
    "LineLost",
    "LineOpened",
    "LiveSource",
    "MemoryStore",
    "MemoryVault",
    "Model",
    "NoteRow",
    "OverlapDropped",
    "Packet",
    "PacketRefused",
    "PacketsDropped",
    "PassphraseKeyProvider",
    "Periods",
    "PolarSource",
    "Quality",
    "QualityChanged",
    "Quarantined",
    "RRSeries",
    "RateEstimated",
    "Recording",
    "Replay",
    "ReplayOutcome",
    "ReplaySource",
    "ResultId",
    "RetentionPolicy",
    "RetentionReport",
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
    "SignalsSent",
    "SimulatedSource",
    "SqlCipherStore",
    "StampIgnored",
    "Stamped",
    "StaticKeyProvider",
    "StoreBusy",
    "StoreDamaged",
    "StoreFailed",
    "StoreForked",
    "StoreMigrated",
    "StoreStats",
    "StoredResult",
    "Surroundings",
    "SyncFailed",
    "SyncProgress",
    "SyncReport",
    "Synced",
    "SystemClock",
    "TrustedKey",
    "Unjudged",
    "VaultAnchor",
    "VaultKeyProvider",
    "WatchEvent",
    "WindowAnalyzed",
    "WindowResult",
    "Woken",
    "add_note",
    "analyze",
    "analyze_signal",
    "annotate",
    "assess",
    "corrected",
    "delete_note",
    "enroll",
    "erase_store",
    "explain_window",
    "export_store",
    "follow",
    "heart_rate_variability",
    "list_notes",
    "load_model",
    "open_source",
    "protect_process",
    "replay",
    "replay_all",
    "rr_series",
    "summarize_heart",
    "sync",
    "watch",
]
