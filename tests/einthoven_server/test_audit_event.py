"""Every entry as a FHIR AuditEvent: valid R4, as the BALP pattern that it claims has it; the report on a patient."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import given
from hypothesis import strategies as st

from einthoven_server.audit.chain import FIRST_FORM, FORM, Entry, Event
from einthoven_server.audit.report import PatientReport
from einthoven_server.fhir.audit_event import audit_events
from einthoven_server.identity.permissions import Operation, Role

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
SERVER = "clinic.example"


def entry(**changed: Any) -> Entry:
    given: dict[str, Any] = {
        "at_ms": 1_700_000_000_123,
        "actor": "8f1c",
        "operation": "fhir.read",
        "patient": "p-1",
        "outcome": "allowed",
        "role": "clinician",
        "resource": "Observation",
        "resource_id": "o-1",
        "purpose": "TREAT",
    }
    return Entry(7, Event(**given | changed), bytes(32), bytes(32))


def mapped(**changed: Any) -> list[dict[str, Any]]:
    found = audit_events(entry(**changed), SERVER)
    for one in found:
        AuditEvent.model_validate(one)
    return found


def coding(element: dict[str, Any]) -> str:
    return str(element["type"]["coding"][0]["code"])


# What the patterns ask for: action, code of the interaction, types of client and server.
PATTERNS = {
    "Read": ("R", "read", "110152", "110153"),
    "Query": ("E", "search-type", "110153", "110152"),
    "Create": ("C", "create", "110153", "110152"),
    "Update": ("U", "update", "110153", "110152"),
    "Delete": ("D", "delete", "110150", "custodian"),
}


def hold_to_pattern(event: dict[str, Any]) -> None:
    (profile,) = event["meta"]["profile"]
    name = profile.removeprefix(PROFILE)
    action, interaction, client, server = PATTERNS[name.removeprefix("Patient")]
    assert event["type"]["code"] == "rest"
    assert (event["action"], event["outcome"], event["subtype"][0]["code"]) == (action, "0", interaction)
    assert interaction != "delete" or len(event["subtype"]) == 1
    by_type = {coding(agent): agent for agent in event["agent"]}
    assert len(by_type) == len(event["agent"])  # slices are told apart by type
    for system in (by_type[client], by_type[server]):
        assert system["who"]
        assert system["network"]
    (asking,) = [agent for agent in event["agent"] if agent["requestor"]]
    people = [agent for agent in event["agent"] if coding(agent) in {"IRCP", "AUT"}]
    assert all("network" not in one and one is asking for one in people)
    kinds = [one["type"]["code"] for one in event["entity"]]
    assert kinds == (["1", "2"] if name.startswith("Patient") else ["2"])
    about = event["entity"][-1]
    if interaction == "search-type":
        assert (about["role"]["code"], "what" in about) == ("24", False)
        assert base64.b64decode(about["query"])
    else:
        assert about["role"]["code"] == "4"
        assert about["what"]
    if name.startswith("Patient"):
        assert event["entity"][0]["role"]["code"] == "1"
        assert event["entity"][0]["what"]["reference"].startswith("Patient/")


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("patient", ["", "p-1"])
def test_every_operation_of_every_role_is_valid_and_as_its_pattern_has_it(
    operation: Operation, role: Role, patient: str
) -> None:
    (event,) = mapped(operation=operation.value, role=role.value, patient=patient)
    if "meta" in event:
        hold_to_pattern(event)
    (refused,) = mapped(operation=operation.value, role=role.value, patient=patient, outcome="forbidden")
    assert (refused["outcome"], refused["outcomeDesc"], "meta" in refused) == ("4", "forbidden", False)


@pytest.mark.parametrize(
    ("operation", "profile"),
    [
        ("fhir.read", "PatientRead"),
        ("results.list", "PatientQuery"),
        ("note.add", "PatientCreate"),
        ("result.annotate", "PatientUpdate"),
        ("note.delete", "PatientDelete"),
        ("device.exchange", None),
        ("something.never_heard_of", None),
    ],
)
def test_an_operation_has_its_pattern(operation: str, profile: str | None) -> None:
    (event,) = mapped(operation=operation)
    assert event.get("meta") == (None if profile is None else {"profile": [PROFILE + profile]})


def test_what_is_in_an_entry_is_in_its_event() -> None:
    (event,) = mapped(purpose="BTG")
    assert (event["id"], event["recorded"]) == ("7", "2023-11-14T22:13:20.123Z")
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"
    assert event["entity"][1]["what"] == {"reference": "Observation/o-1"}
    user = event["agent"][2]
    assert user["who"]["identifier"] == {"system": "urn:einthoven:principal", "value": "8f1c"}
    assert user["role"][0]["coding"][0]["code"] == "clinician"
    assert mapped(outcome="database_unavailable")[0]["outcome"] == "8"


def test_what_is_no_resource_is_named_by_its_kind() -> None:
    (event,) = mapped(operation="note.delete", resource="note", resource_id="0-1-2")
    assert event["entity"][1]["what"]["identifier"] == {"system": "urn:einthoven:object:note", "value": "0-1-2"}


def test_further_patients_have_an_event_each() -> None:
    found = mapped(others=("p-2", "p-3"))
    assert [one["id"] for one in found] == ["7", "7-2", "7-3"]
    assert [one["entity"][0]["what"]["reference"] for one in found] == ["Patient/p-1", "Patient/p-2", "Patient/p-3"]
    for one in found:
        hold_to_pattern(one)


def test_an_entry_of_before_maps_as_well() -> None:
    old = Entry(1, Event(0, "-", "device.enrol", "", "code_invalid"), bytes(32), bytes(32), FIRST_FORM)
    (event,) = audit_events(old, SERVER)
    AuditEvent.model_validate(event)
    assert [agent["requestor"] for agent in event["agent"]] == [True, False]


IDS = st.text("abcdef0123456789-", min_size=1, max_size=36)


@given(
    st.builds(
        Event,
        at_ms=st.integers(0, 253_402_300_799_999),
        actor=IDS,
        operation=st.sampled_from([one.value for one in Operation]),
        patient=st.just("") | IDS,
        outcome=st.sampled_from(["allowed", "forbidden", "internal"]),
        role=st.sampled_from(["", "admin", "clinician", "patient", "device", "service", "server"]),
        resource=st.sampled_from(["", "Observation", "note", "Patient"]),
        resource_id=st.just("") | IDS,
        purpose=st.sampled_from(["", "TREAT", "BTG", "PATRQT"]),
        others=st.lists(IDS, max_size=2).map(tuple),
    )
)
def test_any_entry_is_valid(event: Event) -> None:
    for one in audit_events(Entry(1, event, bytes(32), bytes(32), FORM), SERVER):
        AuditEvent.model_validate(one)
        if "meta" in one:
            hold_to_pattern(one)


# ---- the report on a patient --------------------------------------------------------------------------------------


def test_a_report_has_whoever_saw_the_patient_and_nobody_else() -> None:
    report = PatientReport("p-1", 100, 200)
    for seq, (at_ms, actor, patient, outcome, others) in enumerate(
        [
            (99, "a", "p-1", "allowed", ()),
            (100, "a", "p-1", "allowed", ()),
            (120, "b", "p-2", "allowed", ()),
            (130, "b", "p-2", "allowed", ("p-3", "p-1")),
            (140, "a", "p-1", "forbidden", ()),
            (200, "a", "p-1", "allowed", ()),
        ],
        1,
    ):
        event = Event(at_ms, actor, "fhir.read", patient, outcome, "clinician", others=others)
        report.add(Entry(seq, event, bytes(32), bytes(32)))
    assert [one.seq for one in report.entries] == [2, 4, 5]
    assert [tuple(one) for one in report.tallies()] == [
        ("a", "clinician", 1, 1, 100, 140),
        ("b", "clinician", 1, 0, 130, 130),
    ]
    document = report.document()
    assert [one["outcome"] for one in document["accesses"]] == ["allowed", "allowed", "forbidden"]
    assert document["accesses"][0]["at"] == "1970-01-01T00:00:00.100Z"
