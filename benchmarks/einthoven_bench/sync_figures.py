"""Figures of what ``sync_measuring`` and ``sync_ingest`` measured. Pure.

It deliberately measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven_bench.figures import Figure
from einthoven_bench.store_content import median_and_spread
from einthoven_bench.sync_ingest import Ingested
from einthoven_bench.sync_measuring import Carried, Moved

_OPEN: Final = "socket bytes both ways, TLS and HTTP included, connection open"


def moved_figures(runs: Sequence[Moved], source: str) -> list[Figure]:
    """Rows a second from device to device, and its two halves."""
    rows = runs[0].rows
    whole, spread = median_and_spread([run.rows / (run.up_s + run.down_s) for run in runs])
    up, up_spread = median_and_spread([run.rows / run.up_s for run in runs])
    down, down_spread = median_and_spread([run.rows / run.down_s for run in runs])
    cpu, cpu_spread = median_and_spread([1e6 * run.cpu_s / run.rows for run in runs])
    n = len(runs)
    how = f"{rows} results ({source}), TLS 1.3, SQLCipher, durable PostgreSQL, one machine; {n} runs, spread: all"
    return [
        Figure("sync.rows_per_s", whole, "1/s", n, spread, f"device -> server -> second device, wall; {how}"),
        Figure("sync.up_rows_per_s", up, "1/s", n, up_spread, f"device -> server; {how}"),
        Figure("sync.down_rows_per_s", down, "1/s", n, down_spread, f"server -> second device; {how}"),
        Figure("sync.device_cpu_us_per_row", cpu, "us", n, cpu_spread, f"processor time of both devices; {how}"),
    ]


def ingest_figures(runs: Sequence[Ingested], source: str) -> list[Figure]:
    """Rows a second into the server."""
    value, spread = median_and_spread([run.rows / run.wall_s for run in runs])
    client, client_spread = median_and_spread([1e6 * run.client_cpu_s / run.rows for run in runs])
    first = runs[0]
    how = (
        f"{first.devices} devices, {first.rows // first.devices} rows a push ({source}); {len(runs)} runs, spread: all"
    )
    return [
        Figure("sync.ingest_rows_per_s", value, "1/s", len(runs), spread, f"HTTPS to durable commit, wall; {how}"),
        Figure("sync.ingest_client_cpu_us_per_row", client, "us", len(runs), client_spread, f"of the clients; {how}"),
    ]


def bulk_figures(runs: Sequence[tuple[Carried, Carried]], source: str) -> list[Figure]:
    """Bytes a row, up and down."""
    ups, downs = zip(*runs, strict=True)
    up, up_spread = median_and_spread([one.traffic.total / one.rows for one in ups])
    down, down_spread = median_and_spread([one.traffic.total / one.rows for one in downs])
    rows = ups[0].rows
    how = f"{rows} results ({source}) in bulk; {_OPEN}"
    return [
        Figure("sync.bytes_per_row", up, "B", len(runs) * rows, up_spread, f"device -> server, {how}"),
        Figure("sync.bytes_per_row_down", down, "B", len(runs) * rows, down_spread, f"server -> second device, {how}"),
    ]


def edit_figures(runs: Sequence[tuple[Carried, Carried]]) -> list[Figure]:
    """Bytes an edit; the body of a sync with nothing to do."""
    edits, idle = zip(*runs, strict=True)
    each, spread = median_and_spread([one.traffic.total / one.rows for one in edits])
    body, body_spread = median_and_spread([one.report.bytes_up + one.report.bytes_down for one in idle])
    socket, socket_spread = median_and_spread([one.traffic.total for one in idle])
    trips, trips_spread = median_and_spread([one.report.round_trips for one in idle])
    n, rows = len(runs), edits[0].rows
    return [
        Figure("sync.bytes_per_edit", each, "B", n * rows, spread, f"{rows} one-field edits in one sync; {_OPEN}"),
        Figure("sync.noop_body_bytes", body, "B", n, body_spread, "both bodies of a sync with nothing to do"),
        Figure("sync.noop_socket_bytes", socket, "B", n, socket_spread, f"the same; {_OPEN}"),
        Figure("sync.noop_round_trips", trips, "1", n, trips_spread, "the same"),
    ]


def carried_figures(name: str, what: str, runs: Sequence[tuple[Carried, int]]) -> list[Figure]:
    """Bytes and round trips of a repair or a restored device.

    Args:
        name: ``sync.{name}_bytes`` is the id.
        what: For the note.
        runs: What was carried, and in how many round trips; at least one.
    """
    total, spread = median_and_spread([carried.traffic.total for carried, _ in runs])
    trips, trips_spread = median_and_spread([trips for _, trips in runs])
    n = len(runs)
    return [
        Figure(f"sync.{name}_bytes", total, "B", n, spread, f"{what}; {_OPEN}"),
        Figure(f"sync.{name}_round_trips", trips, "1", n, trips_spread, what),
    ]
