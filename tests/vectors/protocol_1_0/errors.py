"""Every error the protocol raises on purpose, in one tree.

::

    ProtocolError
    ├── DecodeError              bytes that are not what they claim to be
    │   ├── SignatureMalformed   signature headers outside the one accepted form
    │   └── CodeMalformed        text that is no enrolment code
    ├── OutOfRange               a value outside its documented range, on the way in or out
    ├── LimitExceeded            more rows or bytes than ``limits`` allows
    ├── UnsupportedVersion       a version byte this code does not speak; carries ``version``
    └── InconsistentExchange     a response that does not add up with its request

Invariants:
    1. A message is one line that names fields, limits and positions, never a value out of a row, a secret or a key.
    2. Decoding functions raise nothing outside this tree, whatever the bytes.
    3. ``code`` is a wire value (docs/sync-protocol-v1.md, error codes): never change one.
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """Root of the protocol's errors."""

    code: ClassVar[str] = "protocol_error"


class DecodeError(ProtocolError):
    """Bytes that are not what they claim to be."""

    code = "malformed"


class SignatureMalformed(DecodeError):
    """Signature headers that are missing, doubled, or outside the one accepted form."""

    code = "signature_malformed"


class CodeMalformed(DecodeError):
    """Text that is no enrolment code."""

    code = "code_malformed"


class OutOfRange(ProtocolError):
    """A value outside its documented range."""

    code = "out_of_range"


class LimitExceeded(ProtocolError):
    """More rows or bytes than the protocol allows in one message."""

    code = "limit_exceeded"


class UnsupportedVersion(ProtocolError):
    """A version byte this code does not speak.

    Args:
        version: The byte that was found.
    """

    code = "unsupported_version"

    def __init__(self, version: int) -> None:
        super().__init__(f"protocol version {version} is not spoken here; update the older side")
        self.version = version


class InconsistentExchange(ProtocolError):
    """A response that does not add up with its request; nothing of it may be applied."""

    code = "inconsistent_exchange"
