"""The shipped model on real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from einthoven.models import load_model
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.datasets import open_dataset
from einthoven_conversion.scoring import score_records

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.data
def test_the_shipped_model_reads_real_recordings_as_it_did_when_it_was_made() -> None:
    """It was trained on these records, so this is a check of the path, not a figure of merit."""
    if not (REAL / "cinc2017").is_dir():
        pytest.skip("needs ../shared/data")
    folder, records = open_dataset(REAL, "cinc2017")
    some = [record for record in records if record.shard == records[0].shard][:150]
    model = load_model()
    told: list[tuple[int, int]] = []
    scores = score_records(model, LiteRtRunner(model), folder, some, lambda done, total: told.append((done, total)))
    assert (scores.rhythms == scores.labels).mean() > 0.8
    assert (scores.seconds >= 8).all()
    assert told[-1] == (150, 150)
