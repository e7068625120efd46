"""Nothing that was put into a store shows where it could leak to; and the search that says so can find it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from einthoven_bench.canary_content import key_needles, made_canaries
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.store_canaries import (
    CANARIES,
    MAX_CUT_SHARE,
    CanaryOutcome,
    CanaryTask,
    Tenant,
    canary_figures,
    measure_canaries,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and core limits of Linux")

FEW = 400


def assert_nothing_leaks(outcome: CanaryOutcome) -> None:
    assert {place: found for place, found in outcome.found.items() if found} == {}
    assert outcome.control >= (1 - MAX_CUT_SHARE) * outcome.needles
    # The search had something to look at: the store in each of its states, and what was said of refusals.
    assert all(outcome.places[f"store, {step}"] > 100_000 for step in ("open", "fail", "repair", "close"))
    assert outcome.places["said, fail"] > 1_000
    assert outcome.places["core, aborted"] == 0


def test_no_canary_is_found_and_the_control_finds_all() -> None:
    outcome = measure_canaries(CanaryTask(canaries=FEW, seed=1))

    assert outcome.needles >= FEW
    assert_nothing_leaks(outcome)


@pytest.mark.slow
def test_ten_thousand_canaries() -> None:
    outcome = measure_canaries(CanaryTask())

    assert outcome.needles >= CANARIES
    assert_nothing_leaks(outcome)
    assert canary_figures(outcome)[0].value == 0


def test_the_tenant_leaves_every_kind_of_file_and_is_refused_throughout(tmp_path: Path) -> None:
    tenant = Tenant(tmp_path, CanaryTask(canaries=60, seed=2))
    keys = tenant.ask("fill")
    open_files = {file.name for file in tenant.places["store"].iterdir()}
    refused = int(tenant.ask("fail")["refused"])
    repaired = tenant.ask("repair")["files"].split()
    tenant.abort()

    assert {"wrapping", "data0"} <= set(keys)
    assert {f"ecg.db{suffix}" for suffix in ("", "-wal", "-shm", ".keys", ".anchor")} <= open_files
    assert refused == 9
    assert any(".damaged" in name for name in repaired)
    assert "Traceback" in (tenant.places["said"] / "stderr").read_text()


def test_canaries_are_many_distinct_and_the_same_again() -> None:
    canaries = made_canaries(500, 3)
    needles = [*canaries.stored, *canaries.unpacked]

    assert len(set(needles)) == len(needles) >= 500
    assert min(map(len, needles)) >= 16
    assert needles == [*(again := made_canaries(500, 3)).stored, *again.unpacked]
    assert not set(needles) & set(made_canaries(500, 4).stored)


def test_a_key_is_looked_for_in_every_spelling() -> None:
    raw, lower, upper, base64_form = key_needles({"data": "ab" * 32})

    assert raw == b"\xab" * 32
    assert (lower, upper) == (b"ab" * 32, b"AB" * 32)
    assert base64_form in b"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="


def test_a_control_that_misses_some_is_no_proof() -> None:
    outcome = CanaryOutcome(needles=10, found={"store, open": 0}, places={"store, open": 1}, control=9)

    with pytest.raises(MeasurementFailed, match="only 9 were found"):
        canary_figures(outcome)
