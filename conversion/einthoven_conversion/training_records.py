"""Tells whether a model was trained on a set of records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from einthoven_conversion.datasets import Record


def record_ids_digest(records: Sequence[Record]) -> str:
    """SHA-256 over the sorted record ids."""
    return hashlib.sha256("\n".join(sorted(record.record_id for record in records)).encode()).hexdigest()
