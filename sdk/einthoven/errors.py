"""Every error the SDK raises on purpose, in one tree.

::

    EinthovenError
    ├── InputError                 what was given can't be used
    │   ├── RecordNotFound         no such file
    │   ├── RecordFormatError      truncated, empty, or not in the format it claims
    │   ├── UnknownUnit            no unit, or one that is not a voltage
    │   ├── SamplingRateError      no rate, or one outside 100-1000 Hz
    │   └── NoUsableSignal         flat, missing or clipped throughout
    ├── ModelError
    │   ├── ModelCorrupt           bytes or manifest do not hold together
    │   └── ModelUnverified        digest or signature is not the one the manifest names
    ├── StoreError
    │   ├── WrongKey               the key does not open this file, or the file is no database
    │   ├── KeyUnavailable         no key, or a key file that others can read
    │   ├── StoreTooNew            written by a newer version
    │   ├── StoreUnsafe            the SQLCipher build is not one to trust with data
    │   ├── StoreBusy              more calls wait than are taken on
    │   └── StoreIOError           disk full, read-only, I/O error
    │       └── StoreDamaged       bytes that are not what was written
    ├── EnrolmentError
    │   ├── CodeInvalid            not an enrolment code, expired, used or refused
    │   └── NotEnrolled            this store belongs to no server yet
    ├── TransportError
    │   ├── ServerUnreachable      no connection, time-out
    │   ├── CertificateMismatch    the server's certificate is not from the pinned authority
    │   ├── DeviceRefused          unknown, revoked, or a clock too far off
    │   ├── ServerBusy             429 or 503; carries ``retry_after_s``
    │   └── ServerRejected         any other answer that is not the protocol's
    ├── SyncError                  an exchange that does not add up; nothing was changed
    ├── ReplayMismatch             a stored result that its segment does not give again
    └── SensorError                a live sensor can't be used
        ├── SensorNotFound         none in reach that answers to the name or address
        ├── BluetoothUnavailable   no radio, switched off, or not allowed
        ├── SensorRefused          it answers, but does not give this stream
        ├── SensorDisconnected     the connection broke and did not come back
        └── SensorFrameError       bytes that are not the sensor's protocol

Invariants:
    1. A message is one line, says what was wrong and what to do, and holds neither PHI nor a key.
    2. Adapters translate foreign errors with ``raise ... from``; nothing else escapes them.
    3. ``exit_status`` is what a command ends with: 2 input, 3 no usable signal, 4 model, 5 store, 6 enrolment,
       7 transport, 8 sync, 9 replay, 10 sensor.
"""

from __future__ import annotations


class EinthovenError(Exception):
    """Root of the SDK's errors.

    Args:
        problem: What was wrong, without a full stop.
        remedy: What to do about it, without a full stop.
    """

    exit_status = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class InputError(EinthovenError):
    """What was given can't be used."""

    exit_status = 2


class RecordNotFound(InputError):
    """There is no such file."""


class RecordFormatError(InputError):
    """A file that is truncated, empty, or not in the format it claims."""


class UnknownUnit(InputError):
    """No unit is given, or one that is not a voltage."""


class SamplingRateError(InputError):
    """No sampling rate is given, or one outside the supported range."""


class NoUsableSignal(InputError):
    """Flat, missing or clipped from beginning to end."""

    exit_status = 3


class ModelError(EinthovenError):
    """The model can't be used."""

    exit_status = 4


class ModelCorrupt(ModelError):
    """Model bytes or manifest that do not hold together."""


class ModelUnverified(ModelError):
    """A digest or signature that is not the one the manifest names."""


class StoreError(EinthovenError):
    """The encrypted store can't be used."""

    exit_status = 5


class WrongKey(StoreError):
    """The key does not open this file, or the file is no database."""


class KeyUnavailable(StoreError):
    """There is no key, or its file can be read by others."""


class StoreTooNew(StoreError):
    """The file was written by a newer version; it was left untouched."""


class StoreUnsafe(StoreError):
    """The SQLCipher build at hand is not one to trust with data."""


class StoreBusy(StoreError):
    """More calls wait for the store than are taken on; this one was not."""


class StoreIOError(StoreError):
    """Disk full, read-only, or an I/O error."""


class StoreDamaged(StoreIOError):
    """Bytes that are not what was written; what is whole can still be had (``repair``)."""


class EnrolmentError(EinthovenError):
    """The device could not be enrolled, or is not."""

    exit_status = 6


class CodeInvalid(EnrolmentError):
    """Not an enrolment code, or one that is expired, used or refused."""


class NotEnrolled(EnrolmentError):
    """This store belongs to no server yet."""


class TransportError(EinthovenError):
    """The server could not be reached, trusted or understood."""

    exit_status = 7


class ServerUnreachable(TransportError):
    """No connection within the time limit."""


class CertificateMismatch(TransportError):
    """The server's certificate is not from the pinned authority."""


class DeviceRefused(TransportError):
    """The server does not accept this device, or its clock."""


class ServerBusy(TransportError):
    """The server asks to come back later.

    Args:
        problem: What was wrong.
        remedy: What to do about it.
        retry_after_s: Seconds the server asked to wait.
    """

    def __init__(self, problem: str, remedy: str, retry_after_s: float) -> None:
        super().__init__(problem, remedy)
        self.retry_after_s = retry_after_s


class ServerRejected(TransportError):
    """An answer that is not the protocol's."""


class SyncError(EinthovenError):
    """An exchange that does not add up; nothing was changed."""

    exit_status = 8


class ReplayMismatch(EinthovenError):
    """A stored result that its segment does not give again."""

    exit_status = 9


class SensorError(EinthovenError):
    """A live sensor can't be used."""

    exit_status = 10


class SensorNotFound(SensorError):
    """No sensor in reach answers to that name or address."""


class BluetoothUnavailable(SensorError):
    """There is no Bluetooth radio, it is switched off, or this program may not use it."""


class SensorRefused(SensorError):
    """The sensor answers, but does not give this stream."""


class SensorDisconnected(SensorError):
    """The connection broke and did not come back within the limits."""


class SensorFrameError(SensorError):
    """Bytes that are not the sensor's protocol, or a form of it that is not read here."""
