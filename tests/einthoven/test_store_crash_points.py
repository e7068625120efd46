"""The store, cut off: kill -9, failing disks and power cuts at the calls of every workload; and the harness itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from einthoven_bench.crash_arena import Picture
from einthoven_bench.crash_disk_states import DiskState, disk_states
from einthoven_bench.crash_points import CrashOutcome, run
from einthoven_bench.crash_recording import Change, read_changes
from einthoven_bench.crash_shim import PRELOAD_VARIABLE, CallKind, Shim, build_shim, environment_with
from einthoven_bench.crash_sweep import FaultKind
from einthoven_bench.crash_workloads import WORKLOADS
from einthoven_bench.errors import CompilerNotFound, ShimNotLoaded

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="crash points need Linux")

QUICK_POINTS = 160
DOUBLES_POINTS = 150
ALL_POINTS = 10_000
FOLDER = "/f"
FOLDER_INODES = {1: ""}


# ---- the store -------------------------------------------------------------------------------------------------------


def assert_nothing_lost(outcome: CrashOutcome) -> None:
    assert outcome.told == []
    assert (outcome.problems, outcome.not_one_key) == (0, 0)
    assert set(outcome.by_workload) == {workload.name for workload in WORKLOADS}
    kinds = {kind for found in outcome.by_workload.values() for kind in found}
    assert kinds == {kind.value for kind in FaultKind}


def test_nothing_acknowledged_is_lost_wherever_the_store_is_cut_off() -> None:
    outcome = run(QUICK_POINTS, seed=1)

    assert_nothing_lost(outcome)
    assert outcome.points >= 0.9 * QUICK_POINTS


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_nothing_acknowledged_is_lost_at_ten_thousand_points() -> None:
    outcome = run(ALL_POINTS, seed=2)

    assert_nothing_lost(outcome)
    assert outcome.points >= ALL_POINTS


# ---- points that were defects once -----------------------------------------------------------------------------------

_READS_THAT_FAIL = """
import errno, sys
from pathlib import Path
from einthoven.errors import StoreIOError
from einthoven.sqlcipher_connection import FileKey
from einthoven.sqlcipher_page_file import READ_TRIES, FileBytes, PageFile
from einthoven_bench.crash_shim import CallKind, Mode, Shim
folder, shim, reads = Path(sys.argv[1]), Shim(), frozenset({CallKind.READ})
shim.watch(folder)
path = folder / "store.db"
path.write_bytes(bytes(range(256)) * 64)
shim.arm(Mode.COUNT, reads)  # only files that are opened while it counts are watched
file = FileBytes(path)
shim.arm(Mode.FAIL_ONCE, reads, at=1, error=errno.EIO)
assert file.read_at(256, 4) == bytes(range(4)), "one failed read is tried again"
assert shim.fired() and not file.reads_after_all()
shim.arm(Mode.FAIL_ON, reads, at=1, error=errno.EIO)
assert file.read_at(256, 4) == b"" and shim.counted() == READ_TRIES
assert not file.reads_after_all()
shim.lift()
assert file.reads_after_all()
for _ in range(2):
    with PageFile(path) as pages_file:
        shim.arm(Mode.FAIL_ON, reads, at=1, error=errno.EIO)
        with pages_file.pages(FileKey(bytes(range(32)), bytes(16))) as pages:
            assert not pages.whole(1)
            pages_file.check_lasting()
            shim.lift()
            try:
                pages_file.check_lasting()
            except StoreIOError as error:
                print(error)
    (folder / "store.db-wal").write_bytes(bytes(9_000))
