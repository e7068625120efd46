"""Crash points and tampering as figures: what ``crash_points`` and ``store_tamper`` counted.

It deliberately breaks nothing itself.
"""

from __future__ import annotations

from einthoven_bench import crash_points
from einthoven_bench.figures import Figure
from einthoven_bench.signal_run import Progress
from einthoven_bench.store_tamper import tamper_figures

SEED = 0


def crash_figures(points: int, progress: Progress) -> list[Figure]:
    """Points that came about, problems among them, and stores that not exactly one key opened.

    Raises:
        BenchError: There is no C compiler, or the process that breaks stores ended early.
    """
    outcome = crash_points.run(points, SEED, progress)
    n = outcome.points
    kinds = {name: sum(counts.values()) for name, counts in sorted(outcome.by_workload.items())}
    where = ", ".join(f"{name} {count}" for name, count in kinds.items())
    told = "; ".join(outcome.told[:3])
    return [
        Figure("store.crash_points", n, "1", n, (n, n), f"tried {points}, seed {SEED}: {where}"),
        Figure(
            "store.crash_rows_lost",
            outcome.problems,
            "1",
            n,
            (outcome.problems, outcome.problems),
            f"points that ended with something acknowledged lost, doubled or refused; {outcome.forked} stores "
            f"went into a new epoch{'; ' + told if told else ''}",
        ),
        Figure(
            "store.crash_not_one_key",
            outcome.not_one_key,
            "1",
            n,
            (outcome.not_one_key, outcome.not_one_key),
            "points after which not exactly one key opened the store",
        ),
    ]


def tamper_figure() -> list[Figure]:
    """Tampered stores that ``check`` found out, of all."""
    ways = tamper_figures(SEED)
    detected, attempted = (sum(counts) for counts in zip(*((way.detected, way.attempted) for way in ways), strict=True))
    ratios = [way.detected / way.attempted for way in ways]
    note = ", ".join(f"{way.way} {way.detected} of {way.attempted}" for way in ways)
    return [
        Figure(
            "store.tamper_detected_ratio",
            detected / attempted,
            "1",
            attempted,
            (min(ratios), max(ratios)),
            f"{note}; spread: by way",
        )
    ]
