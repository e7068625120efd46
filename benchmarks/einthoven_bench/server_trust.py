"""What a trusted server costs, and whether it holds: throughput with and without, tokens, permissions, oracle.

It deliberately makes no figures. The servers are real, on this machine, and so are their callers' keys.

Invariants:
    1. Both sides of a comparison take turns, so that a machine that is busy for a while is busy for both.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
import numpy as np
import psutil

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.results import WindowResult
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.sync_ingest import Push, measure_ingest, prepared, sent
from einthoven_bench.sync_site import CALL_TIMEOUT_S, Site
from einthoven_protocol.messages import ResultId
from einthoven_protocol.resource_ids import resource_id
from einthoven_server.identity.permissions import Concern, Operation, Relation, Role, concern_of, decide, may_ever

_NOTHING_THERE: Final = frozenset(
    {
        Operation.READ_SIGNAL,
        Operation.EXPORT,
        Operation.FETCH_EXPORT,
        Operation.REMOVE_CARE,
        Operation.DELETE_NOTE,
        Operation.RESET_ACCOUNT,
        Operation.READ_AUDIT_EVENT,
        Operation.READ_CONSENT,
        Operation.WITHDRAW_CONSENT,
    }
)
"""Operations that are allowed and find nothing: no signal, export, note, account or consent is there."""
_NAMED_BY_BODY: Final = frozenset({Operation.CREATE_CONSENT})
"""Whom it is about stands in the body, which these requests lack: nobody gets further, whoever asks."""
_REFUSED: Final = frozenset({401, 403, 404})


class Compared(NamedTuple):
    """Rows a second, in turns.

    Attributes:
        with_trust: Of the server.
        without: Of the one without audit and row-level security.
        rows: Of each turn.
    """

    with_trust: list[float]
    without: list[float]
    rows: int


def compare_throughput(
    trusted: Site, bare: Site, judged: Sequence[WindowResult], devices: int, rows: int, turns: int
) -> Compared:
    """Push to both, by turns; the first turn warms them up."""
    found = Compared([], [], devices * rows)
    for turn in range(turns + 1):
        for site, rates in ((trusted, found.with_trust), (bare, found.without)):
            run = measure_ingest(site, judged, devices, rows)
            if turn:
                rates.append(run.rows / run.wall_s)
    return found


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Processor time of the server and its PostgreSQL, s.

    Attributes:
        requests: How many of each.
        issue_cpu_s: Of one token.
        guarded_cpu_s: Of one read with a token and a proof, audit included.
        open_cpu_s: Of one read that asks nobody who they are.
    """

    requests: int
    issue_cpu_s: float
    guarded_cpu_s: float
    open_cpu_s: float


def token_cost(site: Site, requests: int) -> TokenCost:
    """What a token costs to give, and to take.

    Raises:
        MeasurementFailed: The server refuses.
    """

    async def measured() -> TokenCost:
        async with _client(site) as client:
            shows = Authorization(site.url, site.admin)

            async def issue(n: int) -> None:
                del n
                await Authorization(site.url, site.admin).headers(client, "GET", "/")

            async def guarded(n: int) -> None:
                del n
                await _got(client, site, "/v1/documents", await shows.headers(client, "GET", "/v1/documents"))

            async def free(n: int) -> None:
                del n
                await _got(client, site, "/v1/ca", {})

            costs = [await _cpu_of(act, requests) for act in (issue, guarded, free)]
            return TokenCost(requests, *costs)

    return asyncio.run(measured())


