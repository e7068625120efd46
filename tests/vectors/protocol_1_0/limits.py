"""Every limit of the protocol, with its unit last.

It deliberately holds no policy of a single server or device (rates, retention, quotas): only what both sides refuse.

Invariants:
    1. A message within the row limits and value ranges always fits the byte limits: a sender that counts rows never
       has to guess at bytes.
    2. Identities and times fit SQL's integer and bigint, and JSON's exact integers where a person may see them.
"""

from __future__ import annotations

from typing import Final

# ---- bytes of a message -------------------------------------------------------------------------------------------
MAX_DECODED_BYTES: Final = 6 * 1024 * 1024
"""A message after decompression."""
MAX_REQUEST_BYTES: Final = MAX_DECODED_BYTES + 1024
"""The body of POST /v1/exchange."""
MAX_RESPONSE_BYTES: Final = MAX_DECODED_BYTES + 1024
"""The body of its answer, and of any other answer a device reads."""
MAX_ENROL_BYTES: Final = 4 * 1024
"""The JSON body of POST /v1/enrol."""
MAX_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""What a decompressor may be asked to keep (RFC 8878 section 3.1.1.1.2 recommends supporting 8 MiB)."""
MIN_COMPRESSED_BYTES: Final = 64
"""Shorter messages travel as they are."""

# ---- rows of a message --------------------------------------------------------------------------------------------
MAX_ROWS_PER_EXCHANGE: Final = 10_000
"""Rows of any table; tables with wide rows have limits of their own."""
MAX_RESULTS_PER_EXCHANGE: Final = MAX_ROWS_PER_EXCHANGE
MAX_ANNOTATIONS_PER_EXCHANGE: Final = 500
MAX_SEALS_PER_EXCHANGE: Final = 256
MAX_VERDICTS_PER_EXCHANGE: Final = MAX_ROWS_PER_EXCHANGE
MAX_COLUMNS_PER_TABLE: Final = 128
"""Columns of a table, and fields of a message, known or not."""

# ---- values -------------------------------------------------------------------------------------------------------
MAX_DEVICE_ALIAS: Final = 2**31 - 1
MAX_EPOCH: Final = 2**31 - 1
MAX_COUNTER: Final = 2**31 - 1
MAX_TIME_MS: Final = 2**47 - 1
"""Latest instant, ms since 1970 (year 6429): with it a hybrid logical clock fits a signed 64-bit integer."""
MAX_DURATION_MS: Final = 24 * 3600 * 1000
MAX_STEPS: Final = 2**15 - 1
MAX_USABLE_S: Final = 2**15 - 1
MAX_QUALITY: Final = 2**15 - 1
MAX_ENUM: Final = 255
"""Largest value of rhythm, tier and reason, also of ones this version does not know."""
MAX_CONFIDENCE_PERMILLE: Final = 1_000
MAX_FRONT_END_VERSION: Final = 2**15 - 1
MIN_LOGIT: Final = -(2**31)
MAX_LOGIT: Final = 2**31 - 1
MAX_HLC: Final = 2**63 - 1
MAX_SHARD_EPOCH: Final = 2**63 - 1
MAX_COMMIT_SEQ: Final = 2**63 - 1
MAX_DIGEST_COUNT: Final = 2**63 - 1
DIGEST_BYTES: Final = 32
"""SHA-256: model digests, segment digests, Merkle roots."""
SIGNATURE_BYTES: Final = 64
"""Ed25519 signature."""
PUBLIC_KEY_BYTES: Final = 32
"""Ed25519 public key."""
SYNC_KEY_BYTES: Final = 32
"""Key of a device's digests."""
SUM_BYTES: Final = 16
"""One row's share of a digest, and the digest's total."""
MAX_AUTHOR_CHARACTERS: Final = 64
MAX_RHYTHM_CHARACTERS: Final = 8
MAX_COMMENT_CHARACTERS: Final = 2_000
"""Unicode code points, as in the two before."""

# ---- time ---------------------------------------------------------------------------------------------------------
MAX_CLOCK_SKEW_MS: Final = 5 * 60 * 1000
"""How far ahead of one's own clock another's may be believed."""
MAX_SIGNATURE_AGE_S: Final = 5 * 60
"""How far ``created`` of a request's signature may lie from the server's clock, either way; nonces are kept as long."""

# ---- headers and enrolment ----------------------------------------------------------------------------------------
MAX_SIGNATURE_HEADER_CHARACTERS: Final = 512
"""Each of Content-Digest, Signature-Input, Signature."""
MAX_PATH_CHARACTERS: Final = 512
MIN_NONCE_CHARACTERS: Final = 16
MAX_NONCE_CHARACTERS: Final = 64
MAX_KEY_ID_CHARACTERS: Final = 64
MIN_SECRET_BYTES: Final = 16
"""Shortest one-time secret of an enrolment code."""
MAX_SECRET_BYTES: Final = 64
MAX_URL_CHARACTERS: Final = 200
MAX_CODE_CHARACTERS: Final = 512
MAX_ID_CHARACTERS: Final = 64
"""Opaque ids in an enrolment's answer: device, tenant, patient."""
