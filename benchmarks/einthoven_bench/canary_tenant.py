"""The process that keeps canaries: fills a store through its API, and does on purpose what could make one leak.

Its standard output is a line of JSON for each step that standard input names; everything else that is said, logging at
DEBUG and tracebacks among it, goes to standard error, where it is searched. It deliberately protects itself only when
it is to: the control dumps core.

``python -m einthoven_bench.canary_tenant STORE COUNT SEED encrypted|plain``
"""

from __future__ import annotations

import json
import logging
import os
import resource
import secrets
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from einthoven.errors import EinthovenError
from einthoven.keys import StaticKeyProvider
from einthoven.process_hardening import protect_process
from einthoven.results import WindowResult
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction
from einthoven_bench.canary_content import Canaries, key_needles, made_canaries
from einthoven_bench.store_content import STARTED_AT_MS
from einthoven_bench.store_plain import plain_store
from einthoven_protocol.messages import AnnotationRow, Register, ResultId


class Witness:
    """Wraps with a key of its own, and remembers the data keys that went through it."""

    destroy_is_final = False

    def __init__(self) -> None:
        self.wrapping_key = secrets.token_bytes(32)
        self.data_keys: set[bytes] = set()
        self._provider = StaticKeyProvider(self.wrapping_key)

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        self.data_keys.add(data_key)
        return self._provider.wrap(data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        """See ``KeyProvider``."""
        data_key = self._provider.unwrap(wrapped, store_id)
        self.data_keys.add(data_key)
        return data_key

    def destroy(self) -> None:
        """See ``KeyProvider``."""
        self._provider.destroy()

    def in_digits(self) -> dict[str, str]:
        """All keys, in hexadecimal digits."""
        named = {"wrapping": self.wrapping_key} | {f"data{i}": key for i, key in enumerate(sorted(self.data_keys))}
        return {name: key.hex() for name, key in named.items()}


class Keeper:
    """A store with canaries in it, and what is done to it step by step."""

    def __init__(self, path: Path, canaries: Canaries, *, plain: bool) -> None:
        self._path, self._canaries, self._witness = path, canaries, Witness()
        if plain:
            self._witness.wrap(secrets.token_bytes(32), secrets.token_bytes(16))
            self._store = plain_store(path)
        else:
            self._store = SqlCipherStore.open(path, self._witness)

    def fill(self) -> dict[str, str]:
        """Put everything in; tell the keys."""
        store, canaries = self._store, self._canaries
        for name, value in canaries.settings.items():
            store.put_setting(name, value)
        for window in canaries.windows:
            store.append_window(window.result, window.segment, window.beats)
        for counter, (author, comment) in enumerate(canaries.notes.items(), 1):
            target = ResultId(1, 1, counter)
            store.annotate(
                AnnotationRow(target=target, author=author, rhythm=Register("A", 1), comment=Register(comment, 1))
            )
        for subject in canaries.subjects:
            store.record(AuditAction.VIEWED, subject, at_ms=STARTED_AT_MS)
        store.results(limit=1_000)
        store.results_between(0, 2 * STARTED_AT_MS)
        store.audit_trail(limit=1_000)
        store.annotations()
        return self._witness.in_digits()

    def fail(self) -> dict[str, str]:
        """Make everything that takes content refuse it, and print what is raised."""
        store, window = self._store, self._canaries.windows[0]
        note = next(iter(self._canaries.notes.values()))
        author, value = next(iter(self._canaries.notes)), next(iter(self._canaries.settings.values()))
        foreign = self._canaries.windows[1].segment
        long_note = AnnotationRow(
            target=ResultId(1, 1, 1), author=author, rhythm=Register("A", 2), comment=Register(note * 100, 2)
        )
        refused: list[Callable[[], object]] = [
            lambda: store.append_window(window.result, foreign),
            lambda: store.append_results([_broken(window.result)]),
            lambda: store.annotate(long_note),
            lambda: store.put_setting(next(iter(self._canaries.settings)) * 3, value),
            lambda: store.put_setting("sync_key", value),
            lambda: store.record(AuditAction.VIEWED, self._canaries.subjects[0] * 20, at_ms=STARTED_AT_MS),
            lambda: store.results(limit=-1),
            lambda: SqlCipherStore.open(self._path, self._witness),
            lambda: SqlCipherStore.open(self._path.with_name("none.db"), self._witness, create=False),
        ]
        return {"refused": str(sum(map(_refused, refused)))}

    def repair(self) -> dict[str, str]:
        """Damage the first page of the closed file, so that the next opening sets it aside and makes another."""
        self._store.close()
        with self._path.open("r+b") as file:
            file.seek(1_000)
            file.write(bytes(64))
        with self._path.with_suffix(".other").open("wb") as wrong:
            wrong.write(b"no store" * 1_000)
        _refused(lambda: SqlCipherStore.open(wrong.name, self._witness))
        _refused(lambda: SqlCipherStore.open(self._path, StaticKeyProvider(secrets.token_bytes(32))))
        self._store = SqlCipherStore.open(self._path, self._witness)
        for event in self._store.take_events():
            logging.getLogger("tenant").warning("%r", event)
        return {"files": " ".join(sorted(file.name for file in self._path.parent.iterdir()))}

    def dump(self) -> dict[str, str]:
        """What must not be done: write what is kept to a temporary file as it is."""
        dumped = Path(os.environ["TMPDIR"]) / "dump"
        forms = [*self._canaries.unpacked, *key_needles(self._witness.in_digits())]
        dumped.write_bytes(b"\n".join(forms))
        return {}

    def close(self) -> dict[str, str]:
        """Close the store; the process goes on."""
        self._store.close()
        return {}


def _broken(result: WindowResult) -> WindowResult:
    fields = {name: getattr(result, name) for name in result.__slots__}
    return WindowResult(**(fields | {"confidence_permille": 70_000}))


def _refused(call: Callable[[], object]) -> bool:
    """Call; whether it was refused, with its traceback printed."""
    try:
        call()
    except (EinthovenError, ValueError):
        traceback.print_exc()
        logging.getLogger("tenant").exception("refused")
        return True
    return False


def main(path: Path, count: int, seed: int, kind: str) -> None:
    """Take steps until told to abort."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    if kind == "encrypted":
        protect_process()
    keeper = Keeper(path, made_canaries(count, seed), plain=kind == "plain")
    steps = {step.__name__: step for step in (keeper.fill, keeper.fail, keeper.repair, keeper.dump, keeper.close)}
    for line in sys.stdin:
        if line.strip() == "abort":
            os.abort()
        sys.stdout.write(json.dumps(steps[line.strip()]()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
