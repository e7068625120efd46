"""FHIR R4: every resource is validated by ``fhir.resources``, and nothing is claimed that was not measured."""

from __future__ import annotations

import uuid

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.riskassessment import RiskAssessment
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_server.site import Answer, Device, Site, result_row

from einthoven.account import Account
from einthoven_protocol.limits import MAX_TIME_MS
from einthoven_protocol.messages import AnnotationRow, Register, ResultId
from einthoven_server.errors import RequestRefused
from einthoven_server.fhir.answers import page as page_bytes
from einthoven_server.fhir.capability import capability_statement
from einthoven_server.fhir.mapping import observation, risk_assessment
from einthoven_server.fhir.outcome import operation_outcome
from einthoven_server.fhir.search_parameters import parse_search
from einthoven_server.records.resource_ids import Kind, parse_result, resource_id, result_text
from einthoven_server.records.stored_result import StoredResult


def stored(*, notes: tuple[AnnotationRow, ...] = (), **changed: object) -> StoredResult:
    result = ResultId(3, 1, 7)
    return StoredResult(
        result=result,
        patient_id="patient-1",
        row=result_row(7, **changed),
        annotations=notes,
        risk_id=resource_id("tenant", result, Kind.RISK),
        observation_id=resource_id("tenant", result, Kind.OBSERVATION),
    )


def test_a_conclusive_result_is_final_with_its_codes() -> None:
    resource = observation(stored())
    Observation.model_validate(resource)
    assert resource["status"] == "final"
    assert resource["code"]["coding"][0]["code"] == "8884-9"
    assert resource["valueCodeableConcept"]["coding"] == [{"system": "http://snomed.info/sct", "code": "164889003"}]
    assert "dataAbsentReason" not in resource
    probability = [part for part in resource["component"] if "probability" in part["code"]["text"]]
    assert [part["valueQuantity"]["value"] for part in probability] == [0.931]


@pytest.mark.parametrize("reason", [1, 2, 3, 4, 5, 77])
def test_an_inconclusive_result_has_no_value_and_says_why(reason: int) -> None:
    given = stored(tier=0, reason=reason)
    resource, risk = observation(given), risk_assessment(given)
    Observation.model_validate(resource)
    RiskAssessment.model_validate(risk)
    assert (resource["status"], risk["status"]) == ("preliminary", "preliminary")
    assert "valueCodeableConcept" not in resource
    assert resource["dataAbsentReason"]["text"]
    assert not any("probability" in part["code"]["text"] for part in resource["component"])
    assert risk["prediction"][0]["qualitativeRisk"]["text"].startswith("Inconclusive")


def test_a_risk_assessment_rests_on_its_observation_and_claims_no_outcome() -> None:
    given = stored()
    resource = risk_assessment(given)
    RiskAssessment.model_validate(resource)
    assert resource["basis"] == [{"reference": f"Observation/{given.observation_id}"}]
    assert bytes(range(32)).hex() in resource["method"]["text"]
    (prediction,) = resource["prediction"]
    assert set(prediction) == {"qualitativeRisk", "rationale"}
    assert "not the probability of any outcome" in prediction["rationale"]


def test_what_people_said_is_noted() -> None:
    def by(rhythm: str, comment: str) -> AnnotationRow:
        return AnnotationRow(
            target=ResultId(3, 1, 7), author="a", rhythm=Register(rhythm, 1), comment=Register(comment, 1)
        )

    resource = observation(stored(notes=(by("N", "artefact"), by("", "see ward"), by("A", ""), by("", ""))))
    Observation.model_validate(resource)
    assert [note["text"] for note in resource["note"]] == ["rhythm N: artefact", "see ward", "rhythm A", "(withdrawn)"]


@given(
    rhythm=st.integers(0, 255),
    tier=st.integers(0, 255),
    reason=st.integers(0, 255),
    quality=st.integers(0, 2**15 - 1),
    started_at_ms=st.integers(0, MAX_TIME_MS),
    duration_ms=st.integers(0, 24 * 3600 * 1000),
    confidence_permille=st.integers(0, 1000),
)
def test_every_row_the_wire_can_carry_maps_to_valid_resources(**changed: int) -> None:
    given = stored(**changed)
    Observation.model_validate(observation(given))
    RiskAssessment.model_validate(risk_assessment(given))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 418, 429, 500, 503])
def test_every_refusal_is_a_valid_outcome(status: int) -> None:
    refused = RequestRefused("problem", "remedy", code="some_code")
    refused.status = status
    OperationOutcome.model_validate(operation_outcome(refused))


def test_an_empty_search_is_a_valid_bundle() -> None:
    asked = parse_search("RiskAssessment", [("patient", "x")], "https://x")
    octets = page_bytes("https://x", asked, [], total=0, following=None)
    assert Bundle.model_validate_json(octets).total == 0
    assert b"entry" not in octets


def test_the_capability_statement_is_valid() -> None:
    CapabilityStatement.model_validate(capability_statement("https://x/fhir/R4"))