async def _cpu_of(act: Callable[[int], Awaitable[None]], requests: int) -> float:
    for n in range(max(1, requests // 10)):
        await act(n)
    began = _server_cpu_s()
    for n in range(requests):
        await act(n)
    return (_server_cpu_s() - began) / requests


def _server_cpu_s() -> float:
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return float(sum(one.user + one.system for one in times))


class Oracle(NamedTuple):
    """Whether another patient's id can be told from one that does not exist.

    Attributes:
        requests: Of both kinds.
        differing: Answers that differ in status, body or headers.
        auc: Of the time they take: 0.5 where nobody can tell, never below.
    """

    requests: int
    differing: int
    auc: float


def existence_oracle(site: Site, patient_id: str, requests: int) -> Oracle:
    """Ask as a clinician who does not treat the patient."""
    stranger = site.principal("clinician")

    async def measured() -> Oracle:
        times: dict[bool, list[float]] = {True: [], False: []}
        seen: dict[bool, set[tuple[int, bytes, tuple[tuple[str, str], ...]]]] = {True: set(), False: set()}
        there_is = [True, False] * (requests // 2)
        random.Random(0).shuffle(there_is)  # noqa: S311  # an order, no secret
        async with _client(site) as client:
            shows = Authorization(site.url, stranger)
            for place, there in enumerate([True, False] * 10 + there_is):
                path = f"/v1/patients/{patient_id if there else uuid.uuid4()}/results"
                headers = await shows.headers(client, "GET", path)
                began = time.perf_counter()
                async with client.get(site.url + path, headers=headers) as answer:
                    body = await answer.read()
                took_s = time.perf_counter() - began
                if place < 20:
                    continue
                times[there].append(took_s)
                names = tuple(sorted((name, text) for name, text in answer.headers.items() if name != "Date"))
                seen[there].add((answer.status, body, names))
        mine, none = np.array(times[True]), np.array(times[False])
        above = (mine[:, None] > none[None, :]).mean() + 0.5 * (mine[:, None] == none[None, :]).mean()
        return Oracle(len(there_is), len(seen[True] ^ seen[False]), 0.5 + abs(float(above) - 0.5))

    return asyncio.run(measured())


class Deviations(NamedTuple):
    """What the permission table says and the server does otherwise.

    Attributes:
        requests: Route x caller.
        found: ``METHOD path as role in relation: status``.
    """

    requests: int
    found: list[str]


class _Caller(NamedTuple):
    role: Role
    relation: Relation
    account: Account


def permission_deviations(site: Site, judged: Sequence[WindowResult]) -> Deviations:
    """Ask at every address that takes a token, in every role, near and far from a patient.

    Requests have no body: what is allowed is told from what is refused before one is read. The matrix with bodies and
    fields is ``tests/einthoven_server/test_permission_matrix.py``.
    """
    push, other = (prepared(site, judged, 5, seed) for seed in (90, 91))
    asyncio.run(sent(site, [push, other], 5))
    patient, foreign = push.identity.patient_id, other.identity.patient_id
    callers = [
        _Caller(Role.ADMIN, Relation.TENANT, site.admin),
        _Caller(Role.CLINICIAN, Relation.CARE_TEAM, site.principal("clinician", [patient])),
        _Caller(Role.CLINICIAN, Relation.TENANT, site.principal("clinician", [foreign])),
        _Caller(Role.SERVICE, Relation.CARE_TEAM, site.principal("service", [patient])),
        _Caller(Role.SERVICE, Relation.TENANT, site.principal("service", [foreign])),
        _Caller(Role.PATIENT, Relation.SELF, site.principal("patient", patient_id=patient)),
        _Caller(Role.PATIENT, Relation.TENANT, site.principal("patient", patient_id=foreign)),
    ]
    spare = site.principal("clinician").client_id
    erased = site.ask("POST", "/v1/patients", None, site.admin)["patient_id"]
    return asyncio.run(_asked(site, push, callers, spare, erased))


async def _asked(site: Site, push: Push, callers: Sequence[_Caller], spare: str, erased: str) -> Deviations:
    found = Deviations(0, [])
    asked = 0
    async with _client(site) as client:
        document = await _got(client, site, "/v1/openapi.json", {})
        shown = {caller: Authorization(site.url, caller.account) for caller in callers}
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                if "dpop" not in (described["security"] or [{}])[0] or method == "head":
                    continue
                operation = Operation(described["x-einthoven-operation"])
                for caller, shows in shown.items():
                    erasing = operation is Operation.ERASE_PATIENT and caller.role is Role.ADMIN
                    filled = _filled(path, push, spare, erased if erasing else push.identity.patient_id)
                    headers = await shows.headers(client, method.upper(), filled)
                    async with client.request(method, site.url + filled, headers=headers) as answer:
                        await answer.read()
                    asked += 1
                    if not _as_the_table_says(operation, caller, answer.status):
                        line = f"{method.upper()} {path} as {caller.role} in {caller.relation}: {answer.status}"
                        found.found.append(line)
    return found._replace(requests=asked)


def _as_the_table_says(operation: Operation, caller: _Caller, status: int) -> bool:
    if not may_ever(caller.role, operation):
        return status == 403
    if operation in _NAMED_BY_BODY:
        return status == 415
    concern = concern_of(operation)
    relation = Relation.TENANT if concern is Concern.NO_PATIENT else caller.relation
    if concern is not Concern.PATIENTS and not decide(caller.role, operation, relation).allowed:
        return status == (404 if concern is Concern.PATIENT else 403)
    return status not in _REFUSED or (status == 404 and operation in _NOTHING_THERE)


def _filled(path: str, push: Push, spare: str, patient: str) -> str:
    identity = push.identity
    result = ResultId(identity.device_alias, 1, 1)
    kind = path.removeprefix("/fhir/R4/").partition("/")[0]
    names = ("RiskAssessment", "Observation", "DiagnosticReport", "Provenance")
    own = {"Device": identity.device_id, "Patient": identity.patient_id}
    places = {
        "patient_id": patient,
        "principal_id": spare,
        "device_id": identity.device_id,
        "result_id": f"{identity.device_alias}-1-1",
        "kind": "settings",
        "name": "x",
        "id": own.get(kind) or str(resource_id(identity.tenant, result, kind if kind in names else names[0])),
    }
    return re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], "0-1-1"), path)


def _client(site: Site) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=site.tls)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S))


async def _got(client: aiohttp.ClientSession, site: Site, path: str, headers: dict[str, str]) -> Any:
    async with client.get(site.url + path, headers=headers) as answer:
        if answer.status != 200:
            raise MeasurementFailed(f"the server answered {answer.status} to GET {path}", "see its log", 1)
        return await answer.json() if "json" in answer.content_type else await answer.read()
