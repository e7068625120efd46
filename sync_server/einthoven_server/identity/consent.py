"""What a patient agreed to, and whether that lets a request through: purpose x category x actor. Pure.

It is asked in one place, ``relations``: who is not let through has no relation to the patient, and so gets what
``permissions`` gives to strangers.

It deliberately governs what is shown and written of a patient, not who runs the system (care teams, codes, devices),
and nothing of what a patient or their devices do with their own.

Invariants:
    1. Every operation either names the categories that it shows, or is in ``UNGOVERNED``.
    2. Of several consents that speak of a request, one that denies decides; where none speaks, the tenant's policy.
    3. Restriction (GDPR article 18) comes before consent: only purposes that it names go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from einthoven_server.audit.trail import PURPOSES
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.roles import CARERS, Relation, Role


class Category(StrEnum):
    """What is shown of a patient."""

    DEMOGRAPHICS = "demographics"
    RESULTS = "results"
    """Results with what was said of them, and the devices that they come from."""
    SIGNAL = "signal"
    """The ECG itself."""
    NOTES = "notes"
    """The diary."""
    SETTINGS = "settings"
    """Documents that were decided for the patient's devices."""


class Purpose(StrEnum):
    """What for: codes of HL7's v3-ActReason."""

    TREAT = "TREAT"
    HOPERAT = "HOPERAT"
    BTG = "BTG"
    HSYSADMIN = "HSYSADMIN"


CONSENTED_PURPOSES: Final = (Purpose.TREAT, Purpose.HOPERAT, Purpose.BTG)
"""Those that a consent can speak of."""

_RESULTS: Final = frozenset({Category.RESULTS})
_DEMOGRAPHICS: Final = frozenset({Category.DEMOGRAPHICS})
_NOTES: Final = frozenset({Category.NOTES})
CATEGORIES: Final[Mapping[Operation, frozenset[Category]]] = MappingProxyType(
    {
        Operation.READ_SIGNAL: frozenset({Category.SIGNAL}),
        Operation.LIST_RESULTS: _RESULTS,
        Operation.ANNOTATE_RESULT: _RESULTS,
        Operation.LIST_NOTES: _NOTES,
        Operation.ADD_NOTE: _NOTES,
        Operation.DELETE_NOTE: _NOTES,
        Operation.LIST_PATIENT_DOCUMENTS: frozenset({Category.SETTINGS}),
        Operation.READ_RESOURCE: _RESULTS,
        Operation.SEARCH_RESOURCES: _RESULTS,
        Operation.READ_PATIENT: _DEMOGRAPHICS,
        Operation.SEARCH_PATIENTS: _DEMOGRAPHICS,
        Operation.CHANGE_PATIENT: _DEMOGRAPHICS,
        Operation.TRANSACT: _DEMOGRAPHICS,
        Operation.EXPORT_PATIENT: frozenset(Category),
        Operation.FETCH_EXPORT: _DEMOGRAPHICS | _RESULTS,
    }
)
"""What an operation shows, or lets be written; all of it has to be let through."""
UNGOVERNED: Final = frozenset(Operation) - CATEGORIES.keys()
"""Operations about the system, or about who may do what; written out in the tests."""


class Period(msgspec.Struct, frozen=True, omit_defaults=True):
    """A time as it was given, and what it means.

    Attributes:
        begin_ms: From then on, ms since 1970.
        end_ms: Before then.
        start: As given, if it was.
        end: As given, if it was.
    """

    begin_ms: int
    end_ms: int
    start: str | None = None
    end: str | None = None

    def has(self, at_ms: int) -> bool:
        """Whether a moment is in it."""
        return self.begin_ms <= at_ms < self.end_ms


