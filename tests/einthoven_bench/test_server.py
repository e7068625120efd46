"""What ``einthoven-bench server`` measures, on a real server; its full run is not a test's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from einthoven.account import Account
from einthoven_bench.server_run import NOT_YET, QUICK, ServerRun
from einthoven_bench.server_trust import (
    _as_the_table_says,
    _Caller,
    existence_oracle,
    permission_deviations,
    token_cost,
)
from einthoven_bench.sync_content import judged_windows
from einthoven_bench.sync_site import running_site
from einthoven_server.identity.permissions import Operation, Relation, Role


@pytest.mark.timeout(300)
def test_the_server_does_as_its_table_says_and_is_no_oracle(tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        found = permission_deviations(site, judged_windows(None, 50))
        assert found.found == []
        assert found.requests > 300
        oracle = existence_oracle(site, site.patient(), 40)
        assert (oracle.requests, oracle.differing) == (40, 0)
        assert 0.5 <= oracle.auc <= 1
        cost = token_cost(site, 5)
        assert cost.requests == 5


@pytest.mark.parametrize(
    ("operation", "role", "relation", "status", "right"),
    [
        (Operation.LIST_RESULTS, Role.CLINICIAN, Relation.CARE_TEAM, 200, True),
        (Operation.LIST_RESULTS, Role.CLINICIAN, Relation.CARE_TEAM, 403, False),
        (Operation.LIST_RESULTS, Role.CLINICIAN, Relation.TENANT, 404, True),
        (Operation.LIST_RESULTS, Role.CLINICIAN, Relation.TENANT, 200, False),
        (Operation.LIST_RESULTS, Role.CLINICIAN, Relation.TENANT, 403, False),
        (Operation.LIST_RESULTS, Role.ADMIN, Relation.TENANT, 403, True),
        (Operation.LIST_RESULTS, Role.ADMIN, Relation.TENANT, 200, False),
        (Operation.CREATE_PRINCIPAL, Role.ADMIN, Relation.TENANT, 415, True),
        (Operation.READ_SIGNAL, Role.PATIENT, Relation.SELF, 404, True),
        (Operation.SEARCH_RESOURCES, Role.SERVICE, Relation.TENANT, 200, True),
    ],
)
def test_what_counts_as_a_deviation(
    operation: Operation, role: Role, relation: Relation, status: int, right: bool
) -> None:
    assert _as_the_table_says(operation, _Caller(role, relation, Account()), status) is right


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_quick_run_prints_every_part_once_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    options = replace(QUICK, folder=tmp_path, verified_entries=5_000)
    document = json.loads(ServerRun(options, lambda what, done=0, total=0: None).measure().as_json())
    names = [figure["id"] for figure in document["figures"]]
    assert len(set(names)) == len(names) >= 12
    assert {"server.throughput_ratio_with_trust", "server.audit_cpu_share", "server.permission_deviations"} <= set(
        names
    )
    # A figure of the table is not claimed by a run that rests on less.
    assert "server.audit_verify_1m_s" not in names
    assert "server.fhir_read_p99_ms" not in names
    assert [line.partition(":")[0] for line in document["left_out"]] == list(NOT_YET)
