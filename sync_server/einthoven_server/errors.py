"""Every error the server raises on purpose, in one tree.

::

    ServerError
    ├── StartError                  the server can't start; ends the command with status 2
    │   ├── DataFolderUnsafe        not ours, open to others, or not writable
    │   ├── DataFolderBusy          another server uses it
    │   ├── KeyUnavailable          a key is missing, damaged, or its file can be read by others
    │   ├── DatabaseUnavailable     no PostgreSQL, or it does not answer
    │   ├── SchemaTooNew            written by a newer version
    │   ├── SignalStoreUnavailable  the place for signals can't be written
    │   ├── BackupPlaceUnavailable  the place of backups can't be written
    │   └── AddressUnavailable      the address can't be listened on
    ├── AuditTampered               the chain does not hold; names the first altered entry; status 3
    ├── CheckpointRefused           no checkpoint of this log, or one that was altered
    ├── BackupRefused               no backup, one that was altered, or one that does not fit
    ├── EnvelopeRefused             a ciphertext that does not belong where it lies, or another key
    └── RequestRefused              an answer other than 2xx; ``status`` and ``code`` are what the client sees
        ├── Malformed               400
        │   └── ParameterRefused    400, names the search parameter
        ├── Unauthorized            401
        │   └── ClockSkew           401, carries the server's time
        ├── Forbidden               403
        │   └── CodeRefused         403, an enrolment code that is unknown, expired or used
        ├── NotFound                404, the same for "not there" and "not yours"
        ├── NotAcceptable           406
        ├── Conflict                409
        ├── Gone                    410
        ├── PreconditionFailed      412
        ├── TooLarge                413
        ├── UnsupportedMedia        415
        ├── Unprocessable           422, names the element
        ├── Locked                  423
        ├── TooMany                 429, carries ``retry_after_s``
        ├── ChecksumMismatch        460 (tus)
        └── Busy                    503, carries ``retry_after_s``
            ├── EventRefused        503, an audit event that the database does not take, whatever its state
            └── KeyServiceUnavailable  the key service does not answer, or refuses us

Invariants:
    1. A message is one line, says what was wrong and what to do, and holds neither PHI nor a key.
    2. Adapters translate foreign errors with ``raise ... from``; nothing else escapes them.
"""

from __future__ import annotations

from typing import Final

_KEY_SERVICE_RETRY_AFTER_S: Final = 5


class ServerError(Exception):
    """Root of the server's errors.

    Args:
        problem: What was wrong, without a full stop.
        remedy: What to do about it, without a full stop.
    """

    exit_status = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class StartError(ServerError):
    """The server can't start."""

    exit_status = 2


class DataFolderUnsafe(StartError):
    """The data folder is not ours, others can enter it, or it can't be written."""


class DataFolderBusy(StartError):
    """Another server uses this data folder."""


class KeyUnavailable(StartError):
    """A key is missing, damaged, or its file can be read by others."""


class DatabaseUnavailable(StartError):
    """There is no PostgreSQL, or it does not answer."""


class SchemaTooNew(StartError):
    """The database was written by a newer version; it was left untouched."""


class SignalStoreUnavailable(StartError):
    """The place for signals can't be written."""


class BackupPlaceUnavailable(StartError):
    """The place of backups can't be written."""


class AddressUnavailable(StartError):
    """The address can't be listened on."""


class AuditTampered(ServerError):
    """The audit chain does not hold."""

    exit_status = 3


class CheckpointRefused(ServerError):
    """No checkpoint of this log, or one that was altered."""


class BackupRefused(ServerError):
    """No backup, one that was altered, or one that does not fit."""


class EnvelopeRefused(ServerError):
    """A ciphertext that does not belong where it lies, was damaged, or is under another key."""


class RequestRefused(ServerError):
    """An answer other than 2xx.

    Args:
        problem: What was wrong.
        remedy: What to do about it.
        code: Machine-readable code; the class's own where ``None``.
    """

    status = 400
    code = "refused"

    def __init__(self, problem: str, remedy: str, code: str | None = None) -> None:
        super().__init__(problem, remedy)
        self.code = type(self).code if code is None else code


