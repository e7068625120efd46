"""The reader of shards: exact on what is whole, one error for what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven_bench.datasets import check_root, open_dataset, read_signals
from einthoven_bench.errors import DatasetCorrupt, DatasetNotFound

MakeRoot = Callable[..., Path]


def read_all(root: Path, name: str = "mitdb") -> dict[str, np.ndarray]:
    dataset = open_dataset(root, name)
    assert dataset is not None
    return {record.record_id: channels for record, channels in read_signals(dataset)}


def test_every_sample_of_every_channel_comes_back(make_root: MakeRoot, mitdb_signals: dict[str, np.ndarray]) -> None:
    found = read_all(make_root("mitdb"))
    assert found.keys() == mitdb_signals.keys()
    for name, channels in mitdb_signals.items():
        assert found[name].dtype == np.int32
        assert np.array_equal(found[name], channels)


def test_a_set_that_is_not_there_is_none(make_root: MakeRoot) -> None:
    root = make_root("mitdb")
    assert open_dataset(root, "qtdb") is None


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="--data"):
        check_root(tmp_path / "nowhere")


def test_only_so_many_records(make_root: MakeRoot) -> None:
    dataset = open_dataset(make_root("mitdb"), "mitdb")
    assert dataset is not None
    assert [record.record_id for record in dataset.first(1).records] == ["x0"]
    assert len(dataset.first(None).records) == 3


@pytest.mark.parametrize(
    "index",
    [
        "",
        "record_id,shard\nx0,records_000.npz\n",
        "record_id,shard,row,fs_hz\nx0,records_000.npz,0,fast\n",
        "record_id,shard,row,fs_hz\nx0,records_000.npz,0,0\n",
        "record_id,shard,row,fs_hz\nx0,records_000.npz,0,1/0\n",
        "record_id,shard,row,fs_hz\nx0,records_000.npz\n",
        "record_id,shard,row,fs_hz\nx0,records_000.npz,0,360\nx0,records_000.npz,0,360\n",
    ],
)
def test_a_damaged_index_is_named(make_root: MakeRoot, index: str) -> None:
    root = make_root("mitdb")
    (root / "mitdb" / "index.csv").write_text(index, encoding="utf-8")
    if not index:  # no line at all is a set without records
        dataset = open_dataset(root, "mitdb")
        assert dataset is not None
        assert not dataset.records
        return
    with pytest.raises(DatasetCorrupt, match=r"mitdb/index\.csv"):
        open_dataset(root, "mitdb")


@pytest.mark.parametrize("row", [-1, 1, 7])
def test_a_record_elsewhere_than_the_index_says(make_root: MakeRoot, row: int) -> None:
    root = make_root("mitdb")
    text = f"record_id,shard,row,fs_hz\nx0,records_000.npz,{row},360\n"
    (root / "mitdb" / "index.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetCorrupt, match="x0"):
        read_all(root)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": np.array([2**30, 1], np.int32)},
        {"samples": np.array([-5, 1], np.int32)},
        {"channels": np.array([0, 2], np.int16)},
        {"start": np.array([0, 5], np.int64)},
        {"start": np.array([0, 10**9, 10**9], np.int64)},
        {"delta": np.zeros(5, np.int16)},
        {"delta": np.zeros(57_600, np.float64)},
    ],
)
def test_a_shard_that_does_not_add_up(make_root: MakeRoot, change: dict[str, np.ndarray]) -> None:
    root = make_root("mitdb")
    path = root / "mitdb" / "records_000.npz"
    with np.load(path) as shard:
        content = dict(shard)
    np.savez(path, **(content | change))
    with pytest.raises(DatasetCorrupt, match="does not add up"):
        read_all(root)


def test_cut_and_flipped_shards_are_refused_or_read(make_root: MakeRoot) -> None:
    root = make_root("qtdb")
    path = root / "qtdb" / "records_000.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    for share in range(0, 100, 5):
        path.write_bytes(whole[: len(whole) * share // 100])
        with pytest.raises(DatasetCorrupt, match=r"qtdb/records_000\.npz"):
            read_all(root, "qtdb")
    refused = 0
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            read_all(root, "qtdb")
        except DatasetCorrupt:
            refused += 1
    assert refused > 150  # zip's CRC-32 sees what changes a sample


def test_a_shard_that_is_not_there(make_root: MakeRoot) -> None:
    root = make_root("qtdb")
    (root / "qtdb" / "records_000.npz").unlink()
    with pytest.raises(DatasetCorrupt, match=r"qtdb/records_000\.npz"):
        read_all(root, "qtdb")
