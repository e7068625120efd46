"""Every limit of the server, units last. Those of the wire are in ``einthoven_protocol.limits``."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from einthoven_protocol.limits import MAX_COMMENT_CHARACTERS, MAX_SIGNATURE_AGE_S

JSON_BODY_MAX_BYTES: Final = 64 * 1024
JSON_INTEGER_MAX_DIGITS: Final = 19
"""Sign included; longer ones fit no column."""
REQUEST_LINE_MAX_BYTES: Final = 4 * 1024
HEADER_FIELD_MAX_BYTES: Final = 8 * 1024
HEADERS_MAX: Final = 64
"""Header fields of one request; a browser sends about 20, a device 8."""
BODY_READ_TIMEOUT_S: Final = 20.0
IN_FLIGHT_MAX_BYTES: Final = 256 * 1024 * 1024
"""What bodies under way, and the rows made of them, may take together; beyond it the answer is 503."""
IN_FLIGHT_LIGHT_BYTES: Final = 1024 * 1024
"""A request that takes more is heavy: 1,000 rows are light, a full bulk push is not."""
IN_FLIGHT_HEAVY_SHARE: Final = Fraction(7, 8)
"""What part of it heavy requests may fill."""
WORD_IN_FLIGHT_BYTES: Final = 16 * 1024
"""The same of an annotation or a note with the longest text."""
LARGE_CONTENT_BYTES: Final = 1024 * 1024
LARGE_DECODED_AT_ONCE: Final = 2
"""Messages with more content that are decoded at once, others wait: decoding takes about four times the content."""
ROW_IN_FLIGHT_BYTES: Final = 768
"""What a result takes from its decoding to its commit: canonical bytes, ciphertext, share and counter, as objects."""
THREAD_MIN_CONTENT_BYTES: Final = 64 * 1024
"""Messages with less content are decoded, or encoded, where they are: 64 KiB take about a millisecond."""
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
FEED_BATCH_MAX_ROWS: Final = 20_000
"""Rows of a kind that the answers of one batch share."""
FEED_ROWS_MIN: Final = 64
"""Rows of a kind that each answer of a batch may have, however many there are."""
FEED_PAGE_MAX_BYTES: Final = 4 * 1024 * 1024
"""Stored bytes of the rows of one answer; leaves room within the protocol's largest message."""
GARBAGE_THRESHOLD_OBJECTS: Final = 50_000
"""New objects between two searches for cycles of the youngest."""
THREAD_MIN_ROWS: Final = 256
"""Work on fewer rows is done where it is: a thread would cost more than it spares the others."""
THREAD_MIN_COMPARED_BYTES: Final = 256
"""The same of a repair's symbols or power sums: made to be as many as can be, 256 sums take half a second."""
TOMBSTONES_COLLECTED_MAX: Final = 10_000
"""Of one collection; the next one goes on."""
TOMBSTONE_MAX_AGE_DAYS: Final = 180
"""A device that was away for longer compares everything when it comes back."""
BUSY_RETRY_AFTER_S: Final = 2

WRITER_TENANT_SHARE: Final = Fraction(3, 4)
"""What part of the writer's queue one tenant may fill."""
WRITER_CALLER_SHARE: Final = Fraction(1, 16)
"""What part of it one device, or one person, may fill."""
WRITER_CALLER_MIN_CHANGES: Final = 2
"""Changes of one caller that may wait however short the queue is."""

DEVICE_REQUESTS_A_SECOND: Final = 20.0
DEVICE_REQUESTS_BURST: Final = 600.0
"""A device's signed requests: a first sync of a year's results in full pages is about 120."""
DEVICE_BYTES_A_SECOND: Final = 2.0 * 1024 * 1024
DEVICE_BYTES_BURST: Final = 64.0 * 1024 * 1024
"""Bytes of a device's bodies: four exchanges of the largest size at once, and every real one is far smaller."""
DEVICE_WAKES_A_SECOND: Final = 0.2
DEVICE_WAKES_BURST: Final = 10.0
"""A device's wake sockets that are opened anew."""
TENANT_REQUESTS_A_SECOND: Final = 2_000.0
TENANT_REQUESTS_BURST: Final = 8_000.0
TENANT_BYTES_A_SECOND: Final = 64.0 * 1024 * 1024
TENANT_BYTES_BURST: Final = 512.0 * 1024 * 1024
RATE_BUCKETS_MAX: Final = 131_072
RETRY_AFTER_MAX_S: Final = 60
"""A client is never told to stay away for longer."""