class Malformed(RequestRefused):
    """The request is not what this address takes."""

    code = "malformed"


class ParameterRefused(Malformed):
    """A search parameter that is unknown, not taken here, or has a value that is none.

    Args:
        parameter: Its name.
        problem: What is wrong with it.
        remedy: What to do about it.
    """

    code = "search_parameter"

    def __init__(self, parameter: str, problem: str, remedy: str) -> None:
        super().__init__(f"'{parameter}' {problem}", remedy)
        self.location = f"http.{parameter}"


class Unauthorized(RequestRefused):
    """Nobody the server knows."""

    status = 401
    code = "unauthorized"


class ClockSkew(Unauthorized):
    """The device's clock is too far from the server's.

    Args:
        problem: What was wrong.
        remedy: What to do about it.
        server_time_ms: The server's clock, ms since 1970.
    """

    code = "clock_skew"

    def __init__(self, problem: str, remedy: str, server_time_ms: int) -> None:
        super().__init__(problem, remedy)
        self.server_time_ms = server_time_ms


class Forbidden(RequestRefused):
    """Known, but not allowed to do this."""

    status = 403
    code = "forbidden"


class CodeRefused(Forbidden):
    """An enrolment code that is unknown, expired, used or blocked."""

    code = "code_invalid"


class NotFound(RequestRefused):
    """Not there, or not the caller's: the two can't be told apart."""

    status = 404
    code = "not_found"


class NotAcceptable(RequestRefused):
    """No form that the client takes is given here."""

    status = 406
    code = "not_acceptable"


class Conflict(RequestRefused):
    """Does not fit what the server already holds."""

    status = 409
    code = "conflict"


class Gone(RequestRefused):
    """It was there, and expired."""

    status = 410
    code = "gone"


class PreconditionFailed(RequestRefused):
    """The request asks for a version of a protocol that is not spoken here."""

    status = 412
    code = "precondition_failed"


class TooLarge(RequestRefused):
    """Over a limit of ``limits`` or of the protocol."""

    status = 413
    code = "too_large"


class UnsupportedMedia(RequestRefused):
    """A content type or encoding that this address does not take."""

    status = 415
    code = "unsupported_media_type"


class Unprocessable(RequestRefused):
    """A resource with an element that is not taken, or not as it is.

    Args:
        location: Which element, as a path; never its value.
        problem: What is wrong with it.
        remedy: What to do about it.
    """

    status = 422
    code = "unprocessable"

    def __init__(self, location: str, problem: str, remedy: str) -> None:
        super().__init__(f"'{location}' {problem}", remedy)
        self.location = location


class Locked(RequestRefused):
    """Somebody else is changing it."""

    status = 423
    code = "locked"


class ChecksumMismatch(RequestRefused):
    """The body has another checksum than declared; 460 is tus's own status."""

    status = 460
    code = "checksum_mismatch"


class _ComeBack(RequestRefused):
    """Carries when to come back.

    Args:
        problem: What was wrong.
        remedy: What to do about it.
        retry_after_s: Whole seconds to wait.
        code: Machine-readable code; the class's own where ``None``.
    """

    def __init__(self, problem: str, remedy: str, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(problem, remedy, code)
        self.retry_after_s = retry_after_s


class TooMany(_ComeBack):
    """More tries than the limit."""

    status = 429
    code = "too_many_tries"


class Busy(_ComeBack):
    """The server can't take it now; nothing was changed."""

    status = 503
    code = "busy"


class EventRefused(Busy):
    """An audit event that the database does not take; others may be taken."""

    code = "audit_unavailable"


class KeyServiceUnavailable(Busy):
    """The key service does not answer, refuses our credentials, or answers what it should not."""

    code = "key_service_unavailable"

    def __init__(self, problem: str, remedy: str = "see the server's log and the key service's") -> None:
        super().__init__(problem, remedy, _KEY_SERVICE_RETRY_AFTER_S)
