"""What results become, over HTTP: searches, ECGs, what comes along, and searches as an attack (15, 16, 20)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.provenance import Provenance
from tests.einthoven_server.signal_site import SignalDevice, make_segment
from tests.einthoven_server.site import STARTED_AT_MS, Answer, Device, Site, result_row

from einthoven.account import Account
from einthoven_protocol import merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import ResultId, ResultRow, Seal
from einthoven_server.database import Connection, Scope
from einthoven_server.fhir.mapping import instant
from einthoven_server.fhir.search_parameters import PARAMETERS
from einthoven_server.records.resource_ids import Kind, resource_id

ECG = "urn:iso:std:iso:11073:10101|131328"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def get(site: Site, path: str, token: Account, status: int = 200) -> Any:
    answer: Answer = await site.send("GET", f"/fhir/R4{path}", token=token)
    assert answer.status == status, (path, answer.body)
    if status >= 400:
        OperationOutcome.model_validate(answer.json)
    elif answer.json["resourceType"] == "Bundle":
        Bundle.model_validate(answer.json)
    return answer.json


def counters(page: Any, mode: str = "match") -> list[int]:
    shown = [entry["resource"] for entry in page.get("entry", []) if entry["search"]["mode"] == mode]
    return [int(one["identifier"][0]["value"].rpartition("-")[2]) for one in shown]


@pytest.fixture
async def clinician(site: Site) -> Account:
    return (await site.new_principal("clinician"))[1]


@pytest.fixture
async def device(site: Site) -> Device:
    """Nine results, half a minute each: the third inconclusive, the others normal and AF by turns."""
    device = await site.new_device()
    rows = [result_row(n, rhythm=n % 2, reason=1 if n == 3 else 0, tier=0 if n == 3 else 1) for n in range(1, 10)]
    await device.exchange(rows)
    return device


def at(n: int) -> str:
    return instant(STARTED_AT_MS + 30_000 * n)


async def test_searches_by_date_status_code_and_device(site: Site, device: Device, clinician: Account) -> None:
    patient = device.identity.patient_id
    for kind, query, expected in (
        ("Observation", f"date=ge{at(4)}&date=lt{at(7)}", [4, 5, 6]),
        ("Observation", f"date=sa{at(7)}", [8, 9]),
        ("Observation", f"date=eb{at(3)}", [1, 2]),
        ("Observation", f"date={at(1)[:10]}", [*range(1, 10)]),
        ("Observation", "date=2001", []),
        ("Observation", "status=preliminary", [3]),
        ("Observation", "status=final,preliminary", [*range(1, 10)]),
        ("Observation", "status=amended", []),
        ("Observation", "code=http://loinc.org|8884-9", [*range(1, 10)]),
        ("Observation", "code=8867-4", []),
        ("Observation", "value-concept=http://snomed.info/sct|164889003", [1, 5, 7, 9]),
        ("Observation", f"device=Device/{device.identity.device_id}&_count=2", [1, 2]),
        ("Observation", f"device={uuid.uuid4()}", []),
        ("Observation", f"identifier=urn:einthoven:result|{device.alias}-1-5", [5]),
        ("Observation", "identifier=urn:other|1-1-5", []),
        ("Observation", f"code={ECG}", []),
        ("RiskAssessment", f"date=gt{at(8)}&_sort=-date", [9, 8]),
        ("RiskAssessment", f"performer={device.identity.device_id}&date=le{at(3)}", [1, 2]),
        ("DiagnosticReport", f"category=EC&status=final&date=lt{at(4)}", [1, 2]),
        ("DiagnosticReport", "category=LAB", []),
        ("DiagnosticReport", "code=http://loinc.org|11524-6&_count=3", [1, 2, 3]),
    ):
        page = await get(site, f"/{kind}?patient={patient}&{query.replace('+', '%2B')}", clinician)
        assert counters(page) == expected, (kind, query)
    for name in ("patient", "subject"):
        for value in (patient, f"Patient/{patient}", f"{site.url}/fhir/R4/Patient/{patient}"):
            page = await get(site, f"/Observation?{name}={value}&date=eb{at(2)}", clinician)
            assert (counters(page), page["total"]) == ([1], 1)


async def test_pages_lead_through_all_both_ways(site: Site, device: Device, clinician: Account) -> None:
    second = await site.new_device(device.identity.patient_id)
    await second.exchange(second.rows(1, 9))
    for order in ("date", "-date"):
        path: str | None = f"/Observation?patient={device.identity.patient_id}&_count=4&_sort={order}"
        times: list[str] = []
        ids: list[str] = []
        while path is not None:
            page = await get(site, path, clinician)
            assert page["total"] == 18
            times += [entry["resource"]["effectivePeriod"]["start"] for entry in page["entry"]]
            ids += [entry["resource"]["id"] for entry in page["entry"]]
            links = {link["relation"]: link["url"] for link in page["link"]}
            path = links["next"].removeprefix(f"{site.url}/fhir/R4") if "next" in links else None
        assert len(set(ids)) == len(ids) == 18
        assert times == sorted(times, reverse=order == "-date")


async def test_a_search_sees_what_came_and_not_what_went(
    site: Site, device: Device, clinician: Account, scope: Scope, connection: Connection
) -> None:
    path = f"/Observation?patient={device.identity.patient_id}"
    assert counters(await get(site, path, clinician)) == [*range(1, 10)]
    await device.exchange(device.rows(10, 2))
    assert counters(await get(site, path, clinician)) == [*range(1, 12)]
    where = "tenant = $1 AND device_alias = $2 AND counter = 4"
    await connection.execute(f"DELETE FROM result_row WHERE {where}", scope.tenant, device.alias)
    await connection.execute(
        "INSERT INTO tombstone SELECT $1, $2, 1, $3, 1, 4, '', $4, 0, commit_seq + 1, 0, $5 FROM shard_head "
        "WHERE shard = $1",
        *scope,
        device.alias,
        device.identity.patient_id,
        False,
    )
    assert counters(await get(site, path, clinician)) == [1, 2, 3, *range(5, 12)]


async def test_every_kind_can_be_read_and_is_valid(site: Site, device: Device, clinician: Account) -> None:
    result = ResultId(device.alias, 1, 2)
    names = {kind: str(resource_id(site.tenant, result, kind)) for kind in Kind}
    report = await get(site, f"/DiagnosticReport/{names[Kind.REPORT]}", clinician)
    DiagnosticReport.model_validate(report)
    assert report["result"] == [{"reference": f"Observation/{names[Kind.OBSERVATION]}"}]
    assert report["conclusion"] == "Routine review"
    found = await get(site, f"/Provenance/{names[Kind.PROVENANCE]}", clinician)
    Provenance.model_validate(found)
    assert found["entity"][0]["what"]["identifier"]["value"] == bytes(range(32)).hex()
    assert {target["reference"] for target in found["target"]} == {
        f"Observation/{names[Kind.OBSERVATION]}",
        f"RiskAssessment/{names[Kind.RISK]}",
        f"DiagnosticReport/{names[Kind.REPORT]}",
    }
    for kind, path in (
        ("Provenance", names[Kind.REPORT]),
        ("DiagnosticReport", names[Kind.RISK]),
        ("Observation", names[Kind.ECG]),
    ):
        await get(site, f"/{kind}/{path}", clinician, 404)
    page = await get(site, f"/Provenance?patient={device.identity.patient_id}&recorded=lt{at(3)}", clinician)
    assert len(page["entry"]) == 1
    page = await get(site, f"/Observation?_id={names[Kind.OBSERVATION]},{uuid.uuid4()}", clinician)
    assert counters(page) == [2]


async def test_attack_15_only_what_may_be_seen_comes_along(site: Site, device: Device, clinician: Account) -> None:
    stranger = await site.new_device()
    await stranger.exchange(stranger.rows(1, 2))
    patient = device.identity.patient_id
    page = await get(
        site,
        f"/DiagnosticReport?patient={patient}&_count=2&_include=DiagnosticReport:result"
        "&_include=DiagnosticReport:subject&_revinclude=Provenance:target",
        clinician,
    )
    along = [entry["resource"] for entry in page["entry"] if entry["search"]["mode"] == "include"]
    assert sorted(one["resourceType"] for one in along) == ["Observation"] * 2 + ["Patient"] + ["Provenance"] * 2
    assert stranger.identity.patient_id not in msgspec.json.encode(page).decode()
    for refused in ("_include=*", "_include=Observation:performer", "_revinclude=Observation:subject", "_revinclude=*"):
        await get(site, f"/Observation?patient={patient}&{refused}", clinician, 400)


async def test_attack_16_nothing_reaches_into_another_resource(site: Site, device: Device, clinician: Account) -> None:
    patient = device.identity.patient_id
    for refused in (
        "_has:Observation:subject:code=8884-9",
        "subject.name=Muster",
        "subject:Patient.birthdate=1980",
        "patient.identifier=x",
        "device.patient=x",
        "_sort=subject.name",
        "_sort=value-concept",
        "_filter=name+eq+x",
        "_query=x",
        "_content=x",
        "_text=x",
        "_list=x",
        "_contained=true",
    ):
        outcome = await get(site, f"/Observation?patient={patient}&{refused}", clinician, 400)
        assert outcome["issue"][0]["expression"] == [f"http.{refused.partition('=')[0]}"]


async def test_attack_20_whatever_a_search_says_it_is_answered_or_refused(
    site: Site, device: Device, clinician: Account
) -> None:
    seed = random.Random(20)
    nasty = [
        "' OR 1=1 --",
        "'; DROP TABLE patient; --",
        "%(x)s $1 {0}",
        "(a+)+$",
        "%resource.descendants()",
        "../../etc/passwd",
        "\x00",
        "\ud7ff\uffff",
        "٣",
        "a" * 900,
        ",".join("a" * 40),
        "|" * 9,
        "\\,",
        "-1",
        "1e999",
        "9999-12-31",
        "0000",
        "ge0001-01-01",
        "9" * 400,
        f"Patient/{device.identity.patient_id}",
        device.identity.patient_id,
        "https://x/Patient/1",
    ]
    names = sorted({name for known in PARAMETERS.values() for name in known})
    names += [
        "_count",
        "_sort",
        "_page",
        "_include",
        "_format",
        "_total",
        "x'y",
        "a.b",
        "",
        "_has:A:b:c",
        "date:missing",
    ]
    for _ in range(400):
        kind = seed.choice(sorted(PARAMETERS))
        query = [(seed.choice(names), seed.choice(nasty)) for _ in range(seed.randint(1, 3))]
        if seed.random() < 0.5:
            query.append(("patient", device.identity.patient_id))
        text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
        token = site.admin if kind == "AuditEvent" else clinician
        if seed.random() < 0.5:
            answer = await site.send("GET", f"/fhir/R4/{kind}?{text}", token=token)
        else:
            answer = await site.send("POST", f"/fhir/R4/{kind}/_search", token=token, data=text.encode(), headers=FORM)
        assert answer.status in {200, 400, 406}, (kind, query, answer.body)
        (Bundle if answer.status == 200 else OperationOutcome).model_validate(answer.json)


# ---- ECG ----------------------------------------------------------------------------------------------------------


class EcgDevice(SignalDevice):
    """A device that seals its results with the signals it recorded."""

    def seal(self, rows: Sequence[ResultRow], epoch: int | None = None) -> Seal:
        given = self.epoch if epoch is None else epoch
        results = merkle.tree_hash([encode_result_row(row) for row in rows])
        segments = merkle.tree_hash([self.digests[given, row.counter] for row in rows])
        run = (given, rows[0].counter, rows[-1].counter)
        signature = self.key.sign(merkle.seal_message(self.alias, *run, results, segments))
        return Seal(
            epoch=run[0],
            first_counter=run[1],
            last_counter=run[2],
            results_root=results,
            segments_root=segments,
            signature=signature,
        )


async def test_an_ecg_is_shown_as_it_was_recorded(site: Site, clinician: Account) -> None:
    made = await site.new_device()
    device = EcgDevice(site, made.key, made.identity)
    segments = [make_segment(n) for n in range(4)]
    segments[1].samples_uv[7] = -(2**31)
    run = device.record(1, segments)
    await device.exchange(device.rows(1, 4))
    address, parcel = await device.begin(run)
    assert (await device.patch(address, 0, parcel)).status == 204
    patient = device.identity.patient_id

    page = await get(site, f"/Observation?patient={patient}&code={ECG}&_count=3", clinician)
    assert [counters(page), "total" in page] == [[1, 2, 3], False]
    links = {link["relation"]: link["url"] for link in page["link"]}
    rest = await get(site, links["next"].removeprefix(f"{site.url}/fhir/R4"), clinician)
    assert counters(rest) == [4]
    second = page["entry"][1]["resource"]
    Observation.model_validate(second)
    assert second["id"] == str(resource_id(site.tenant, ResultId(device.alias, 1, 2), Kind.ECG))
    assert await get(site, f"/Observation/{second['id']}", clinician) == second
    (component,) = second["component"]
    sampled = component["valueSampledData"]
    assert (sampled["period"], sampled["origin"]["unit"]) == (7.8125, "uV")
    shown = sampled["data"].split(" ")
    assert shown[7] == "E"
    expected = np.delete(segments[1].samples_uv, 7)
    assert [int(text) for place, text in enumerate(shown) if place != 7] == expected.tolist()

    report = await get(
        site, f"/DiagnosticReport?patient={patient}&_count=1&_include=DiagnosticReport:result", clinician
    )
    assert len(report["entry"][0]["resource"]["result"]) == 2
    assert counters(report, "include") == [1, 1]
    by_name = f"/Observation?identifier=urn:einthoven:result|{device.alias}-1-3&code={ECG}"
    await get(site, by_name, clinician, 400)
    both = f"/Observation?patient={patient}&code={ECG},http://loinc.org|8884-9"
    await get(site, both, clinician, 400)


async def test_searches_at_once_and_during_pushes_agree(site: Site, device: Device, clinician: Account) -> None:
    path = f"/Observation?patient={device.identity.patient_id}&_count=100"

    async def push() -> None:
        for first in range(10, 60, 10):
            await device.exchange(device.rows(first, 10))

    pages, _ = await asyncio.gather(
        asyncio.gather(*(get(site, path, clinician) for _ in range(20))),
        push(),
    )
    for page in pages:
        seen = counters(page)
        assert seen == [*range(1, len(seen) + 1)]
        assert page["total"] == len(seen)
    assert counters(await get(site, path, clinician)) == [*range(1, 60)]