ANNOUNCED_FROM_LOAD: Final = Fraction(1, 8)
"""From which part of the writer's queue on devices are asked to send less."""
ANNOUNCED_MIN_RESULTS: Final = 500
ANNOUNCED_MIN_ANNOTATIONS: Final = 50
ANNOUNCED_MAX_INTERVAL_S: Final = 120

REPAIRS_AT_ONCE: Final = 2
REPAIRS_WAITING_MAX: Final = 32
"""Repairs that wait for their turn; beyond them the answer is 503."""
DEVICE_REPAIRS_A_SECOND: Final = 2.0
DEVICE_REPAIRS_BURST: Final = 240.0
"""A snapshot of a million results in full pages is 100."""

WAKE_SOCKETS_MAX: Final = 20_000
"""Wake sockets of one process; one costs about 40 KiB with TLS."""
WAKE_PING_INTERVAL_S: Final = 30.0
"""A device that does not answer a ping within half of it is gone."""
WAKE_SEND_TIMEOUT_S: Final = 5.0
WAKE_CLOSE_TIMEOUT_S: Final = 2.0
WAKE_LIFETIME_S: Final = 3_600.0
"""Then the device opens another, with a fresh signature."""
WAKE_MESSAGE_MAX_BYTES: Final = 64
"""A device has nothing to say there."""
WAKE_POLL_INTERVAL_S: Final = 1.0
"""How often a process looks for other processes' commits, and for revoked devices, while somebody waits."""
WAKE_POLL_DEVICES: Final = 1_000
"""Devices asked about by one statement."""

DOCUMENT_MAX_DEPTH: Final = 32
"""Nesting of a document's JSON."""
DOCUMENTS_OF_ONE_MAX: Final = 64
"""Documents of one patient, and of the tenant."""
DOCUMENT_PUT_ATTEMPTS_MAX: Final = 4
"""Two admins who put the same document at once."""
NOTES_PAGE_MAX_ROWS: Final = 1_000
NOTES_PAGE_ROWS: Final = 100

TOMBSTONE_COLLECT_INTERVAL_S: Final = 60.0
"""Pause between two rounds of collecting tombstones; a round's work is bounded by the store."""

RESULTS_PAGE_MAX_ROWS: Final = 1_000
RESULTS_PAGE_ROWS: Final = 100
COMMENT_MAX_CHARS: Final = MAX_COMMENT_CHARACTERS

TRANSACTION_ATTEMPTS_MAX: Final = 6
TRANSACTION_BACKOFF_MS: Final = 10
"""First pause after a serialization failure; doubles each time, with full jitter."""
DATABASE_CONNECTIONS_MAX: Final = 8
DATABASE_COMMAND_TIMEOUT_S: Final = 30.0
MIGRATION_STEP_TIMEOUT_S: Final = 6 * 3600.0
"""One step may read a whole table once."""
RESULT_MONTHS_AHEAD: Final = 2
"""Parts for results of months that are yet to come."""
RESULT_MONTH_LOCK_TIMEOUT_MS: Final = 2_000
"""How long making such a part waits for others; those who come after it wait with it."""
DATABASE_START_TIMEOUT_S: Final = 60.0
DATABASE_STOP_TIMEOUT_S: Final = 30.0
DATABASE_PATIENCE_S: Final = 5.0
"""How long a left-over PostgreSQL may take to stop in good order; after three times as long it is killed."""

DATA_KEYS_CACHED_MAX: Final = 10_000
AUDIT_VERIFY_PAGE_ROWS: Final = 10_000

CA_LIFETIME_DAYS: Final = 3_650
SERVER_CERTIFICATE_LIFETIME_DAYS: Final = 397
"""CA/Browser Forum baseline requirements, 6.3.2: at most 398 days."""
SERVER_CERTIFICATE_RENEW_DAYS: Final = 30

