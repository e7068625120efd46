"""Reading data folders: right ones exactly, wrong ones with one line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven_conversion.datasets import open_dataset, read_signals
from einthoven_conversion.errors import ConversionError, DatasetCorrupt, DatasetNotFound, DatasetUnknown

MakeDataset = Callable[..., Path]
REAL = Path(__file__).parents[3] / "shared" / "data"


def test_records_come_in_the_order_of_the_index(make_dataset: MakeDataset) -> None:
    folder, records = open_dataset(make_dataset(20), "cinc2017")
    assert [record.record_id for record in records] == [f"S{i:05d}" for i in range(20)]
    assert {record.sampling_rate_hz for record in records} == {Fraction(300)}
    signals = dict(read_signals(folder, records))
    assert sorted(signals) == list(range(20))
    assert {signal.dtype for signal in signals.values()} == {np.dtype(np.int32)}
    assert [len(signals[i]) for i in range(3)] == [3000, 3300, 3600]


def test_the_sets_own_folder_will_do(make_dataset: MakeDataset) -> None:
    root = make_dataset(4)
    assert open_dataset(root / "cinc2017", "cinc2017") == open_dataset(root, "cinc2017")


def test_folds_may_be_absent(make_dataset: MakeDataset) -> None:
    _, records = open_dataset(make_dataset(4, folds=None), "cinc2017")
    assert {record.fold for record in records} == {None}


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="--data"):
        open_dataset(tmp_path / "nowhere", "cinc2017")


def test_an_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnknown, match="cinc2017"):
        open_dataset(tmp_path, "iris")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (",N", ",sinus", DatasetUnknown),
        ("label", "class", DatasetCorrupt),
        (",300,", ",fast,", DatasetCorrupt),
        (",300,", ",1/0,", DatasetCorrupt),
        (",300,", ",nan,", DatasetCorrupt),
    ],
)
def test_a_damaged_index(make_dataset: MakeDataset, old: str, new: str, error: type[ConversionError]) -> None:
    root = make_dataset(4)
    index = root / "cinc2017" / "index.csv"
    index.write_text(index.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(error) as caught:
        open_dataset(root, "cinc2017")
    assert "\n" not in str(caught.value)


def test_an_empty_index(make_dataset: MakeDataset) -> None:
    root = make_dataset(4)
    (root / "cinc2017" / "index.csv").write_text("record_id,label\n", encoding="utf-8")
    with pytest.raises(DatasetCorrupt, match="no records"):
        open_dataset(root, "cinc2017")


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_shard(make_dataset: MakeDataset, keep: int) -> None:
    root = make_dataset(4)
    shard = root / "cinc2017" / "records_000.npz"
    shard.write_bytes(shard.read_bytes()[:keep])
    folder, records = open_dataset(root, "cinc2017")
    with pytest.raises(DatasetCorrupt, match="records_000"):
        list(read_signals(folder, records))


def test_a_shard_that_holds_other_records(make_dataset: MakeDataset) -> None:
    root = make_dataset(4)
    index = root / "cinc2017" / "index.csv"
    index.write_text(index.read_text(encoding="utf-8").replace("S00002", "S99999"), encoding="utf-8")
    folder, records = open_dataset(root, "cinc2017")
    with pytest.raises(DatasetCorrupt, match="S99999"):
        list(read_signals(folder, records))


@pytest.mark.data
def test_the_real_set_reads_as_its_index_says() -> None:
    if not (REAL / "cinc2017").is_dir():
        pytest.skip("needs ../shared/data")
    folder, records = open_dataset(REAL, "cinc2017")
    first_shard = [record for record in records if record.shard == records[0].shard]
    signals = dict(read_signals(folder, first_shard))
    assert len(signals) == len(first_shard)
    assert int(np.abs(signals[0]).max()) == 946  # A00001, max_abs_uv of the index
