"""`einthoven-bench server`: what trust costs and whether it holds, on a real server, in one document.

It deliberately measures nothing itself and prints nothing. A part that fails is left out with its reason; the others
are kept. What no part of this version can measure is said by its id.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.errors import EinthovenError
from einthoven.results import WindowResult
from einthoven_bench.errors import BenchError
from einthoven_bench.figures import Document, Figure
from einthoven_bench.machine import machine
from einthoven_bench.server_audit import NOTES, REQUESTS, VERIFIED_ENTRIES, audit_cost, verify_cost
from einthoven_bench.server_fhir import DURATION_S, PATIENTS, RATE_HZ, RESULTS, filled, measure_fhir_reads
from einthoven_bench.server_trust import compare_throughput, existence_oracle, permission_deviations, token_cost
from einthoven_bench.server_without import spawned_without
from einthoven_bench.signal_run import Progress
from einthoven_bench.store_content import median_and_spread
from einthoven_bench.sync_content import judged_windows
from einthoven_bench.sync_ingest import DEVICES
from einthoven_bench.sync_site import Site, running_site
from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE

NOT_YET: Final = (
    "server.storm_5000_s",
    "server.storm_5000_errors",
    "server.connection_kib",
    "server.devices_per_core",
    "server.fanout_messages_per_s",
    "server.clinicians_5000_p99_s",
)
"""Figures of the table that nothing here measures yet."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What to measure, and on how much.

    Attributes:
        folder: Where servers' data is made; the system's temporary folder, if ``None``.
        windows: Windows that the model judges.
        runs: Of everything that is repeated.
        fhir_patients: Patients that FHIR reads are of.
        fhir_results: Results of each.
        fhir_rate_hz: Reads a second.
        fhir_s: For how long, s.
        audit_requests: Reads whose audit is weighed.
        verified_entries: Entries of a log that is verified.
        devices: Devices that push at once.
        rows: Rows of each.
        oracle_requests: Requests of the existence oracle.
        token_requests: Tokens that are asked for, and requests with one.
    """

    folder: Path | None = None
    windows: int = 2_000
    runs: int = 5
    fhir_patients: int = PATIENTS
    fhir_results: int = RESULTS
    fhir_rate_hz: float = RATE_HZ
    fhir_s: float = DURATION_S
    audit_requests: int = REQUESTS
    verified_entries: int = VERIFIED_ENTRIES
    devices: int = DEVICES
    rows: int = MAX_RESULTS_PER_EXCHANGE
    oracle_requests: int = 2_000
    token_requests: int = 1_000


QUICK: Final = ServerOptions(
    windows=100,
    runs=1,
    fhir_patients=2,
    fhir_results=100,
    fhir_rate_hz=50,
    fhir_s=2,
    audit_requests=200,
    verified_entries=20_000,
    devices=2,
    rows=1_000,
    oracle_requests=100,
    token_requests=50,
)
"""A minute or so, to see that all of it works; what it finds has ids of its own, since it rests on little."""


class ServerRun:
    """One run.

    Args:
        options: What to measure.
        progress: Told what is going on.
    """

    def __init__(self, options: ServerOptions, progress: Progress) -> None:
        self._options, self._progress = options, progress
        self.document = Document(machine())

    def measure(self) -> Document:
        """Everything.

        Raises:
            DemoError: The server does not start.
        """
        self._progress("verdicts: the model judges constructed signal")
        judged = judged_windows(None, self._options.windows)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._options.folder)))
            self._progress("the server starts")
            site = stack.enter_context(running_site(folder))
            self._part("permissions, through HTTP", lambda: self._permissions(site, judged))
            self._part("existence oracle", lambda: self._oracle(site))
            self._part("access tokens", lambda: self._tokens(site))
            self._part("FHIR reads", lambda: self._fhir(site))
            self._part("throughput with trust and without", lambda: self._throughput(site, folder, judged))
        self._part("cost of the audit log", self._audit)
        self._part("verifying the audit log", self._verified)
        for name in NOT_YET:
            self._leave_out(f"{name}: nothing measures it yet")
        return self.document

    def _permissions(self, site: Site, judged: list[WindowResult]) -> list[Figure]:
        found = permission_deviations(site, judged)
        for line in found.found:
            self._progress(f"deviation: {line}")
        note = "every address that takes a token x seven callers, as the permission table says; no bodies, no fields"
        n = float(len(found.found))
        return [Figure("server.permission_deviations", n, "1", found.requests, (n, n), note)]

    def _oracle(self, site: Site) -> list[Figure]:
        patient = site.patient()
        runs = [existence_oracle(site, patient, self._options.oracle_requests) for _ in range(self._options.runs)]
        auc, spread = median_and_spread([one.auc for one in runs])
        differing = float(sum(one.differing for one in runs))
        n = sum(one.requests for one in runs)
        note = f"GET another patient's results against an unknown id's, in turns; {len(runs)} runs, spread: all"
        return [
            Figure("server.oracle_auc", auc, "1", n, spread, f"of the times; 0.5 is none; {note}"),
            Figure(
                "server.oracle_differing_answers",
                differing,
                "1",
                n,
                (differing, differing),
                f"in status, body or headers; {note}",
            ),
        ]

    def _tokens(self, site: Site) -> list[Figure]:
        runs = [token_cost(site, self._options.token_requests) for _ in range(self._options.runs)]
        n = sum(one.requests for one in runs)
        note = f"processor time of server and PostgreSQL; {len(runs)} runs, spread: all"
        found = []
        for name, values, says in (
            ("token_issue", [one.issue_cpu_s for one in runs], "a token by private_key_jwt and DPoP, audited"),
            ("token_read", [one.guarded_cpu_s for one in runs], "a small read with a token and a proof, audited"),
            ("open_read", [one.open_cpu_s for one in runs], "a small read that asks nobody who they are"),
        ):
            value, spread = median_and_spread([1e6 * one for one in values])
            found.append(Figure(f"server.{name}_cpu_us", value, "us", n, spread, f"{says}; {note}"))
        return found

    def _fhir(self, site: Site) -> list[Figure]:
        options = self._options
        there = filled(site, options.fhir_patients, options.fhir_results)
        account = site.clinician(there.patient_ids)
        runs = [
            measure_fhir_reads(site, account, there.paths, options.fhir_rate_hz, options.fhir_s)
            for _ in range(options.runs)
        ]
        n = sum(one.requests for one in runs)
        note = (
            f"{options.fhir_rate_hz:g} requests/s for {options.fhir_s:g} s over TLS, client on the server's cores, "
            f"time from when each was due; {len(runs)} runs, spread: all"
        )
        at = "" if options.fhir_rate_hz == RATE_HZ else f"_at_{options.fhir_rate_hz:g}"
        p99, spread = median_and_spread([one.p99_ms for one in runs])
        p50, p50_spread = median_and_spread([one.p50_ms for one in runs])
        return [
            Figure(f"server.fhir_read_p99{at}_ms", p99, "ms", n, spread, note),
            Figure(f"server.fhir_read_p50{at}_ms", p50, "ms", n, p50_spread, note),
        ]

    def _throughput(self, site: Site, folder: Path, judged: list[WindowResult]) -> list[Figure]:
        options = self._options
        with running_site(folder, spawned_without) as bare:
            found = compare_throughput(site, bare, judged, options.devices, options.rows, options.runs)
        value, spread = median_and_spread(
            [one / other for one, other in zip(found.with_trust, found.without, strict=True)]
        )
        rate, rate_spread = median_and_spread(found.with_trust)
        note = (
            f"{options.devices} devices push {options.rows} rows each, HTTPS to durable commit; {options.runs} turns, "
            "spread: all; without: the same server without audit and row-level security, so less than part 5 had"
        )
        return [
            Figure("server.throughput_ratio_with_trust", value, "1", options.runs, spread, note),
            Figure("server.ingest_rows_per_s_with_trust", rate, "1/s", options.runs, rate_spread, note),
        ]

    def _audit(self) -> list[Figure]:
        options = self._options
        runs = [audit_cost(options.audit_requests, folder=options.folder) for _ in range(options.runs)]
        value, spread = median_and_spread([one.share for one in runs])
        event, event_spread = median_and_spread([1e6 * one.event_cpu_s for one in runs])
        n = sum(one.requests for one in runs)
        note = f"events of reads against reads of {NOTES} notes, processor time; {len(runs)} runs, spread: all"
        return [
            Figure("server.audit_cpu_share", value, "1", n, spread, note),
            Figure("server.audit_event_cpu_us", event, "us", n, event_spread, note),
        ]

    def _verified(self) -> list[Figure]:
        entries = self._options.verified_entries
        found = verify_cost(entries, self._options.folder)
        # One that is smaller is another figure: it is not scaled up.
        name = "1m" if entries == VERIFIED_ENTRIES else str(entries)
        note = f"{entries} entries, chain, tree and head; {found.cpu_s:.1f} s of processor time; one run"
        return [Figure(f"server.audit_verify_{name}_s", found.wall_s, "s", 1, (found.wall_s, found.wall_s), note)]

    def _part(self, what: str, measure: Callable[[], list[Figure]]) -> None:
        self._progress(what)
        try:
            self.document.add(measure())
        except (BenchError, EinthovenError) as error:
            self._leave_out(f"{what}: left out ({error})")

    def _leave_out(self, line: str) -> None:
        self.document.left_out.append(line)
        self._progress(line)