# Access tokens (RFC 9068), assertions (RFC 7523), proofs (RFC 9449).
ACCESS_TOKEN_LIFETIME_S: Final = 300
ASSERTION_LIFETIME_MAX_S: Final = 300
"""SMART App Launch 2.2, Backend Services: no more than five minutes in the future."""
PROOF_AGE_MAX_S: Final = 60
"""A proof counts this long before and after its ``iat``; its id is remembered twice as long."""
ISSUED_AHEAD_MAX_S: Final = 60
"""How far ahead of the server's clock an assertion's ``iat`` and ``nbf`` may lie."""
COMPACT_TOKEN_MAX_CHARS: Final = 6 * 1024
"""An assertion under an RSA key of 4096 bits is about 1,200."""
JTI_MAX_CHARS: Final = 128
CLIENT_ID_MAX_CHARS: Final = 64
KEY_ID_MAX_CHARS: Final = 128
CLIENT_KEYS_MAX: Final = 4
"""Public keys of one client: two while it changes them."""
RSA_KEY_MIN_BITS: Final = 2048
RSA_KEY_MAX_BITS: Final = 4096
"""A longer one costs the server more than it gives."""
SCOPES_MAX_CHARS: Final = 512
TOKEN_FORM_MAX_BYTES: Final = 8 * 1024
VERIFIED_TOKENS_MAX: Final = 4_096
"""Access tokens whose signature a process need not check again."""
SIGNING_KEYS_REFRESH_MS: Final = 1_000
"""How old what a process knows of the signing keys may be; whatever key ids callers send, it asks no more often."""
SIGNING_KEY_LEAD_MS: Final = 60_000
"""How long a new key is shown before it signs, so that whoever keeps the key set for ``JWKS_MAX_AGE_S`` has it."""
SIGNING_KEY_OVERLAP_MS: Final = (ACCESS_TOKEN_LIFETIME_S + 60) * 1000
"""How long a key verifies after its successor began to sign."""
SIGNING_KEY_LIFETIME_MS: Final = 90 * 24 * 3600 * 1000
"""After this a key is replaced by itself."""
JWKS_MAX_AGE_S: Final = 60

# ---- audit --------------------------------------------------------------------------------------------------------

AUDIT_NODE_LEVELS: Final = 8
"""Every eighth level of the tree is stored: subtrees of 256, of 65,536 ... entries."""
AUDIT_BATCH_MAX_EVENTS: Final = 512
"""Events of requests that write nothing else, in one transaction."""
AUDIT_WAITING_MAX: Final = 8_192
"""Such events that wait; beyond it the answer is 503."""
AUDIT_CHECKPOINT_INTERVAL_MS: Final = 3_600_000
"""Between two checkpoints that the server signs by itself."""
AUDIT_CHECKPOINT_FILE_MAX_BYTES: Final = 16 * 1024 * 1024
"""Of a file that is read: a checkpoint is some 300 bytes, so this is six years of one an hour."""
AUDIT_NOTE_MAX_BYTES: Final = 4 * 1024

# Relations, emergency access, row-level security.
OWNER_CONNECTIONS_MAX: Final = 2
"""Connections as the owner of the tables: migrations, and parts for new months."""
CARE_TEAM_MAX_MEMBERS: Final = 256
"""Of one patient."""
BREAK_GLASS_LIFETIME_MS: Final = 3600 * 1000
BREAK_GLASS_OPEN_MAX: Final = 20
"""Emergency accesses of one principal that are open at once."""
BREAK_GLASS_TEXT_MAX_CHARS: Final = 1_000
BREAK_GLASS_PAGE_ROWS: Final = 100

# ---- key services and rotation --------------------------------------------------------------------------------------
KEYS_CHECK_INTERVAL_S: Final = 1.0
"""How old what a process knows of patients' keys may be: rotation and erasure are seen by then."""
KEY_SERVICE_TIMEOUT_S: Final = 5.0
"""Of one try."""
KEY_SERVICE_ATTEMPTS_MAX: Final = 4
KEY_SERVICE_BACKOFF_MS: Final = 100
"""First pause after 429 or 5xx; doubles each time, with full jitter."""
KEY_SERVICE_RETRY_AFTER_MAX_S: Final = 5.0
"""A service is not waited for longer, whatever it asks for."""
KEY_SERVICE_ANSWER_MAX_BYTES: Final = 64 * 1024
KEY_SERVICE_AT_ONCE: Final = 8
"""Requests of one rotation to the key service."""
KEY_SERVICE_CHECK_INTERVAL_S: Final = 15.0
"""How long an answer of ``/readyz`` about the key service counts."""
KEY_SERVICE_TOKEN_MARGIN_S: Final = 60.0
"""A login's token is renewed so long before it ends."""
REWRAP_BATCH_KEYS: Final = 100
RESEAL_BATCH_ROWS: Final = 500
ROTATION_GRACE_S: Final = 60.0
"""How long what a process knew of a patient's keys may still be in use: an upload may wait for the place of signals."""
KEY_FILE_FORGET_AFTER_S: Final = 600.0
"""A former version of the key file may be in use for so long after a new one was made."""

