"""What each column of the database is for: the source of the register of processing (GDPR article 30). Pure.

It deliberately lists columns one by one, so that one that is added without thought fails a test.

Invariants:
    1. Every column of every table of this version has exactly one entry (a test compares them with the database).
    2. What is told of a person's health or identity is ``SEALED``; a test compares this with what rotation seals.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from einthoven_server.privacy.processing_kinds import FORMS, Activity, Subject


def _table(purpose: str, subject: Subject, ends: str, **columns: str) -> Activity:
    """Columns by form; every table begins with shard and tenant."""
    found = {"shard": FORMS["tech"], "tenant": FORMS["tech"]}
    for form, names in columns.items():
        found |= dict.fromkeys(names.split(), FORMS[form.replace("_", "-")])
    return Activity(purpose, subject, ends, MappingProxyType(found))


_PATIENT: Final = "with the patient"
_RECORD: Final = "results for the patient and those who treat them"
_RESULT: Final = "device_alias epoch counter"
_SYNC: Final = "that nothing is lost or changed between device and server"
_AUTH: Final = "that nobody acts in another's name"
_AUDIT: Final = "that every action can be accounted for"
_KEYS: Final = "encryption"
_REPLAY: Final = "that results are what the model says of their signals"
_LOGS: Final = "never by itself"
_NOBODY: Final = Subject.NOBODY

PROCESSING: Final[Mapping[str, Activity]] = MappingProxyType(
    {
        "account": _table(
            "people who log in",
            Subject.BOTH,
            "with the patient; of staff, never by itself",
            staff="principal_id",
            hashed_identity="name_index",
            account="name_ciphertext",
            account_sealed="password_ciphertext totp_ciphertext",
            time="created_at_ms",
            tech="totp_step",
        ),
        "account_invitation": _table(
            "setting an account up",
            Subject.BOTH,
            "when it is used, or a day later",
            staff="principal_id",
            hash="verifier_hash",
            account_sealed="totp_ciphertext",
            time="expires_at_ms",
            tech="selector",
        ),
        "account_passkey": _table(
            "people who log in",
            Subject.BOTH,
            "with the account",
            staff="principal_id",
            account_sealed="public_key_ciphertext",
            time="created_at_ms",
            tech="credential_id sign_count",
        ),
        "account_recovery_code": _table(
            "people who log in", Subject.BOTH, "when it is used", staff="principal_id", hash="code_hash"
        ),
        "annotation": _table(
            _RECORD,
            Subject.BOTH,
            "with its result",
            words="row_sealed",
            id="patient_id device_alias",
            staff="author",
            tech="epoch counter key_version commit_seq origin_alias origin_epoch row_sum",
        ),
        "audit_checkpoint": _table(_AUDIT, _NOBODY, _LOGS, tech="size note", time="signed_ms"),
        "audit_entry": _table(
            _AUDIT,
            Subject.BOTH,
            _LOGS,
            access="actor operation patient outcome role resource resource_id purpose others",
            time="at_ms",
            tech="seq form",
            hash="previous mac",
        ),
        "audit_head": _table(_AUDIT, _NOBODY, _LOGS, tech="seq tree_size", hash="mac frontier seal"),
        "audit_node": _table(_AUDIT, _NOBODY, _LOGS, tech="level position", hash="hash"),
        "break_glass": _table(
            "emergency access, and its review",
            Subject.BOTH,
            _LOGS,
            words="text_sealed",
            access="access_id reason",
            id="patient_id",
            staff="principal_id",
            time="opened_at_ms expires_at_ms",
            tech="key_version",
        ),
        "backup_place": _table("where backups lie", _NOBODY, _LOGS, tech="url"),
        "bucket_digest": _table(_SYNC, _NOBODY, "with the device's rows", id="device_alias", tech="kind count total"),
        "care_team": _table(
            "who treats whom",
            Subject.BOTH,
            "when an administrator ends it",
            id="patient_id",
            staff="principal_id",
            time="since_ms",
        ),
        "consent": _table(
            "what patients agreed to, and proof of it",
            Subject.PATIENT,
            _PATIENT,
            wishes="body_sealed",
            plain_wishes="active",
            id="consent_id patient_id",
            time="updated_at_ms",
            tech="version key_version",
        ),
        "device": _table(
            "devices that record",
            Subject.PATIENT,
            _PATIENT,
            id="device_id device_alias patient_id",
            public="public_key",
            sealed_key="sync_key_sealed",
            time="enrolled_at_ms revoked_at_ms",
            tech="key_version",
        ),
        "device_cursor": _table(_SYNC, _NOBODY, _PATIENT, id="device_alias", tech="shard_epoch commit_seq"),
        "device_progress": _table(
            _SYNC, _NOBODY, _PATIENT, id="device_alias", tech="epoch acknowledged notes_acknowledged"
        ),
        "document": _table(
            "settings, models and consents for devices",
            Subject.PATIENT,
            "when a later version replaces it",
            wishes="body",
            id="patient_id",
            time="issued_at_ms",
            tech="name version key_version signature commit_seq",
        ),
        "enrolment_code": _table(
            "enrolment of devices",
            Subject.PATIENT,
            "never by itself; useless after 15 minutes",
            hash="secret_hash",
            id="patient_id used_by",
            time="expires_at_ms",
            tech="selector wrong_tries",
        ),
        "erasure": _table(
            "proof that a patient was erased, and that nothing comes back",
            Subject.PATIENT,
            _LOGS,
            id="patient_id",
            time="begun_at_ms finished_at_ms",
        ),
        "fhir_export": _table(
            "bulk exports under way",
            Subject.STAFF,
            "a day later",
            staff="principal_id",
            time="created_at_ms expires_at_ms",
            tech="export_id kinds request_url",
        ),
        "key_rotation": _table(_KEYS, _NOBODY, _LOGS, tech="kind round finished"),
        "login_session": _table(
            _AUTH,
            Subject.BOTH,
            "12 hours later",
            staff="session_id principal_id",
            hash="verifier_hash jkt",
            time="began_at_ms used_at_ms",
            tech="holder_version selector",
        ),
        "login_try": _table(
            _AUTH,
            Subject.BOTH,
            "a day later",
            hashed_identity="name_index",
            time="not_before_ms last_ms",
            tech="tries",
        ),
        "note": _table(
            "the diary",
            Subject.PATIENT,
            "when it is deleted, or with the patient",
            words="row_sealed",
            id="device_alias patient_id",
            tech="epoch counter key_version row_sum commit_seq",
        ),
        "patient": _table("whom records are about", Subject.PATIENT, _PATIENT, id="patient_id", time="created_at_ms"),
        "patient_demographics": _table(
            "who patients are",
            Subject.PATIENT,
            _PATIENT,
            identity="body_sealed",
            id="patient_id",
            time="updated_at_ms",
            tech="version key_version",
        ),
        "patient_horizon": _table(_SYNC, _NOBODY, _PATIENT, id="patient_id", tech="collected_seq"),
        "patient_key": _table(
            _KEYS, Subject.PATIENT, _PATIENT, id="patient_id", tech="key_version rotation_round seals"
        ),
        "patient_key_change": _table(_KEYS, Subject.PATIENT, _PATIENT, id="patient_id", tech="generation"),
        "patient_privacy": _table(
            "restriction of processing",
            Subject.PATIENT,
            _PATIENT,
            plain_wishes="ground purposes",
            id="patient_id",
            time="restricted_at_ms",
            tech="generation published",
        ),
        "principal": _table(
            _AUTH,
            Subject.BOTH,
            "never by itself; revoked ones are kept for the audit log",
            staff="principal_id role scopes bearer",
            id="patient_id",
            public="jwks",
            time="created_at_ms revoked_at_ms",
            tech="key_version",
        ),
        "privacy_policy": _table("the tenant's policy", _NOBODY, _LOGS, time="updated_at_ms", tech="version body"),
        "quarantined_row": _table(
            "results that were refused, for who looks into it",
            Subject.PATIENT,
            _PATIENT,
            health="row_sealed",
            id="device_alias patient_id",
            time="received_at_ms",
            tech="epoch counter key_version reason",
        ),
        "replay_progress": _table(_REPLAY, _NOBODY, _LOGS, id="device_alias", hash="chunk", time="stored_at_ms"),
        "request_nonce": _table(
            _AUTH, Subject.PATIENT, "minutes later", id="device_alias", time="expires_at_ms", tech="nonce"
        ),
        "result_ahead": _table(_SYNC, _NOBODY, _PATIENT, id="device_alias", tech="epoch highest"),
        "result_replay": _table(
            _REPLAY,
            Subject.PATIENT,
            _PATIENT,
            id="device_alias patient_id",
            hash="model_digest",
            time="replayed_at_ms",
            tech="epoch counter outcome differing",
        ),
        "result_row": _table(
            _RECORD,
            Subject.PATIENT,
            _PATIENT,
            health="row_sealed",
            id="device_alias patient_id",
            tech="epoch counter key_version row_sum commit_seq",
        ),
        "result_seal": _table(
            _SYNC,
            Subject.PATIENT,
            _PATIENT,
            id="device_alias",
            hash="results_root segments_root",
            tech="epoch first_counter last_counter signature",
        ),
        "result_signal": _table(
            "where ECGs lie",
            Subject.PATIENT,
            _PATIENT,
            id="device_alias patient_id",
            hash="segment_digest chunk",
            tech="epoch counter first_byte n_bytes",
        ),
        "signal_chunk": _table(
            "ECGs (the objects themselves are sealed, beside the database)",
            Subject.PATIENT,
            _PATIENT,
            id="device_alias patient_id",
            hash="chunk",
            time="stored_at_ms",
            tech="length key_version",
        ),
        "signal_upload": _table(
            "ECGs under way",
            Subject.PATIENT,
            "when it is finished, or expires",
            id="device_alias patient_id",
            hash="chunk",
            time="expires_at_ms",
            tech="upload_id length received",
        ),
        "signal_upload_piece": _table(
            "ECGs under way",
            Subject.PATIENT,
            "with its upload",
            health="piece_sealed",
            tech="upload_id first_byte key_version",
        ),
        "signal_usage": _table(
            "quotas", Subject.PATIENT, _PATIENT, id="device_alias", tech="day day_bytes total_bytes"
        ),
        "signing_key": _table(
            _AUTH,
            _NOBODY,
            "after its successor took over",
            wrapped="private_wrapped",
            time="signs_from_ms",
            tech="kid public_key wrapping_round",
        ),
        "superseded_write": _table(
            "what was said and overtaken",
            Subject.BOTH,
            "with its result",
            words="row_sealed",
            id="device_alias patient_id",
            staff="author",
            time="hlc",
            tech="epoch counter field row_sum key_version commit_seq",
        ),
        "tenant": _table(
            "whose server it is",
            _NOBODY,
            _LOGS,
            wrapped="audit_key_wrapped",
            time="created_at_ms",
            tech="next_device_alias wrapping_round key_generation vault_mark",
        ),
        "tenant_key": _table(_KEYS, _NOBODY, _LOGS, wrapped="wrapped", tech="name key_version wrapping_round"),
        "token_jti": _table(_AUTH, Subject.STAFF, "minutes later", hash="jti_hash", time="expires_at_ms"),
        "tombstone": _table(
            "that what was deleted does not come back",
            Subject.PATIENT,
            "when all devices know, at most 180 days later",
            id="device_alias patient_id",
            staff="author",
            time="hlc deleted_at_ms",
            tech="kind epoch counter commit_seq collected",
        ),
    }
)
"""Every table of a tenant's; ``schema_step`` and ``shard_head`` are about the database itself."""

VAULT: Final[Mapping[str, Activity]] = MappingProxyType(
    {
        "vault_key": _table(
            _KEYS, Subject.PATIENT, _PATIENT, wrapped="wrapped", id="patient_id", tech="key_version wrapping_round"
        ),
        "vault_index": _table(
            "finding patients",
            Subject.PATIENT,
            _PATIENT,
            hashed_identity="hashed",
            id="patient_id",
            tech="name version",
        ),
        "vault_mark": _table("which vault belongs to which database", _NOBODY, _LOGS, tech="mark"),
    }
)
"""The vault's tables, apart from the database (ADR 29)."""
