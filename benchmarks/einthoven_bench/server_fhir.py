"""How long FHIR reads take at a steady rate, over TLS 1.3, with the client on the server's cores.

Requests leave when their time has come, whether or not others are answered, and a request's time counts from when it
was due: a server that stands still can't hide it (no coordinated omission). It deliberately makes no figures.

Invariants:
    1. Every answer is checked for its status and its length; one that fails ends the measurement.
    2. Nothing of the client's is reused between requests but connections and the access token: each request has
       a proof of its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import numpy as np

from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.sync_content import judged_windows
from einthoven_bench.sync_ingest import Push, prepared, sent
from einthoven_bench.sync_site import CALL_TIMEOUT_S, Site, running_site
from einthoven_protocol.messages import ResultId
from einthoven_protocol.resource_ids import resource_id

RATE_HZ: Final = 500
DURATION_S: Final = 20
WARM_UP_S: Final = 3
PATIENTS: Final = 8
RESULTS: Final = 2_000
"""Of each patient."""
CONNECTIONS: Final = 64
SEARCHED_ROWS: Final = 10
_KINDS: Final = ("RiskAssessment", "RiskAssessment", "Observation", "search")
"""Half of the requests read a RiskAssessment, a quarter an Observation, a quarter search the latest ten."""
_BYTES_MIN: Final = 500


@dataclass(frozen=True, slots=True)
class FhirReads:
    """How long reads took.

    Attributes:
        requests: How many were measured.
        rate_hz: Requests a second that were due.
        p50_ms: Half took at most this long.
        p99_ms: Likewise 99 of 100.
        max_ms: The longest.
        search_p99_ms: 99 of 100 searches.
    """

    requests: int
    rate_hz: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    search_p99_ms: float


def measure_fhir_reads(
    site: Site, account: Account, paths: Sequence[str], rate_hz: float = RATE_HZ, duration_s: float = DURATION_S
) -> FhirReads:
    """Read at a steady rate.

    Args:
        site: A running server.
        account: Of a clinician who treats the patients.
        paths: What may be read, without the address.
        rate_hz: Requests a second.
        duration_s: For how long, after ``WARM_UP_S``.

    Raises:
        MeasurementFailed: An answer is not what was asked for.
    """
    return asyncio.run(_read(site, account, paths, rate_hz, duration_s))


class Filled(NamedTuple):
    """What there is to read.

    Attributes:
        paths: Without the address.
        patient_ids: Whose it is.
    """

    paths: list[str]
    patient_ids: list[str]


def filled(site: Site, patients: int = PATIENTS, results: int = RESULTS, root: Path | None = None) -> Filled:
    """Fill a server; return what to read.

    Args:
        site: A running server.
        patients: How many, each with one device.
        results: Of each.
        root: Folder of data sets; constructed signals where ``None``.
    """
    judged = judged_windows(root)
    pushes = [prepared(site, judged, results, seed) for seed in range(patients)]
    asyncio.run(sent(site, pushes, results))
    drawn = random.Random(0)  # noqa: S311  # which to read, no secret
    paths = []
    for _ in range(4_000):
        push = drawn.choice(pushes)
        paths.append(_path(push, drawn.choice(_KINDS), drawn.randint(1, results)))
    return Filled(paths, [push.identity.patient_id for push in pushes])


def _path(push: Push, kind: str, counter: int) -> str:
    identity = push.identity
    if kind == "search":
        kinds = "RiskAssessment" if counter % 2 else "Observation"
        return f"/fhir/R4/{kinds}?patient={identity.patient_id}&_sort=-date&_count={SEARCHED_ROWS}"
    result = ResultId(identity.device_alias, 1, counter)
    return f"/fhir/R4/{kind}/{resource_id(identity.tenant, result, kind)}"


async def _read(site: Site, account: Account, paths: Sequence[str], rate_hz: float, duration_s: float) -> FhirReads:
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=site.tls, limit=CONNECTIONS)
    headers = {"Accept": "application/fhir+json"}
    shows = Authorization(site.url, account)
    warm = int(rate_hz * WARM_UP_S)
    n = warm + int(rate_hz * duration_s)
    took_s = np.zeros(n)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as client:
        for some in range(0, CONNECTIONS, 8):
            await asyncio.gather(*(read_once(client, site, shows, paths[some + place]) for place in range(8)))
        began = time.perf_counter() + 0.1

        async def one(place: int) -> None:
            due = began + place / rate_hz
            await asyncio.sleep(due - time.perf_counter())
            await read_once(client, site, shows, paths[place % len(paths)])
            took_s[place] = time.perf_counter() - due

        async with asyncio.TaskGroup() as group:
            for place in range(n):
                group.create_task(one(place))
    took_ms = 1000 * took_s[warm:]
    searches = np.array(["?" in paths[place % len(paths)] for place in range(warm, n)])
    return FhirReads(
        requests=n - warm,
        rate_hz=rate_hz,
        p50_ms=float(np.percentile(took_ms, 50)),
        p99_ms=float(np.percentile(took_ms, 99)),
        max_ms=float(took_ms.max()),
        search_p99_ms=float(np.percentile(took_ms[searches], 99)),
    )


async def read_once(client: aiohttp.ClientSession, site: Site, shows: Authorization, path: str) -> None:
    """Read one path and check the answer.

    Raises:
        MeasurementFailed: It is not what was asked for.
    """
    async with client.get(site.url + path, headers=await shows.headers(client, "GET", path)) as answer:
        body = await answer.read()
        if answer.status != 200 or len(body) < _BYTES_MIN:
            raise MeasurementFailed(f"the server answered {answer.status} to a FHIR read", "see its log", 1)


def main() -> None:
    """Measure at several rates and print what was found; ``einthoven-bench server`` is to call the functions above."""
    with running_site() as site:
        paths, patient_ids = filled(site)
        account = site.clinician(patient_ids)
        for rate_hz in (50, 100, 200, RATE_HZ):
            print(measure_fhir_reads(site, account, paths, rate_hz))


if __name__ == "__main__":
    main()