def test_ids_depend_on_everything_and_are_stable() -> None:
    base = resource_id("t", ResultId(1, 2, 3), Kind.RISK)
    assert base == resource_id("t", ResultId(1, 2, 3), Kind.RISK)
    others = {
        resource_id("u", ResultId(1, 2, 3), Kind.RISK),
        resource_id("t", ResultId(2, 2, 3), Kind.RISK),
        resource_id("t", ResultId(1, 3, 3), Kind.RISK),
        resource_id("t", ResultId(1, 2, 4), Kind.RISK),
        resource_id("t", ResultId(1, 2, 3), Kind.OBSERVATION),
    }
    assert len(others | {base}) == 6
    assert base.version == 8


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_a_results_text_is_read_back(alias: int, epoch: int, counter: int) -> None:
    assert parse_result(result_text(ResultId(alias, epoch, counter))) == ResultId(alias, epoch, counter)


# ---- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def device(site: Site) -> Device:
    device = await site.new_device()
    await device.exchange(device.rows(1, 3))
    return device


@pytest.fixture
async def clinician(site: Site) -> Account:
    return (await site.new_principal("clinician"))[1]


async def get(site: Site, path: str, token: Account | None) -> Answer:
    answer = await site.send("GET", f"/fhir/R4{path}", token=token)
    assert answer.headers["Content-Type"] == "application/fhir+json"
    if answer.status != 200:
        OperationOutcome.model_validate(answer.json)
    return answer


async def test_search_read_and_follow_the_basis(site: Site, device: Device, clinician: Account) -> None:
    page = (await get(site, f"/RiskAssessment?subject=Patient/{device.identity.patient_id}", clinician)).json
    Bundle.model_validate(page)
    assert len(page["entry"]) == 3
    first = page["entry"][0]["resource"]
    assert (await get(site, f"/RiskAssessment/{first['id']}", clinician)).json == first
    basis = (await get(site, f"/{first['basis'][0]['reference']}", clinician)).json
    Observation.model_validate(basis)
    assert basis["subject"] == {"reference": f"Patient/{device.identity.patient_id}"}
    result = ResultId(device.alias, 1, 1)
    assert first["id"] == str(resource_id(site.tenant, result, Kind.RISK))


async def test_a_search_comes_in_pages(site: Site, device: Device, clinician: Account) -> None:
    path = f"/RiskAssessment?subject=Patient/{device.identity.patient_id}&_count=2"
    page = (await get(site, path, clinician)).json
    links = {link["relation"]: link["url"] for link in page["link"]}
    assert len(page["entry"]) == 2
    following = await site.send("GET", links["next"].removeprefix(site.url), token=clinician)
    Bundle.model_validate(following.json)
    assert [entry["resource"]["identifier"][0]["value"] for entry in following.json["entry"]] == [f"{device.alias}-1-3"]
    assert len(following.json["link"]) == 1


async def test_the_capability_statement_is_served(site: Site, clinician: Account) -> None:
    statement = (await get(site, "/metadata", clinician)).json
    CapabilityStatement.model_validate(statement)
    assert statement["implementation"]["url"] == f"{site.url}/fhir/R4"


async def test_a_subject_unknown_or_foreign_has_no_results(site: Site, clinician: Account) -> None:
    page = (await get(site, f"/RiskAssessment?subject=Patient/{uuid.uuid4()}", clinician)).json
    assert "entry" not in page


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?subject=Patient/",
        "?subject=Device/1",
        "?subject=Patient/a'b",
        "?subject=Patient/x,Patient/y",
        "?subject=Patient/x&_include=RiskAssessment:encounter",
        "?subject=Patient/x&_include=*",
        "?subject=Patient/x&_revinclude=Observation:subject",
        "?subject=Patient/x&_has:Observation:subject:code=1",
        "?subject=Patient/x&_sort=-status",
        "?subject=Patient/x&_sort=subject.name",
        "?subject=https://elsewhere.example/fhir/R4/Patient/x",
        "?subject:Patient.name=Smith",
        "?subject=Patient/x&_count=0",
        "?subject=Patient/x&_count=-1",
        "?subject=Patient/x&_count=1e3",
        "?subject=Patient/x&_after=1",
    ],
)
async def test_a_search_it_does_not_know_is_refused(site: Site, clinician: Account, query: str) -> None:
    answer = await get(site, f"/RiskAssessment{query}", clinician)
    assert answer.status == 400


@pytest.mark.parametrize("path", ["RiskAssessment/{}", "Observation/{}"])
async def test_an_id_that_is_not_there_is_404(site: Site, device: Device, clinician: Account, path: str) -> None:
    for wrong in (str(uuid.uuid4()), str(uuid.uuid4()).upper(), "x", "%00", "1-1-1"):
        assert (await get(site, "/" + path.format(wrong), clinician)).status == 404
    # The Observation's id is none of a RiskAssessment, and the other way round.
    kind = Kind.OBSERVATION if path.startswith("Risk") else Kind.RISK
    swapped = resource_id(site.tenant, ResultId(device.alias, 1, 1), kind)
    assert (await get(site, "/" + path.format(swapped), clinician)).status == 404


async def test_no_token_another_role_and_an_unknown_address_get_an_outcome(site: Site, clinician: Account) -> None:
    assert (await get(site, "/metadata", None)).status == 200
    assert (await get(site, "/Patient/x", None)).status == 401
    assert (await get(site, "/RiskAssessment?subject=Patient/x", site.admin)).status == 403
    assert (await get(site, "/Patient/1", clinician)).status == 404
    answer = await site.send("DELETE", "/fhir/R4/metadata", token=clinician)
    assert answer.status == 405
    OperationOutcome.model_validate(answer.json)