"""


def test_a_read_that_fails_is_tried_again_and_what_comes_back_was_not_lost(tmp_path: Path) -> None:
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()

    done = behind_shim(_READS_THAT_FAIL, outside, watched)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not be read for a while") == 2


_A_COMMIT_THAT_IS_NOT_SYNCED = """
import errno, os, sys
from pathlib import Path
from einthoven.errors import StoreIOError
from einthoven.keys import StaticKeyProvider
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.crash_shim import CALLS, CallKind, Mode, Shim
folder, shim, provider = Path(sys.argv[1]), Shim(), StaticKeyProvider(bytes(range(32)))
shim.watch(folder)
shim.arm(Mode.COUNT, CALLS)
store = SqlCipherStore.open(folder / "store.db", provider)
store.put_setting("before", b"1")
for failing in (frozenset({CallKind.SYNC}), CALLS):
    shim.arm(Mode.FAIL_ON, failing, at=1, error=errno.EIO)
    try:
        store.put_setting("failed", b"1")
    except StoreIOError:
        print("failed")
    assert shim.fired()
shim.lift()
assert store.setting("failed") is None, "the caller was told that it failed"
store.put_setting("after", b"1")
store.close()
with SqlCipherStore.open(folder / "store.db", provider, create=False) as store:
    print([name for name in ("before", "failed", "after") if store.setting(name)], store.take_events())
"""


def test_a_commit_that_could_not_be_synced_does_not_come_back(tmp_path: Path) -> None:
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()

    done = behind_shim(_A_COMMIT_THAT_IS_NOT_SYNCED, outside, watched)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["failed", "failed", "['before', 'after'] []"]


_ONE_OPEN_THAT_FAILS = """
import errno, os, sys
from pathlib import Path
from einthoven.errors import StoreIOError
from einthoven.keys import StaticKeyProvider
from einthoven.store_events import AnchorFailed
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.crash_shim import CALLS, CallKind, Mode, Shim
folder, shim, provider = Path(sys.argv[1]), Shim(), StaticKeyProvider(bytes(range(32)))
shim.watch(folder)
shim.arm(Mode.COUNT, CALLS)
SqlCipherStore.open(folder / "store.db", provider).close()
fired, number, refused = True, 0, 0
while fired:
    number += 1
    shim.arm(Mode.FAIL_ONCE, frozenset({CallKind.OPEN, CallKind.CREATE}), at=number, error=errno.EIO)
    try:
        store = SqlCipherStore.open(folder / "store.db", provider, create=False)
    except StoreIOError:
        refused += 1
        store = SqlCipherStore.open(folder / "store.db", provider, create=False)
    fired = shim.fired()
    shim.lift()
    assert store.setting("other") is None
    store.put_setting("name", bytes([number]))
    assert store.setting("name") == bytes([number])
    assert not [event for event in store.take_events() if not isinstance(event, AnchorFailed)], number
    store.close()
