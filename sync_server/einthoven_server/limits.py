"""Every limit of the server, units last. Those of the wire are in ``einthoven_protocol.limits``."""

from __future__ import annotations

from typing import Final

from einthoven_protocol.limits import MAX_COMMENT_CHARACTERS, MAX_SIGNATURE_AGE_S

JSON_BODY_MAX_BYTES: Final = 64 * 1024
REQUEST_LINE_MAX_BYTES: Final = 4 * 1024
HEADER_FIELD_MAX_BYTES: Final = 8 * 1024
HEADERS_MAX: Final = 64
"""Header fields of one request; a browser sends about 20, a device 8."""
BODY_READ_TIMEOUT_S: Final = 20.0
IDLE_CONNECTION_TIMEOUT_S: Final = 30.0
"""A connection without a complete request for this long is closed, whether idle or slow on purpose."""
TLS_HANDSHAKE_TIMEOUT_S: Final = 10.0
LINGER_S: Final = 2.0
"""How long the rest of a refused body is read, so that its sender gets to see the answer."""
STOP_TIMEOUT_S: Final = 10.0
"""How long a stopping server waits for requests under way."""

SIGNATURE_AGE_MAX_MS: Final = MAX_SIGNATURE_AGE_S * 1000
"""A device's signature counts this long before and after its ``created``; its nonce is remembered twice as long."""
RESULT_AHEAD_MAX_MS: Final = 24 * 3600 * 1000
"""A result dated further ahead is quarantined. A day, because an imported record without a date of its own is dated
from the moment it is read, and is read faster than it was recorded."""

ENROLMENT_CODE_LIFETIME_MS: Final = 15 * 60 * 1000
ENROLMENT_WRONG_TRIES_MAX: Final = 5
ENROLMENT_WRONG_TRIES_A_MINUTE: Final = 60
"""Over all codes: someone who guesses selectors is slowed as well."""

WRITER_QUEUE_MAX: Final = 512
"""Changes waiting for one shard's writer; beyond it the answer is 503."""
COMMIT_BATCH_MAX_CHANGES: Final = 128
COMMIT_BATCH_MAX_ROWS: Final = 20_000
BUSY_RETRY_AFTER_S: Final = 2

RESULTS_PAGE_MAX_ROWS: Final = 1_000
RESULTS_PAGE_ROWS: Final = 100
COMMENT_MAX_CHARS: Final = MAX_COMMENT_CHARACTERS

TRANSACTION_ATTEMPTS_MAX: Final = 6
TRANSACTION_BACKOFF_MS: Final = 10
"""First pause after a serialization failure; doubles each time, with full jitter."""
DATABASE_CONNECTIONS_MAX: Final = 8
DATABASE_COMMAND_TIMEOUT_S: Final = 30.0
DATABASE_START_TIMEOUT_S: Final = 60.0
DATABASE_STOP_TIMEOUT_S: Final = 30.0

DATA_KEYS_CACHED_MAX: Final = 10_000
AUDIT_VERIFY_PAGE_ROWS: Final = 10_000

CA_LIFETIME_DAYS: Final = 3_650
SERVER_CERTIFICATE_LIFETIME_DAYS: Final = 397
"""CA/Browser Forum baseline requirements, 6.3.2: at most 398 days."""
SERVER_CERTIFICATE_RENEW_DAYS: Final = 30
