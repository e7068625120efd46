"""Recomputes stored results from their stored signal, and says whether the bits are the same.

It deliberately never repairs: a result that does not replay is reported, and both versions stay as they are.

Invariants:
    1. Everything that decides is compared: steps, quality, logits, rhythm, confidence, tier, reason, digests.
    2. A result of another model or front end is not compared but reported as ``other_model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from einthoven.analysis import Runner, analyze_window
from einthoven.models import Model
from einthoven.ports import Store
from einthoven.results import WindowResult
from einthoven.runner_litert import LiteRtRunner
from einthoven.store_paging import all_results
from einthoven.verdicts import window_result


class ReplayOutcome(StrEnum):
    """What a replay found."""

    SAME = "same"
    DIFFERENT = "different"
    OTHER_MODEL = "other_model"
    NO_SEGMENT = "no_segment"


@dataclass(frozen=True, slots=True)
class Replay:
    """One result, replayed.

    Attributes:
        stored: What the store says.
        recomputed: What the segment gives now; ``None`` where it could not be computed.
        outcome: Whether they are the same.
        differing: Names of the fields that differ.
    """

    stored: WindowResult
    recomputed: WindowResult | None
    outcome: ReplayOutcome
    differing: tuple[str, ...] = ()


def replay(model: Model, store: Store, stored: WindowResult, *, runner: Runner | None = None) -> Replay:
    """Recompute one result from its segment.

    Args:
        model: The model to replay with.
        store: Where the segment is.
        stored: The result to check.
        runner: Runs the model; LiteRT, if not given.

    Raises:
        StoreError: The segment is damaged.
    """
    if (stored.model_digest, stored.front_end_version) != (model.digest, model.front_end_version):
        return Replay(stored, None, ReplayOutcome.OTHER_MODEL)
    segment = store.segment(stored.segment_digest)
    if segment is None:
        return Replay(stored, None, ReplayOutcome.NO_SEGMENT)
    analysis = analyze_window(model, runner or LiteRtRunner(model), segment.samples_uv, segment.sampling_rate_hz)
    again = replace(window_result(model, analysis, segment, stored.started_at_ms), counter=stored.counter)
    differing = tuple(name for name in WindowResult.__slots__ if getattr(again, name) != getattr(stored, name))
    return Replay(stored, again, ReplayOutcome.DIFFERENT if differing else ReplayOutcome.SAME, differing)


def replay_all(model: Model, store: Store, *, runner: Runner | None = None) -> Iterator[Replay]:
    """Recompute every result of all epochs, in order of their start."""
    runner = runner or LiteRtRunner(model)
    for stored in all_results(store):
        yield replay(model, store, stored.result, runner=runner)
