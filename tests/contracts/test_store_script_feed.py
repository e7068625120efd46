"""Random calls of what came with 1.1: notes, deletions, what comes down, repairs; the in-memory store is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tests.contracts.test_store_script as script
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.contracts.conftest import window
from tests.contracts.exchanges import MakeWindow
from tests.contracts.test_store_script import (
    ALIAS,
    START_MS,
    SYNC_KEY,
    WINDOW_MS,
    TwoStores,
    annotation_rows,
    observed,
    times,
)

from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketDigest,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    FurtherRegister,
    IdentifiedResult,
    NoteRow,
    Owner,
    RejectReason,
    RepairRequest,
    RepairResponse,
    ResultId,
    RowKind,
    RowVerdict,
    Run,
    ServerLimits,
    Superseded,
    Tombstone,
    VerdictCode,
)
from einthoven_protocol.riblt import items

OTHER, STRANGER = 4, 9
OWNERS = (Owner(ALIAS, SYNC_KEY), Owner(OTHER, b"o" * 32))
SESSION = bytes(16)

aliases = st.sampled_from([ALIAS, ALIAS, OTHER, OTHER, STRANGER])
counters = st.integers(1, 4)
targets = st.builds(ResultId, aliases, st.just(1), counters)


def result_row(seed: int, counter: int, extra: bool) -> Any:
    import msgspec

    row = msgspec.structs.replace(to_row(window(seed)[0]), counter=counter)
    return msgspec.structs.replace(row, extra=((64, 5), (65, b"x"))) if extra else row


results = st.builds(
    lambda alias, epoch, counter, seed, extra: IdentifiedResult(
        device_alias=alias, epoch=epoch, row=result_row(counter if seed else 5, counter, extra)
    ),
    aliases,
    st.sampled_from([1, 1, 1, 2]),
    counters,
    st.booleans(),
    st.sampled_from([False, False, True]),
)
notes = st.builds(
    lambda alias, counter, text: NoteRow(
        device_alias=alias, epoch=1, counter=counter, author="a", at_ms=START_MS + counter, text=text
    ),
    st.sampled_from([0, ALIAS, OTHER, STRANGER]),
    counters,
    st.sampled_from(["", "slept badly"]),
)
superseded = st.builds(
    Superseded, targets, st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["", "x"])
)
tombstones = st.builds(
    lambda kind, target, author, hlc: Tombstone(
        kind,
        target.device_alias,
        target.epoch,
        target.counter,
        author if kind == RowKind.ANNOTATION else "",
        hlc if kind == RowKind.ANNOTATION else 0,
    ),
    st.sampled_from([1, 1, 2, 2, 3, 3, 9]),
    targets,
    st.sampled_from("ab"),
    st.sampled_from([0, 2, 4]),
)
documents = st.builds(
    lambda name, version: Document(name=name, version=version, issued_at_ms=1, body=b"{}", signature=b"s"),
    st.sampled_from(["settings/a", "consents/b"]),
    st.integers(1, 3),
)
words = st.builds(
    lambda row, target, further: AnnotationRow(
        target=target, author=row.author, rhythm=row.rhythm, comment=row.comment, further=further
    ),
    annotation_rows,
    targets,
    st.sampled_from([(), (), (FurtherRegister(0, 3, b"y"),)]),
)
reasons = st.sampled_from(
    [RejectReason.CONFLICTS_WITH_STORED, RejectReason.DELETED, RejectReason.CLOCK_SKEW, RejectReason.NOT_ALLOWED]
)
BUCKETS = ((ALIAS, 1), (ALIAS, 2), (OTHER, 1), (OTHER, 2), (0, 2), (STRANGER, 1))


def unique(rows: list[Any], name: Callable[[Any], object]) -> tuple[Any, ...]:
    return tuple({name(row): row for row in rows}.values())


def all_observed(store: Store) -> dict[str, object]:
    shares = [store.shares(*bucket) for bucket in BUCKETS]
    return observed_before(store) | {
        "notes": list(store.notes(0, 2**60)),
        "some notes": list(store.notes(START_MS + 2, START_MS + 3, limit=1)),
        "superseded": list(store.superseded()),
        "of one": list(store.superseded(ResultId(OTHER, 1, 2))),
        "documents": list(store.documents()),
        "owners": list(store.owners()),
        "replicas": list(store.replicas(0, 2**60)),
        "some replicas": list(store.replicas(START_MS, START_MS + 2 * WINDOW_MS, limit=2)),
        "replica": [store.replica(ResultId(alias, 1, 2)) for alias in (ALIAS, OTHER)],
        "shares": [(one.shares.tobytes(), one.result_ids.tolist()) for one in shares],
        "given": store.to_give(limit=2),
    }


observed_before = observed


class TwoStoresFed(TwoStores):
    """The same calls go to both stores; a server may say anything."""

    def both(self, call: Callable[[Store], Any]) -> None:
        actual = script.outcome(lambda: call(self.store))
        assert script.outcome(lambda: call(self.oracle)) == actual
        one, other = all_observed(self.store), all_observed(self.oracle)
        for name in one:
            assert one[name] == other[name], name
        epoch = self.oracle.sync_state().epoch
        if epoch != self.epochs[-1]:
            self.epochs.append(epoch)
        self.digests_are_those_of_the_shares()

    def digests_are_those_of_the_shares(self) -> None:
        state = self.store.sync_state()
        said = {(one.device_alias, one.kind): (one.count, one.total) for one in state.digests}
        for bucket in BUCKETS:
            shares = self.store.shares(*bucket).shares
            total = sum(int.from_bytes(row.tobytes(), "big") for row in shares) % 2**128
            expected = (state.digest.count, state.digest.total) if bucket == (ALIAS, 1) else said.get(bucket, (0, 0))
            assert (len(shares), total) == expected

    @initialize(enrolled=st.sampled_from([True, True, True, False]))
    def enrol(self, enrolled: bool) -> None:
        if enrolled:
            self.both(lambda store: store.put_setting("sync_key", SYNC_KEY))

    @invariant()
    def no_word_goes_before_its_result(self) -> None:
        """R9, of this device's own results."""
        books, pending = self.oracle._books, self.oracle.pending(limit=1_000)
        spoken_of = [row.target for row in pending.annotations]
        spoken_of += [
            ResultId(row.device_alias, row.epoch, row.counter)
            for row in pending.deletions
            if row.kind == RowKind.ANNOTATION
        ]
        for target in spoken_of:
            place = (target.epoch, target.counter)
            own = target.device_alias == books.own_alias and place in books.results
            assert not own or target.counter <= books.acknowledged[target.epoch]

    @rule(text=st.sampled_from(["x", "", "y" * 2_001]), step=st.integers(-1, 4))
    def add_note(self, text: str, step: int) -> None:
        self.both(lambda store: store.add_note("a", text, at_ms=START_MS + step))

    @rule(row=words)
    def annotate_any(self, row: AnnotationRow) -> None:
        self.both(lambda store: store.annotate(row))

    @rule(row=tombstones, own=st.booleans(), pick=st.integers(0, 99))
    def delete(self, row: Tombstone, own: bool, pick: int) -> None:
        if own:
            said = [
                Tombstone(RowKind.NOTE, note.device_alias, note.epoch, note.counter)
                for note in self.oracle.notes(0, 2**60)
            ]
            said += [
                Tombstone(RowKind.ANNOTATION, one.target.device_alias, one.target.epoch, one.target.counter, one.author)
                for one in self.oracle.annotations()
            ]
            row = said[pick % len(said)] if said else row
        self.both(lambda store: store.delete(row))

    @rule(limit=st.integers(0, 3))
    def send(self, limit: int) -> None:
        """Everything; an alias changes only with a key, which makes all that came down be dropped."""
        waiting = self.oracle.pending(limit=limit)
        self.requests.append(
            ExchangeRequest(
                device_alias=ALIAS,
                epoch=waiting.epoch,
                results=waiting.results,
                annotations=waiting.annotations,
                annotation_bases=waiting.annotation_bases,
                alerts=waiting.alerts,
                notes=waiting.notes,
                deletions=waiting.deletions,
                cursor=self.oracle.sync_state().cursor,
            )
        )

    @rule(
        taken=st.integers(-1, 3),
        notes_taken=st.integers(-1, 3),
        refused=st.lists(st.tuples(st.integers(0, 9), reasons), max_size=2),
        rejected=st.lists(st.tuples(st.integers(0, 4), reasons), max_size=2),
        down=st.fixed_dictionaries(
            {
                "results": st.lists(results, max_size=4),
                "annotations": st.lists(words, max_size=2),
                "notes": st.lists(notes, max_size=2),
                "superseded": st.lists(superseded, max_size=2),
                "tombstones": st.lists(tombstones, max_size=2),
                "documents": st.lists(documents, max_size=1),
            }
        ),
        owners=st.sampled_from([(), (), OWNERS, OWNERS, OWNERS[:1], (*OWNERS[:1], Owner(OTHER, b"p" * 32))]),
        history=st.sampled_from([0, 0, 0, 0, 1]),
        moved=st.sampled_from([-1, 0, 1, 1, 1]),
        feeds=st.sampled_from([True, True, True, False]),
        flags=st.tuples(st.booleans(), st.sampled_from([False, False, True])),
        equal=st.booleans(),
        pick=st.integers(0, 99),
        at_ms=times,
    )
    def answer(self, **said: Any) -> None:
        if not self.requests:
            return
        request = self.requests[-1 - said["pick"] % len(self.requests) % 3]
        response = self.response(request, said)
        self.pairs.append((request, response))
        self.both(lambda store: store.apply_exchange(request, response, at_ms=said["at_ms"]))

    def response(self, request: ExchangeRequest, said: dict[str, Any]) -> ExchangeResponse:
        down, more = said["down"], said["flags"][0]
        pushed: list[tuple[int, int, int, int, str]] = [
            (RowKind.NOTE, ALIAS, row.epoch, row.counter, "") for row in request.notes
        ]
        pushed += [(row.kind, row.device_alias, row.epoch, row.counter, row.author) for row in request.deletions]
        pushed += [
            (RowKind.ANNOTATION, row.target.device_alias, row.target.epoch, row.target.counter, row.author)
            for row in request.annotations
        ]
        refused = {pushed[at % len(pushed)]: reason for at, reason in said["refused"]} if pushed else {}
        counters = [row.counter for row in (*request.results, *request.alerts)]
        rejected = {counters[at % len(counters)]: reason for at, reason in said["rejected"]} if counters else {}
        state, key = self.oracle.sync_state(), (request.results, request.notes)
        first, first_note = (rows[0].counter if rows else 1 for rows in key)
        return ExchangeResponse(
            acknowledged=max(0, first + said["taken"]),
            notes_acknowledged=max(0, first_note + said["notes_taken"]),
            verdicts=tuple(
                RowVerdict(counter, VerdictCode.REJECTED, reason) for counter, reason in sorted(rejected.items())
            ),
            refused=tuple(
                AnnotationVerdict(name[0], name[1], name[2], name[3], name[4], int(reason))
                for name, reason in refused.items()
            ),
            annotations=unique(down["annotations"], lambda row: (row.target, row.author)),
            results=unique(down["results"], lambda one: (one.device_alias, one.epoch, one.row.counter)),
            notes=unique(down["notes"], lambda row: (row.device_alias, row.epoch, row.counter)),
            superseded=unique(down["superseded"], lambda row: row),
            tombstones=unique(down["tombstones"], lambda row: (row.kind, row.device_alias, row.counter, row.author)),
            documents=tuple(down["documents"]),
            owners=said["owners"],
            cursor=Cursor(
                request.cursor.shard_epoch + said["history"], max(0, request.cursor.commit_seq + said["moved"])
            ),
            digest=state.digest if said["equal"] else Digest(1, 1),
            digests=state.digests if said["equal"] else (BucketDigest(OTHER, BucketKind.WORDS, 1, 1),),
            more=more,
            rebaseline=said["flags"][1],
            capabilities=int(Capability.FEED) if said["feeds"] else 0,
            limits=ServerLimits(max_results=7, min_interval_s=3),
        )

    @rule(
        bucket=st.sampled_from([(ALIAS, 1), (ALIAS, 1), (ALIAS, 2), (OTHER, 1), (OTHER, 2), (0, 2)]),
        absent=st.lists(st.integers(0, 99), max_size=3),
        down=st.fixed_dictionaries(
            {
                "results": st.lists(results, max_size=3),
                "annotations": st.lists(words, max_size=1),
                "notes": st.lists(notes, max_size=2),
                "superseded": st.lists(superseded, max_size=1),
            }
        ),
        wanted=st.sampled_from([(), (), (Run(1, 1, 3),)]),
        verdicts=st.lists(st.integers(0, 2), max_size=3),
        equal=st.booleans(),
        history=st.sampled_from([0, 0, 0, 1]),
        at_ms=times,
    )
    def repair(self, bucket: tuple[int, int], absent: list[int], down: dict[str, Any], **said: Any) -> None:
        owner, kind = bucket
        shares = self.oracle.shares(owner, kind).shares
        named = items(SESSION, np.array(shares)).tolist()
        given, _ = self.oracle.to_give(limit=3)
        state = self.oracle.sync_state()
        records = kind == BucketKind.RECORDS
        mine = [one for one in down["results"] if one.device_alias == owner]
        request = RepairRequest(
            device_alias=ALIAS,
            owner=owner,
            kind=kind,
            session=SESSION,
            symbols=b"" if said["wanted"] else bytes(8),
            wanted=said["wanted"] if records else (),
            given=given,
        )
        response = RepairResponse(
            decoded=0 if said["wanted"] else 1,
            absent=tuple(sorted({int(named[at % len(named)]) for at in absent})) if len(named) else (),
            results=unique(mine, lambda one: (one.device_alias, one.epoch, one.row.counter)) if records else (),
            annotations=tuple(row for row in down["annotations"] if row.target.device_alias == owner and records),
            notes=unique(
                [row for row in down["notes"] if row.device_alias == owner and not records],
                lambda row: (row.device_alias, row.epoch, row.counter),
            ),
            superseded=tuple(row for row in down["superseded"] if row.target.device_alias == owner and not records),
            verdicts=tuple(said["verdicts"])[: len(given)],
            digest=state.digest if said["equal"] else Digest(1, 1),
            cursor=Cursor(state.cursor.shard_epoch + said["history"], state.cursor.commit_seq),
        )
        self.both(lambda store: store.apply_repair(request, response, at_ms=said["at_ms"]))


@pytest.mark.parametrize("examples", [20, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_both_stores_agree_on_what_comes_down(make_window: MakeWindow, examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call, unused-ignore]
        lambda: TwoStoresFed(make_window),  # type: ignore[arg-type]  # Hypothesis takes any callable
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, database=None),
    )
