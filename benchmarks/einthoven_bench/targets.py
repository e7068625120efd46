"""What each figure goes for, and how far a measured one is from it. A table and a comparison, no measurement.

It deliberately holds the figures of ``einthoven-bench`` only; what ``einthoven-convert evaluate`` prints is judged
where it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from einthoven_bench.figures import Figure

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Target:
    """The value that a figure is to reach, from the side that is better."""

    value: float
    better: Better

    def met_by(self, value: float) -> bool:
        """Whether a measured value reaches the target; equal does."""
        return value >= self.value if self.better == "higher" else value <= self.value


TARGETS: Final[dict[str, Target]] = {
    "model.size_bytes_max": Target(100_000, "lower"),
    "model.mac_per_s": Target(1_000_000, "lower"),
    "model.state_bytes": Target(8_192, "lower"),
    "model.step_invoke_us": Target(60, "lower"),
    "model.exactness_differing_bits": Target(0, "lower"),
    "signal.mitdb.qrs_f1": Target(0.998, "higher"),
    "signal.qtdb.qrs_f1": Target(0.998, "higher"),
    "signal.mitdb.r_error_ms_median": Target(10, "lower"),
    "signal.qtdb.r_error_ms_median": Target(10, "lower"),
    "signal.mitdb.qrs_f1_em_12db": Target(0.98, "higher"),
    "signal.mitdb.qrs_f1_em_6db": Target(0.95, "higher"),
    "signal.mitdb.qrs_f1_em_0db": Target(0.85, "higher"),
    "signal.quality_auc": Target(0.95, "higher"),
    "signal.quality_flagged_em_minus6db": Target(0.99, "higher"),
    "signal.exactness_differing_bits": Target(0, "lower"),
    "signal.front_end_ms_per_s": Target(0.25, "lower"),
    "signal.day_x_real_time": Target(20_000, "higher"),
    "signal.mitdb.bits_per_sample": Target(4.2, "lower"),
    "signal.cinc2017.bits_per_sample": Target(4.0, "lower"),
    "store.insert_rows_per_s": Target(150_000, "higher"),
    "store.insert_ratio_to_plain_sqlite": Target(0.85, "higher"),
    "store.commit_p99_ms": Target(2, "lower"),
    "store.open_ms": Target(20, "lower"),
    "store.day_mb": Target(14, "lower"),
    "store.rss_mb": Target(80, "lower"),
    "store.crash_points": Target(10_000, "higher"),
    "store.crash_rows_lost": Target(0, "lower"),
    "store.crash_not_one_key": Target(0, "lower"),
    "store.tamper_detected_ratio": Target(1, "higher"),
    "store.canaries_found": Target(0, "lower"),
    "sync.rows_per_s": Target(15_000, "higher"),
    "sync.ingest_rows_per_s": Target(30_000, "higher"),
    "sync.bytes_per_row": Target(8, "lower"),
    "sync.bytes_per_edit": Target(30, "lower"),
    "sync.noop_body_bytes": Target(150, "lower"),
    "sync.repair_100_of_100k_bytes": Target(3_072, "lower"),
    "sync.restore_500_bytes": Target(12_288, "lower"),
    "server.fhir_read_p99_ms": Target(25, "lower"),
    "server.audit_cpu_share": Target(0.05, "lower"),
    "server.audit_verify_1m_s": Target(30, "lower"),
    "server.throughput_ratio_with_trust": Target(0.70, "higher"),
    "server.permission_deviations": Target(0, "lower"),
    "server.oracle_auc": Target(0.55, "lower"),
    "server.oracle_differing_answers": Target(0, "lower"),
}


def verdict(figure: Figure) -> str:
    """``met``, or by how much it is short; empty where there is no target."""
    target = TARGETS.get(figure.id)
    if target is None:
        return ""
    if target.met_by(figure.value):
        return "met"
    return f"short by {abs(figure.value - target.value):.4g}"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure beside the same one of an earlier run.

    Attributes:
        id: The figure's.
        before: Earlier value; ``None`` where it was not measured then.
        now: Value of this run; ``None`` where it was not measured now.
        better: Which side is better, where there is a target.
    """

    id: str
    before: float | None
    now: float | None
    better: Better | None

    @property
    def relative(self) -> float | None:
        """(now - before) / |before|, where both are there and the earlier one is not 0."""
        if self.before is None or self.now is None or self.before == 0:
            return None
        return (self.now - self.before) / abs(self.before)

    @property
    def says(self) -> str:
        """``better``, ``worse``, ``equal``, ``new``, ``gone``, or ``changed`` where no side is known to be better."""
        if self.before is None or self.now is None:
            return "new" if self.before is None else "gone"
        if self.now == self.before:
            return "equal"
        if self.better is None:
            return "changed"
        return "better" if (self.now > self.before) == (self.better == "higher") else "worse"


def changes(before: dict[str, float], now: list[Figure]) -> list[Change]:
    """Compare two runs, figure by figure: those of this run in order, then what is gone."""
    found = [Change(one.id, before.get(one.id), one.value, _better(one.id)) for one in now]
    here = {one.id for one in now}
    return found + [Change(name, value, None, _better(name)) for name, value in before.items() if name not in here]


def _better(name: str) -> Better | None:
    target = TARGETS.get(name)
    return target.better if target else None