class Provision(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception of a consent; of what is empty, any fits.

    Attributes:
        roles: Of who asks.
        principals: Who asks.
        purposes: What for.
        categories: What of.
        period: When.
    """

    roles: tuple[Role, ...] = ()
    principals: tuple[str, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    categories: tuple[Category, ...] = ()
    period: Period | None = None

    def fits(self, asked: Asked, category: Category) -> bool:
        """Whether it speaks of a request."""
        somebody = bool(self.roles or self.principals)
        return (
            (not somebody or asked.role in self.roles or asked.principal_id in self.principals)
            and (not self.purposes or asked.purpose in self.purposes)
            and (not self.categories or category in self.categories)
            and (self.period is None or self.period.has(asked.now_ms))
        )


class Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a consent says; what is sealed.

    Attributes:
        permits: Whether it permits what no exception fits (OPTIN), or denies it (OPTOUT).
        said: When it was given, as it was given.
        exceptions: What it decides the other way round.
        period: When it counts; always where ``None``.
    """

    permits: bool
    said: str
    exceptions: tuple[Provision, ...] = ()
    period: Period | None = None

    def says(self, asked: Asked, category: Category) -> bool | None:
        """Whether it permits a request; ``None`` where it does not speak of it."""
        if self.period is not None and not self.period.has(asked.now_ms):
            return None
        return self.permits is not any(one.fits(asked, category) for one in self.exceptions)


class Consent(NamedTuple):
    """A consent as stored.

    Attributes:
        consent_id: UUID.
        patient_id: Whose.
        version: From 1.
        active: Whether it counts; one that was withdrawn never counts again.
        updated_at_ms: When it was last written, ms since 1970.
        agreement: What it says.
    """

    consent_id: str
    patient_id: str
    version: int
    active: bool
    updated_at_ms: int
    agreement: Agreement


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant's.

    Attributes:
        permitted_without_consent: Purposes for which care teams see a patient who said nothing.
        emergency_overrides_consent: Whether breaking the glass needs no consent. It never overrides a restriction.
    """

    permitted_without_consent: tuple[Purpose, ...] = (Purpose.TREAT, Purpose.HOPERAT)
    emergency_overrides_consent: bool = True


class Standing(NamedTuple):
    """What a patient and the tenant said.

    Attributes:
        policy: The tenant's.
        agreements: The patient's, as far as they are active.
        restricted: Whether the patient's data is restricted.
        purposes: Those for which it may be seen all the same.
    """

    policy: Policy
    agreements: tuple[Agreement, ...] = ()
    restricted: bool = False
    purposes: frozenset[str] = frozenset()


class Asked(NamedTuple):
    """A request.

    Attributes:
        role: Of who asks.
        principal_id: Who.
        purpose: What for.
        now_ms: When, ms since 1970.
    """

    role: Role
    principal_id: str
    purpose: str
    now_ms: int


def categories_of(operation: Operation) -> frozenset[Category]:
    """What an operation shows of a patient."""
    return CATEGORIES.get(operation, frozenset())


def purpose_of(role: Role, relation: Relation) -> str:
    """For what a role in a relation asks."""
    return Purpose.BTG if relation is Relation.BREAK_GLASS else PURPOSES.get(role, "")


def governs(role: Role, relation: Relation, categories: Iterable[Category], *, restricted: bool) -> bool:
    """Whether there is anything to ask: the patient's own, strangers' and the system's requests need none."""
    if not categories or relation in (Relation.SELF, Relation.NONE):
        return False
    return restricted or (role in CARERS and relation is not Relation.TENANT)


def lets_through(standing: Standing, asked: Asked, categories: Iterable[Category]) -> bool:
    """Whether a request that is governed goes on."""
    if standing.restricted and asked.purpose not in standing.purposes:
        return False
    if asked.role not in CARERS:
        return True
    policy = standing.policy
    if asked.purpose == Purpose.BTG and policy.emergency_overrides_consent:
        return True
    default = asked.purpose in policy.permitted_without_consent
    return all(_permits(standing.agreements, asked, one, default=default) for one in categories)


def _permits(agreements: Iterable[Agreement], asked: Asked, category: Category, *, default: bool) -> bool:
    said = {agreement.says(asked, category) for agreement in agreements} - {None}
    return False not in said if said else default
