"""What the guarded request path refuses with, each said in one place. Pure.

It deliberately says nothing of what is stored: who is refused learns why, never about whom.
"""

from __future__ import annotations

from einthoven_server.errors import Forbidden, RequestRefused, Unauthorized
from einthoven_server.identity.permissions import Operation, Relation, Role, decide


def erased() -> RequestRefused:
    """The answer to a device whose patient was erased."""
    return Unauthorized("this patient was erased here", "erase what this device holds", code="patient_erased")


def revoked() -> RequestRefused:
    """The answer to a revoked device."""
    return Unauthorized("this device was revoked", "ask the clinic for a new enrolment code", code="device_revoked")


def replayed() -> RequestRefused:
    """The answer to what counts once and was seen before: a nonce, a proof."""
    return Unauthorized("this request was seen before", "sign anew", code="replayed")


def forbidden() -> Forbidden:
    """The answer to a role that may never do what it asks for."""
    return Forbidden("this role may not do that", "use a token of the right role")


def require(role: Role, operation: Operation, relation: Relation) -> None:
    """Ask the table.

    Raises:
        Forbidden: It does not allow this.
    """
    if not decide(role, operation, relation).allowed:
        raise forbidden()
