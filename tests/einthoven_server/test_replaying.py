"""Replay as a service: what devices say against what their signals give, by the real model in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from obstore.store import LocalStore
from tests.einthoven_server.signal_site import SignalDevice, SignalSite, hold, running_signals
from tests.einthoven_server.site import ManualClock, result_row, running_site

from einthoven.analysis import analyze_window
from einthoven.models import Model, load_model
from einthoven.ports import Segment
from einthoven.result_rows import to_row
from einthoven.results import RiskTier
from einthoven.runner_litert import LiteRtRunner
from einthoven.simulator import simulate
from einthoven.simulator_options import SimulatedRhythm
from einthoven.verdicts import window_result
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import ResultId, ResultRow
from einthoven_protocol.signal_parcels import encode_parcel
from einthoven_server import limits
from einthoven_server.assembly import Parts
from einthoven_server.cli import main
from einthoven_server.cli_replay import DIFFERENT_STATUS
from einthoven_server.errors import EnvelopeRefused
from einthoven_server.postgres_embedded import running
from einthoven_server.replaying.outcomes import ReplayOutcome, Verdict, compare, sample
from einthoven_server.replaying.replay_process import replaying_process
from einthoven_server.replaying.service import DIFFERS, REPLAYED, ReplayService
from einthoven_server.replaying.worker import Job
from einthoven_server.serve import parts_of
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store_obstore import ObstoreSignalStore, open_signal_store

WINDOW_S = 10


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def claims(model: Model) -> list[tuple[ResultRow, Segment]]:
    """What an honest device says of four windows."""
    runner, made = LiteRtRunner(model), []
    for counter in range(1, 5):
        ecg = simulate(SimulatedRhythm(duration_s=WINDOW_S, seed=counter))
        segment = Segment(Fraction(ecg.rhythm.sampling_rate_hz), ecg.samples_uv)
        analysis = analyze_window(model, runner, segment.samples_uv, segment.sampling_rate_hz)
        result = window_result(model, analysis, segment, 1_700_000_000_000 + 1000 * counter)
        made.append((to_row(replace(result, counter=counter)), segment))
    return made


@pytest.fixture
def store(tmp_path: Path) -> ObstoreSignalStore:
    folder = tmp_path / "objects"
    folder.mkdir()
    return ObstoreSignalStore(LocalStore(folder), folder)


@pytest.fixture
async def site(
    data_folder: Path, database_url: str, clock: ManualClock, store: ObstoreSignalStore
) -> AsyncIterator[SignalSite]:
    async with running_signals(data_folder, database_url, clock, str(uuid.uuid4()), store) as site:
        yield site


@pytest.fixture
async def parts(site: SignalSite, data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Parts]:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts:
        yield parts


def service_of(parts: Parts, store: ObstoreSignalStore, permille: int = 1000, **given: Any) -> ReplayService:
    receiver = SignalReceiver(parts.signals, parts.uploads, store, parts.keys)
    return ReplayService(parts.replays, parts.keys, receiver, parts.clock, permille, lag_ms=0, **given)


async def bring(site: SignalSite, claims: Sequence[tuple[ResultRow, Segment]]) -> SignalDevice:
    """A device whose results and signals the server holds."""
    device = await site.new_signal_device()
    run = device.record(1, [segment for _, segment in claims])
    rows = [row for row, _ in claims]
    digests = [device.digests[1, row.counter] for row in rows]
    await hold(site, device.identity.device_id, 1, rows, digests, device.key.sign)
    parcel = encode_parcel([device.proof(run, run, rows)], device.chunk(run))
    answer = await device.create(device.chunk(run), len(parcel), parcel)
    assert answer.status == 201, answer.body
    return device


async def operations(site: SignalSite) -> list[tuple[str, str, str]]:
    assert site.database is not None
    rows = await site.database.fetch(
        "SELECT operation, patient, resource_id FROM audit_entry WHERE tenant = $1 ORDER BY seq", site.tenant
    )
    return [tuple(row.values()) for row in rows]  # type: ignore[misc]  # of three columns


async def test_an_honest_device_is_the_same_and_a_dishonest_ones_fields_are_named(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, claims: list[tuple[ResultRow, Segment]]
) -> None:
    honest = await bring(site, claims)
    changed = msgspec.structs.replace(claims[1][0], rhythm=(claims[1][0].rhythm + 1) % 4, confidence_permille=1)
    liar = await bring(site, [claims[0], (changed, claims[1][1]), *claims[2:]])
    service = service_of(parts, store)
    assert await service.round() == (2, 8)
    assert await parts.replays.counts() == {ReplayOutcome.SAME: 7, ReplayOutcome.DIFFERENT: 1}
    (found,) = await parts.replays.listed(ReplayOutcome.DIFFERENT, None, 10)
    assert found.replayed.result == ResultId(liar.alias, 1, 2)
    assert found.replayed.verdict.differing == ("rhythm", "confidence_permille")
    assert found.patient_id == liar.identity.patient_id
    told = [entry for entry in await operations(site) if entry[0] in {REPLAYED, DIFFERS}]
    assert [(operation, patient) for operation, patient, _ in told] == [
        (REPLAYED, honest.identity.patient_id),
        (REPLAYED, liar.identity.patient_id),
        (DIFFERS, liar.identity.patient_id),
    ]
    assert told[2][2] == f"{liar.alias}-1-2"
    assert await service.round() == (0, 0)  # each once


async def test_another_model_is_not_judged_and_an_urgent_result_always_replayed(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, claims: list[tuple[ResultRow, Segment]]
) -> None:
    foreign = msgspec.structs.replace(claims[0][0], model_digest=bytes(32))
    urgent = msgspec.structs.replace(claims[1][0], tier=int(RiskTier.URGENT))
    await bring(site, [(foreign, claims[0][1]), (urgent, claims[1][1]), *claims[2:]])
    service = service_of(parts, store, 1, draw=lambda n: 999)  # chance takes none
    assert await service.round() == (1, 1)
    (found,) = await parts.replays.listed(ReplayOutcome.DIFFERENT, None, 10)
    assert found.replayed.verdict.differing == ("tier",)
    await parts.replays.begin_again()
    assert await service_of(parts, store).round() == (1, 3)
    assert (await parts.replays.counts())[ReplayOutcome.OTHER_MODEL] == 1


async def test_a_signal_that_was_altered_in_its_place_is_said_and_the_rest_goes_on(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, tmp_path: Path, claims: list[tuple[ResultRow, Segment]]
) -> None:
    await bring(site, claims)
    (thing,) = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    octets = bytearray(thing.read_bytes())
    octets[len(octets) // 2] ^= 1
    thing.write_bytes(octets)
    await bring(site, claims[:2])
    assert await service_of(parts, store).round() == (2, 6)
    assert await parts.replays.counts() == {ReplayOutcome.UNREADABLE: 4, ReplayOutcome.SAME: 2}


async def test_nothing_is_replayed_where_nothing_is_to_be(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, claims: list[tuple[ResultRow, Segment]]
) -> None:
    await bring(site, claims)
    service = service_of(parts, store, 0)
    async with service.running(interval_s=0.001):
        await asyncio.sleep(0.05)
    assert await parts.replays.counts() == {}


async def test_a_chunk_that_was_just_stored_waits(
    site: SignalSite,
    parts: Parts,
    store: ObstoreSignalStore,
    clock: ManualClock,
    claims: list[tuple[ResultRow, Segment]],
) -> None:
    await bring(site, claims[:1])
    receiver = SignalReceiver(parts.signals, parts.uploads, store, parts.keys)
    service = ReplayService(parts.replays, parts.keys, receiver, clock, 1000)
    assert await service.round() == (0, 0)
    clock.offset_ms += limits.REPLAY_LAG_MS + 1
    assert await service.round() == (1, 1)


async def test_of_two_servers_that_look_at_one_chunk_the_first_counts(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, claims: list[tuple[ResultRow, Segment]]
) -> None:
    await bring(site, claims)
    done = await asyncio.gather(*(service_of(parts, store).round() for _ in range(2)))
    assert sum(one.replayed for one in done) == 4
    assert sum((await parts.replays.counts()).values()) == 4
    assert len([entry for entry in await operations(site) if entry[0] == REPLAYED]) == 1


HANGS = (sys.executable, "-c", "import time; time.sleep(60)")
DIES = (sys.executable, "-c", "import os, sys; sys.stdin.buffer.read(4); os.abort()")
LIES = (sys.executable, "-c", "import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write(b'\\x03\\0\\0\\0abc')")


@pytest.mark.parametrize("command", [HANGS, DIES, LIES, ("/no/such/program",)], ids=["hangs", "dies", "lies", "none"])
async def test_whatever_becomes_of_the_process_is_a_verdict(command: tuple[str, ...]) -> None:
    async with replaying_process(command, time_max_s=1.0) as process:
        for _ in range(2):
            assert await process.ask(Job(b"row", b"signal")) == Verdict(ReplayOutcome.FAILED)


async def test_a_row_or_signal_that_is_none_is_a_verdict_and_the_process_goes_on(
    claims: list[tuple[ResultRow, Segment]],
) -> None:
    async with replaying_process() as process:
        good = encode_result_row(claims[0][0])
        for job in (Job(b"", b""), Job(good, b""), Job(good, bytes(13)), Job(b"\xff" * len(good), bytes(99))):
            assert (await process.ask(job)).outcome in {ReplayOutcome.FAILED, ReplayOutcome.OTHER_MODEL}


@asynccontextmanager
async def _no_process() -> AsyncIterator[Any]:
    yield None


async def test_who_was_erased_has_nothing_left_to_replay(
    site: SignalSite, parts: Parts, store: ObstoreSignalStore, claims: list[tuple[ResultRow, Segment]]
) -> None:
    device = await bring(site, claims)

    class Gone:
        async def get(self, patient_id: str) -> None:
            assert patient_id == device.identity.patient_id
            raise EnvelopeRefused("a patient's data key is gone", "its data can't be read any more")

    receiver = SignalReceiver(parts.signals, parts.uploads, store, parts.keys)
    service = ReplayService(parts.replays, Gone(), receiver, parts.clock, 1000, lag_ms=0, process=_no_process)  # type: ignore[arg-type]
    assert await service.round() == (1, 0)


async def test_an_administrator_sees_what_differs_and_no_values(
    site: SignalSite,
    parts: Parts,
    store: ObstoreSignalStore,
    claims: list[tuple[ResultRow, Segment]],
    data_folder: Path,
    database_url: str,
    clock: ManualClock,
) -> None:
    wrong = [(msgspec.structs.replace(row, usable_s=0), segment) for row, segment in claims]
    await bring(site, wrong)
    await service_of(parts, store).round()
    async with running_site(data_folder, database_url, clock, site.tenant) as whole:
        answer = await whole.send("GET", "/v1/replays?limit=3", token=whole.admin)
        assert answer.status == 200, answer.body
        first = answer.json
        assert first["counts"] == {"same": 0, "different": 4, "other_model": 0, "unreadable": 0, "failed": 0}
        assert len(first["replays"]) == 3
        assert set(first["replays"][0]) == {
            "result_id",
            "patient_id",
            "outcome",
            "differing",
            "model_digest",
            "replayed_at_ms",
        }
        assert first["replays"][0]["differing"] == ["usable_s"]
        rest = (await whole.send("GET", f"/v1/replays?after={first['next']}", token=whole.admin)).json
        assert len(rest["replays"]) == 1
        assert rest["next"] is None
        for query in ("outcome=wrong", "after=1", "after=1.1-1", "limit=0"):
            refused = await whole.send("GET", f"/v1/replays?{query}", token=whole.admin)
            assert refused.status == 400
        clinician = (await whole.new_principal("clinician"))[1]
        assert (await whole.send("GET", "/v1/replays", token=clinician)).status == 403


# ---- what decides -------------------------------------------------------------------------------------------------


def test_every_field_that_decides_is_compared() -> None:
    row = result_row(1)
    assert compare(row, row) == Verdict(ReplayOutcome.SAME)
    named = {"counter", "started_at_ms", "model_digest", "front_end_version", "extra"}
    for name in set(ResultRow.__struct_fields__) - named:
        value = (1, 2, 3, 4) if name == "logits" else getattr(row, name) + 1
        changed = msgspec.structs.replace(row, **{name: value})
        assert compare(row, changed) == Verdict(ReplayOutcome.DIFFERENT, (name,))


def test_chance_takes_so_many_and_every_urgent_one() -> None:
    rows = [result_row(counter, tier=int(RiskTier.URGENT) if counter % 50 == 0 else 1) for counter in range(1, 1001)]
    draws = iter(range(1000))
    taken = sample(rows, 10, lambda n: next(draws) % n)
    urgent = [at for at, row in enumerate(rows) if row.tier == RiskTier.URGENT]
    assert set(urgent) <= set(taken)
    assert len(taken) == len(urgent) + 10
    assert sample(rows, 0, lambda n: 0) == []


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["einthoven-server", "replay", *arguments])
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    return (status, *capsys.readouterr())


def test_an_operator_recomputes_all_of_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    claims: list[tuple[ResultRow, Segment]],
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)

    async def used(url: str, *changed: tuple[ResultRow, Segment]) -> None:
        store = await open_signal_store(None, data)
        async with running_signals(data, url, ManualClock(), None, store) as site:
            await bring(site, [*changed, *claims[len(changed) :]])

    given = ("--data", str(data))
    with running(data) as url:
        asyncio.run(used(url))
    status, out, _ = call(capsys, monkeypatch, *given)
    assert (status, out) == (0, "4 results recomputed; ever: 4 same\n")
    with running(data) as url:
        asyncio.run(used(url, (msgspec.structs.replace(claims[0][0], usable_s=0), claims[0][1])))
    status, out, _ = call(capsys, monkeypatch, *given, "--json")
    document = json.loads(out)
    assert (status, document["replayed"]) == (DIFFERENT_STATUS, 4)
    assert document["counts"]["different"] == 1
    assert [one["differing"] for one in document["different"]] == [["usable_s"]]
    status, out, _ = call(capsys, monkeypatch, *given, "--again")
    assert status == DIFFERENT_STATUS
    assert out.startswith("0 results recomputed; ever: 1 different, 7 same\n")
    status, _, problem = call(capsys, monkeypatch, "--data", str(tmp_path / "none"))
    assert status not in {0, DIFFERENT_STATUS}
    assert len(problem.splitlines()) == 1