print(number > 5, refused > 3, sorted(file.name for file in folder.iterdir()))
"""


def test_one_file_that_could_not_be_opened_leaves_no_store_that_can_not_write(tmp_path: Path) -> None:
    """SQLite opens its log's index for reading then, for every connection of the process."""
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()

    done = behind_shim(_ONE_OPEN_THAT_FAILS, outside, watched)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True True ['store.db', 'store.db.anchor', 'store.db.keys'")
    assert ".damaged" not in done.stdout


_ALL_OF_A_KIND = """
import json, sys
from pathlib import Path
from einthoven_bench.crash_arena import Arena
from einthoven_bench.crash_shim import Shim
from einthoven_bench.crash_sweep import FaultKind, Sweep
from einthoven_bench.crash_workloads import WORKLOADS
workload = next(workload for workload in WORKLOADS if workload.name == sys.argv[2])
sweep = Sweep(workload, Arena(Path(sys.argv[1])), Shim())
faults = [fault for fault in sweep.faults() if fault.kind is FaultKind[sys.argv[3]]]
points = [sweep.fault(fault) for fault in faults]
told = [f"{point.at}, {point.what}: {point.verdict.problem}" for point in points if point and point.verdict.problem]
print(json.dumps([len(points), told]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        ("repair", FaultKind.EIO_ONCE),  # one failed read was taken for a lost page
        ("rekey", FaultKind.EIO_ON),  # the open store said "damaged" until it was opened again
        ("insert", FaultKind.EIO_ON),  # a commit whose sync failed came back as a row
        ("insert", FaultKind.EIO_ONCE),  # one failed read while opening had the whole file repaired
    ],
)
def test_calls_at_which_rows_were_lost_or_doubled_once(tmp_path: Path, workload: str, kind: FaultKind) -> None:
    arena = tmp_path / "arena"
    arena.mkdir()

    done = behind_shim(_ALL_OF_A_KIND, tmp_path, arena, workload, kind.name, timeout_s=500)

    assert done.returncode == 0, done.stderr
    count, told = json.loads(done.stdout)
    assert count > 100
    assert told == []


# ---- the harness can fail --------------------------------------------------------------------------------------------


def test_stores_that_lose_rows_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    outcome = run(DOUBLES_POINTS, seed=1, entry="tests.einthoven.crash_doubles")

    said = {
        "gap": "does not open",
        "early": "missing",
        "half": "not the state",
        "doubling": "too much",
        "leaky": "OSError",
        "unsynced": "missing",
    }
    for double, words in said.items():
        lines = [line for line in outcome.told if line.startswith(f"{double}, ")]
        assert any(words in line for line in lines), (double, lines[:5])
    assert outcome.not_one_key > 0
    assert outcome.problems < outcome.points


# ---- the library -----------------------------------------------------------------------------------------------------

_PYTHON_CALLS = """
import json, os, shutil, sys
from pathlib import Path
from einthoven_bench.crash_shim import CALLS, Mode, Shim
folder, outside = Path(sys.argv[1]), Path(sys.argv[2])
shim = Shim()
shim.watch(folder)
log = os.open(outside / "log", os.O_WRONLY | os.O_CREAT)
kept = outside / "kept"
kept.mkdir()
shim.record_to(log, kept)
shim.arm(Mode.COUNT, CALLS)
(outside / "not counted").write_bytes(b"x")
path = folder / "a"
path.write_bytes(b"one")
with path.open("r+b") as file:
    file.read(1)
    os.pwrite(file.fileno(), b"two", 3)
    os.writev(file.fileno(), [b"th", b"ree"])
    os.fsync(file.fileno())
    os.fdatasync(file.fileno())
    os.ftruncate(file.fileno(), 2)
    os.posix_fallocate(file.fileno(), 0, 10)
os.truncate(path, 4)
shutil.copyfile(path, folder / "b")
path.rename(folder / "c")
os.link(folder / "c", folder / "d")
(folder / "d").unlink()
descriptor = os.open(folder, os.O_RDONLY)
os.fsync(descriptor)
os.rename("c", "e", src_dir_fd=descriptor, dst_dir_fd=descriptor)
os.unlink("e", dir_fd=descriptor)
os.close(descriptor)
(folder / "g").mkdir()
(folder / "g").rmdir()
(folder / "missing").unlink(missing_ok=True)
print(json.dumps([shim.kind_at(n).name for n in range(1, shim.counted() + 1)]))
"""


def behind_shim(
    script: str, folder: Path, *arguments: object, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    library = build_shim(folder)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment_with(library, os.environ),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_every_call_of_python_on_the_folder_is_seen_and_recorded(tmp_path: Path) -> None:
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()

    done = behind_shim(_PYTHON_CALLS, outside, watched, outside)

    assert done.returncode == 0, done.stderr
    seen = [kind for kind in json.loads(done.stdout) if kind not in {"OPEN", "READ"}]
    expected = (
        "CREATE WRITE WRITE WRITE SYNC SYNC TRUNCATE ALLOCATE TRUNCATE CREATE WRITE RENAME LINK UNLINK SYNC RENAME"
    )
    assert seen == [*expected.split(), "UNLINK", "MKDIR", "RMDIR"]
    changes = read_changes((outside / "log").read_bytes())
    assert [change.kind.name for change in changes] == seen
    written = [(change.offset, change.content) for change in changes if change.kind is CallKind.WRITE]
    # Reading one byte took in the whole file, so the writes that say no offset go where that ended.
    assert written == [(0, b"one"), (3, b"two"), (3, b"three"), (0, b"on\0\0")]


def test_without_a_compiler_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(CompilerNotFound) as refused:
        build_shim(tmp_path)

    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == 2


def test_without_the_library_in_front_nothing_is_measured() -> None:
    if "crash_shim" in os.environ.get(PRELOAD_VARIABLE, ""):
        pytest.skip("this process runs behind the library")
    with pytest.raises(ShimNotLoaded):
        Shim()


# ---- what a power cut leaves -----------------------------------------------------------------------------------------


def change(
    kind: CallKind, inode: int, offset: int = 0, content: bytes = b"", name: str = "", other: str = ""
) -> Change:
    return Change(
        kind, inode, offset, f"{FOLDER}/{name}" if name else "", f"{FOLDER}/{other}" if other else "", content
    )


def states(before: dict[str, bytes], changes: list[Change], wanted: int = 400) -> list[DiskState]:
    names = {name: 100 + number for number, name in enumerate(before)}
    picture = Picture((), names, {names[name]: content for name, content in before.items()}, {})
    return list(disk_states(picture, FOLDER, FOLDER_INODES, changes, wanted, seed=1))


def files(state: DiskState) -> dict[str, bytes]:
    return {name: state.picture.contents[inode] for name, inode in state.picture.names.items()}


def test_what_was_synced_is_there_in_every_state() -> None:
    trace = [
        change(CallKind.WRITE, 100, 0, b"n" * 1_024),
        change(CallKind.SYNC, 100),
        change(CallKind.MARK, 0, content=b"1"),
        change(CallKind.WRITE, 100, 512, b"m" * 512),
    ]

    found = states({"a": b"o" * 1_024}, trace)

    after = [files(state)["a"] for state in found if state.marks == "1"]
    assert {content[:512] for content in after} == {b"n" * 512}
    assert {content[512:] for content in after} == {b"n" * 512, b"m" * 512}
    before = {files(state)["a"] for state in found if not state.marks}
    assert before == {b"o" * 1_024, b"n" * 1_024, b"n" * 512 + b"o" * 512, b"o" * 512 + b"n" * 512}


def test_writes_are_reordered_and_sizes_come_without_content() -> None:
    trace = [change(CallKind.WRITE, 100, 0, b"1" * 512), change(CallKind.WRITE, 100, 512, b"2" * 512)]

    found = {files(state)["a"] for state in states({"a": b""}, trace)}

    assert b"\0" * 512 + b"2" * 512 in found
    assert b"1" * 512 + b"\0" * 512 in found
    assert b"" in found


def test_a_rename_that_was_not_synced_may_not_have_been_and_is_never_half() -> None:
    trace = [
        change(CallKind.CREATE, 7, name="new"),
        change(CallKind.WRITE, 7, 0, b"new"),
        change(CallKind.SYNC, 7),
        change(CallKind.SYNC, 1),
        change(CallKind.RENAME, 7, name="new", other="a"),
        change(CallKind.MARK, 0, content=b"1"),
        change(CallKind.SYNC, 1),
        change(CallKind.MARK, 0, content=b"2"),
    ]

    found = states({"a": b"old"}, trace)

    assert {tuple(sorted(files(state).items())) for state in found if state.marks == "1"} == {
        (("a", b"old"), ("new", b"new")),
        (("a", b"new"),),
    }
    assert {tuple(files(state).items()) for state in found if state.marks == "2"} == {(("a", b"new"),)}


def test_states_are_distinct_bounded_and_the_same_again() -> None:
    trace = [change(CallKind.WRITE, 100, 512 * n, bytes([n]) * 512) for n in range(1, 12)]

    first, second = states({"a": b""}, trace, 50), states({"a": b""}, trace, 50)

    assert len(first) == 50
    assert [files(state) for state in first] == [files(state) for state in second]
    assert len({files(state)["a"] for state in first}) == 50
