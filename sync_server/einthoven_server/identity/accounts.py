"""People's accounts, invitations to them and what they are set up with, as values. Pure.

It deliberately makes nothing: ``account_store`` and ``account_factors`` find and write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from einthoven_server.identity.roles import Role

RESOURCE: Final = "account"
"""What audit entries call it."""


class NewAccount(NamedTuple):
    """Whom an account is for.

    Attributes:
        name: The login name.
        role: What kind of principal.
        patient_id: Whose it is, for a patient.
    """

    name: str
    role: Role
    patient_id: str | None = None


class Invitation(NamedTuple):
    """What is given to a person; the code is kept nowhere.

    Attributes:
        account_id: The principal's id.
        code: By which the account is set up, once.
        expires_at_ms: UTC, ms since 1970.
    """

    account_id: str
    code: str
    expires_at_ms: int


class Holder(NamedTuple):
    """The principal whom an account stands for.

    Attributes:
        principal_id: Its id.
        key_version: Counts what ends all tokens of before.
        role: What kind.
        patient_id: Whom a patient's belongs to.
    """

    principal_id: str
    key_version: int
    role: Role
    patient_id: str | None


class Account(NamedTuple):
    """An account that was set up.

    Attributes:
        holder: Who it is.
        password: The hash, a PHC string.
        totp: The secret of its authenticator.
        totp_step: The last step of time whose code was used.
    """

    holder: Holder
    password: str
    totp: bytes
    totp_step: int


class OpenInvitation(NamedTuple):
    """An invitation as the database has it.

    Attributes:
        holder: For whom.
        name: The login name.
        verifier_hash: Of its code.
        expires_at_ms: UTC, ms since 1970.
        totp: The secret that was shown, once it was opened.
    """

    holder: Holder
    name: str
    verifier_hash: bytes
    expires_at_ms: int
    totp: bytes | None


class Listed(NamedTuple):
    """An account as an admin sees it.

    Attributes:
        account_id: The principal's id.
        name: The login name.
        role: What kind of principal.
        patient_id: Whose it is, for a patient.
        created_at_ms: UTC, ms since 1970.
        revoked: Whether it may no longer do anything.
        ready: Whether it was set up.
        invited_until_ms: When an invitation that is open expires.
        recovery_codes: How many are left.
        passkeys: How many there are.
    """

    account_id: str
    name: str
    role: str
    patient_id: str | None
    created_at_ms: int
    revoked: bool
    ready: bool
    invited_until_ms: int | None
    recovery_codes: int
    passkeys: int


class SetUp(NamedTuple):
    """With what an account is set up.

    Attributes:
        password: The hash, a PHC string.
        totp: The authenticator's secret.
        totp_step: Whose code was shown for it.
        recovery_codes: As they are shown.
    """

    password: str
    totp: bytes
    totp_step: int
    recovery_codes: Sequence[str]
