"""Which tables have something of a patient, and how each lets go of it. Pure.

Who adds a table with a column ``patient_id`` or ``device_alias`` adds it here; a test compares this with the database.

Invariants:
    1. Each such table is in exactly one of these lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

AT_ONCE: Final = (
    "patient_key",
    "patient_demographics",
    "consent",
    "patient_privacy",
    "care_team",
    "break_glass",
    "enrolment_code",
    "patient",
)
"""Of one patient a few rows; they go with the decision, and with them every way to the rest."""

AT_ONCE_BY_PRINCIPAL: Final = (
    "account_invitation",
    "account_recovery_code",
    "account_passkey",
    "login_session",
    "account",
)
"""Of the patient's own principals: how they log in, and by which name."""

BY_COMMIT: Final = ("result_row", "annotation", "note", "superseded_write", "tombstone", "document")
"""Any number of rows, with an index by patient and commit sequence."""

BY_PATIENT: Final = (
    "quarantined_row",
    "result_signal",
    "signal_chunk",
    "signal_upload",
    "patient_horizon",
    "result_replay",
)
"""Fewer."""

BY_DEVICE: Final = (
    "result_seal",
    "device_progress",
    "bucket_digest",
    "device_cursor",
    "result_ahead",
    "signal_usage",
    "request_nonce",
)
"""Of the patient's devices."""

STAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "device": "revoked, with an empty sync key: it is told to erase what it holds, which takes its public key",
        "principal": "revoked: the audit log names it",
        "erasure": "who was erased: an opaque id",
        "replay_progress": "how far replays went: the opaque name of one chunk",
        "patient_key_change": "tells processes to forget a key: an opaque id and a number",
    }
)
"""Why a row stays."""
