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
MAX_DECODED_BYTES: Final = 16 * 1024 * 1024
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
MAX_ALERTS_PER_EXCHANGE: Final = 64
MAX_NOTES_PER_EXCHANGE: Final = 100
MAX_DELETIONS_PER_EXCHANGE: Final = 500
MAX_TOMBSTONES_PER_EXCHANGE: Final = 2_000
MAX_SUPERSEDED_PER_EXCHANGE: Final = 100
MAX_DOCUMENTS_PER_EXCHANGE: Final = 8
MAX_OWNERS: Final = 256
"""Devices whose rows one device may see."""
MAX_REFUSED_PER_EXCHANGE: Final = 1_200
"""Verdicts on annotations, notes and deletions."""
MAX_DIGESTS_PER_EXCHANGE: Final = 2 * MAX_OWNERS + 1
MAX_SYMBOLS_BYTES: Final = 6 * 16_384
"""Coded symbols of one repair; more differences than they hold are mended by a snapshot."""
MAX_RUNS_PER_REPAIR: Final = 2_000
MAX_GIVEN_PER_REPAIR: Final = 5_000
MAX_ABSENT_PER_REPAIR: Final = 16_384
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
MAX_CAPABILITIES: Final = 2**32 - 1
"""Bits that a side may announce, known or not."""
MAX_ANNOUNCED: Final = 2**31 - 1
"""Rows or seconds that a server may ask for; larger than any limit here means no more than that."""
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
MAX_NOTE_CHARACTERS: Final = 2_000
MAX_DOCUMENT_NAME_CHARACTERS: Final = 64
MAX_DOCUMENT_VERSION: Final = 2**31 - 1
MAX_DOCUMENT_BYTES: Final = 65_536
MAX_DOCUMENT_SIGNATURE_BYTES: Final = 512
MIN_EXTRA_NUMBER: Final = 64
"""Columns of results and notes from here on belong to newer versions; even ones hold integers, odd ones bytes."""
MAX_EXTRA_NUMBER: Final = 127
MAX_EXTRA_BYTES: Final = 4_096
"""Canonical bytes of all that a newer version added to one annotation or note."""
MAX_RESULT_EXTRA_BYTES: Final = 128
"""The same of one result, of which a message has thousands."""
MAX_FURTHER_REGISTERS: Final = 16
MAX_REGISTER_BYTES: Final = 245
"""Value of a register of a newer version: all that merging can bring together stays within ``MAX_EXTRA_BYTES``."""
MAX_BASE_MARK: Final = 65_521
SESSION_BYTES: Final = 16
"""Key of the coded symbols of one repair."""
SKETCH_BYTES: Final = 80
"""What the size of a difference is estimated from (``strata``)."""
ITEM_BYTES: Final = 4
"""What stands for a row in one repair (``riblt``)."""
MAX_POWERS_BYTES: Final = 1_024
"""256 power sums of one repair (``power_sums``)."""
MAX_POWERS_WORK: Final = 2**25
"""Rows of a bucket times power sums, above which a device asks by coded symbols, and a server may leave them undecoded:
half a second or so of one core."""

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