# ---- FHIR ---------------------------------------------------------------------------------------------------------
FHIR_QUERY_MAX_BYTES: Final = 16 * 1024
"""A query that comes as a form."""
FHIR_PARAMETERS_MAX: Final = 24
"""Search parameters of one request."""
FHIR_ALTERNATIVES_MAX: Final = 32
"""Values between commas."""
FHIR_VALUE_MAX_CHARS: Final = 256
"""Of one value."""
FHIR_PAGE_ROWS: Final = 100
FHIR_PAGE_MAX_ROWS: Final = 1_000
FHIR_ECG_PAGE_MAX_ROWS: Final = 20
"""ECGs on a page: each is up to 120,000 numbers in decimal."""
FHIR_ECG_SCANNED_MAX_ROWS: Final = 5_000
"""Results looked at for a page of ECGs; the next link goes on behind them."""
FHIR_AUDIT_SCANNED_MAX_ROWS: Final = 1_000
"""Entries of the audit log looked at for a page of AuditEvents; the next link goes on behind them."""
FHIR_BUNDLE_MAX_BYTES: Final = 1024 * 1024
FHIR_BUNDLE_MAX_ENTRIES: Final = 200
"""Of one transaction: it holds its locks until all of them are done."""
FHIR_CANDIDATES_MAX: Final = 200
"""Patients that a search by a blind index may open; beyond it has to name more."""
FHIR_TEXT_MAX_CHARS: Final = 256
"""One text of a patient's demographics."""
FHIR_REPEATS_MAX: Final = 8
"""Identifiers, names, telephone numbers of one patient, and given names of one name."""
RESULT_INDEXES_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of what is known, per process, about where and when patients' results lie; 26 B a result."""
RESULT_INDEX_READ_ROWS: Final = 20_000
"""Results that are opened by one statement to bring an index up to date."""
EXPORTS_OF_ONE_MAX: Final = 4
"""Exports of one service that are under way."""
EXPORT_LIFETIME_MS: Final = 24 * 3600 * 1000
EXPORT_READ_ROWS: Final = 1_000
"""Results of a patient that are opened at a time."""

# ---- the guarded request path -------------------------------------------------------------------------------------
PROOF_HEADERS_MAX: Final = 1_024
"""Headers of DPoP proofs whose key a process has read; of a client they are always the same."""

# ---- replay as a service ------------------------------------------------------------------------------------------
REPLAY_SAMPLE_PERMILLE: Final = 10
"""Of 1,000 results that are not urgent, so many are recomputed; urgent ones always."""
REPLAY_INTERVAL_S: Final = 300.0
"""Between two rounds."""
REPLAY_ROUND_MAX_CHUNKS: Final = 5_000
"""Chunks looked at in one round; of a device that streams, 54 a day."""
REPLAY_ROUND_MAX_S: Final = 120.0
"""A round begins no other chunk after that; the next round goes on."""
REPLAY_LAG_MS: Final = 60_000
"""A chunk is looked at when it has been stored so long."""
REPLAY_TIME_MAX_S: Final = 20.0
"""Recomputing one result, the start of the process included."""
REPLAY_NICENESS: Final = 10
"""The process that recomputes gives way to those that serve."""
REPLAY_PAGE_ROWS: Final = 100
REPLAY_PAGE_MAX_ROWS: Final = 1_000

# ---- the vault, erasure, backups ----------------------------------------------------------------------------------
VAULT_BUSY_TIMEOUT_S: Final = 10.0
"""How long a writer of the vault's file waits for another process."""
VAULT_CONNECTIONS_MAX: Final = 4
VAULT_PAGE_KEYS: Final = 1_000
ERASURE_SETTLE_MS: Final = 60_000
"""How long a request that was let in before an erasure may still leave an object behind."""
ERASURE_ROUND_INTERVAL_S: Final = 30.0
ERASE_BATCH_ROWS: Final = 5_000
BACKUP_PIECE_BYTES: Final = 4 * 1024 * 1024
"""Of rows in one object of a backup, before they are compressed."""

