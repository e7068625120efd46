"""Words of the register of processing: what columns hold, how they are kept, whom tables are about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a column holds."""

    HEALTH = "health data"
    IDENTITY = "identity and contact data"
    WORDS = "what somebody wrote"
    WISHES = "consents, and restrictions of processing"
    PSEUDONYM = "opaque id of a patient or a device"
    STAFF = "opaque id, role or public key of staff and services"
    TIMES = "time of an action or of enrolment"
    ACCESS = "who did what, when, to whom"
    SECRET = "keys and secrets"  # noqa: S105  # a kind of column
    TECHNICAL = "technical: counters, versions, sums; about no person"


class Protection(StrEnum):
    """How it is kept."""

    SEALED = "AES-256-GCM under the patient's data key"
    WRAPPED = "wrapped by the key service"
    TENANTS = "AES-256-GCM under a key of the tenant"
    HASHED = "a hash, or an HMAC under a key"
    PLAIN = "in the clear, behind row-level security"


class Subject(StrEnum):
    """Whom a table is about."""

    PATIENT = "patients"
    STAFF = "clinicians, administrators, services"
    BOTH = "patients; clinicians, administrators, services"
    NOBODY = "nobody"


class Column(NamedTuple):
    """One column: what it holds, and how it is kept."""

    kind: Kind
    protection: Protection


class Activity(NamedTuple):
    """One table.

    Attributes:
        purpose: What it is kept for.
        subject: Whom it is about.
        ends: When it goes.
        columns: What it holds.
    """

    purpose: str
    subject: Subject
    ends: str
    columns: Mapping[str, Column]


FORMS: Final = {
    "health": Column(Kind.HEALTH, Protection.SEALED),
    "identity": Column(Kind.IDENTITY, Protection.SEALED),
    "hashed-identity": Column(Kind.IDENTITY, Protection.HASHED),
    "words": Column(Kind.WORDS, Protection.SEALED),
    "wishes": Column(Kind.WISHES, Protection.SEALED),
    "plain-wishes": Column(Kind.WISHES, Protection.PLAIN),
    "id": Column(Kind.PSEUDONYM, Protection.PLAIN),
    "staff": Column(Kind.STAFF, Protection.PLAIN),
    "time": Column(Kind.TIMES, Protection.PLAIN),
    "access": Column(Kind.ACCESS, Protection.PLAIN),
    "wrapped": Column(Kind.SECRET, Protection.WRAPPED),
    "sealed-key": Column(Kind.SECRET, Protection.SEALED),
    "hash": Column(Kind.SECRET, Protection.HASHED),
    "tech": Column(Kind.TECHNICAL, Protection.PLAIN),
    "account": Column(Kind.IDENTITY, Protection.TENANTS),
    "account-sealed": Column(Kind.SECRET, Protection.TENANTS),
    "public": Column(Kind.STAFF, Protection.PLAIN),
}
"""Short names for the kinds of columns that there are."""
