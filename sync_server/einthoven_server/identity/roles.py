"""Roles, and how a caller stands to a patient. Pure; ``permissions`` decides by them, ``relations`` finds them out."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What kind of caller; a value is what the database keeps."""

    ADMIN = "admin"
    CLINICIAN = "clinician"
    PATIENT = "patient"
    DEVICE = "device"
    SERVICE = "service"
    NOBODY = "nobody"


GRANTABLE: Final = frozenset({Role.ADMIN, Role.CLINICIAN, Role.PATIENT, Role.SERVICE})
"""Roles that a principal may be given; a device gets its own by enrolment."""
CARERS: Final = frozenset({Role.CLINICIAN, Role.SERVICE})
"""Roles that can be in a care team."""
OWN_PATIENT: Final = frozenset({Role.PATIENT, Role.DEVICE})
"""Roles that belong to one patient, and to nobody else."""


class Relation(StrEnum):
    """How a caller stands to a patient, closest first; of several the closest counts."""

    SELF = "self"
    CARE_TEAM = "care_team"
    BREAK_GLASS = "break_glass"
    TENANT = "tenant"
    """Of the same tenant, nothing more; also where an operation concerns no patient."""
    NONE = "none"
    """Nobody known."""