# ---- accounts and logins ------------------------------------------------------------------------------------------
LOGIN_NAME_MIN_CHARS: Final = 3
LOGIN_NAME_MAX_CHARS: Final = 128
PASSWORD_MIN_CHARS: Final = 12
"""NIST SP 800-63B-4 asks for 8 where there is a second factor, and 15 where there is none."""
PASSWORD_MAX_CHARS: Final = 256
ARGON2_MEMORY_KIB: Final = 64 * 1024
"""RFC 9106, section 4, second recommended option: 64 MiB and 3 passes."""
ARGON2_PASSES: Final = 3
ARGON2_LANES: Final = 1
"""That option has 4. Of several lanes OpenSSL (4.0.3) makes threads, and two threads that hash so at once wait for each
other for ever. The same memory is filled as often with one."""
ARGON2_SALT_BYTES: Final = 16
ARGON2_TAG_BYTES: Final = 32
PASSWORDS_AT_ONCE: Final = 2
"""Passwords a process hashes at a time: 64 MiB and a core each."""
PASSWORDS_WAITING_MAX: Final = 32
"""Passwords that wait for that; beyond it the answer is 503."""
TOTP_STEP_S: Final = 30
TOTP_DIGITS: Final = 6
TOTP_SECRET_BYTES: Final = 20
"""RFC 4226, section 4, R6: 160 bits."""
TOTP_STEPS_ASIDE: Final = 1
"""A code of the step before and of the one after counts as well: clocks differ."""
RECOVERY_CODES: Final = 10
"""Of one account, each good once."""
RECOVERY_CODE_BYTES: Final = 10
INVITATION_LIFETIME_MS: Final = 24 * 3600 * 1000
INVITATION_CODE_MAX_CHARS: Final = 64
LOGIN_TRIES_FREE: Final = 5
"""Wrong tries at one name before the next one has to wait."""
LOGIN_DELAY_MS: Final = 1_000
"""After ``LOGIN_TRIES_FREE`` wrong tries; doubles with each further one."""
LOGIN_DELAY_MAX_MS: Final = 15 * 60 * 1000
LOGIN_TRIES_FORGET_MS: Final = 24 * 3600 * 1000
"""Wrong tries at a name are forgotten after so long without one."""
LOGIN_BODY_MAX_BYTES: Final = 16 * 1024
SESSION_IDLE_MS: Final = 30 * 60 * 1000
"""A session ends when its refresh token was not used for so long."""
SESSION_LIFETIME_MS: Final = 12 * 3600 * 1000
"""A session ends after so long, however much it is used."""
SESSIONS_OF_ONE_MAX: Final = 16
"""Of one account; of more the one unused for longest ends."""
ACCOUNTS_PAGE_ROWS: Final = 200
PASSKEY_CHALLENGE_MS: Final = 5 * 60 * 1000
PASSKEY_ID_MAX_BYTES: Final = 1_023
"""WebAuthn, section 6.1: an id of a credential is no longer."""

# ---- privacy ------------------------------------------------------------------------------------------------------
CONSENTS_OF_ONE_MAX: Final = 256
"""Consents of one patient, also those that were withdrawn: they are kept as proof."""
CONSENTS_CACHED_MAX: Final = 10_000
"""Patients whose opened consents a process keeps."""
CONSENT_PROVISIONS_MAX: Final = 32
"""Exceptions of one consent."""
CONSENT_NAMED_MAX: Final = 16
"""Actors, purposes, categories of one exception."""
CONSENTS_PUBLISHED_MAX: Final = 100
"""Patients whose devices are told in one round of housekeeping."""
PATIENT_EXPORTS_AT_ONCE: Final = 4
"""Exports of whole patients that a process makes at a time."""
PATIENT_EXPORT_READ_ROWS: Final = 500
"""Results or notes that are opened at a time."""
PATIENT_EXPORT_FILE_RESULTS: Final = 120
"""Results that share an EDF file: an hour of windows of 30 s, about 7 MB at 500 Hz while it is made."""
PATIENT_EXPORT_FILE_PAUSES_S: Final = 12 * 3600
"""Pauses of one EDF file in all; readers, ours among them, refuse more than a day."""
PATIENT_EXPORT_STALL_S: Final = 60.0
"""A client that takes nothing for so long gives up its place: there are few."""
PATIENT_EXPORT_UNREADABLE_MAX: Final = 1_000
"""Signals that the manifest names as unreadable."""
