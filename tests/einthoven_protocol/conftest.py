"""Rows and messages for the tests of the wire: any that are allowed, and ones like a device's.

Strategies are registered by type, so that a test says ``st.from_type(ResultRow)`` or just annotates its argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.messages import (
    AnnotationRow,
    AnnotationVerdict,
    BucketDigest,
    Cursor,
    Digest,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    Extra,
    FurtherRegister,
    IdentifiedResult,
    NoteRow,
    Owner,
    Register,
    ResultId,
    ResultRow,
    RowVerdict,
    Seal,
    ServerLimits,
    Superseded,
    Tombstone,
)


def text(max_characters: int, min_characters: int = 0) -> st.SearchStrategy[str]:
    """Text that a row may hold: neither lone surrogates nor U+0000."""
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(letters, min_size=min_characters, max_size=max_characters)


def fixed(length: int) -> st.SearchStrategy[bytes]:
    """Bytes of one length."""
    return st.binary(min_size=length, max_size=length)


counters = st.integers(1, limits.MAX_COUNTER)
epochs = st.integers(1, limits.MAX_EPOCH)
aliases = st.integers(0, limits.MAX_DEVICE_ALIAS)
logits = st.integers(limits.MIN_LOGIT, limits.MAX_LOGIT)
enums = st.integers(0, limits.MAX_ENUM)


@st.composite
def extras(draw: st.DrawFn) -> Extra:
    """Columns of a newer version: five at most, which is within what a result may have."""
    numbers = draw(st.sets(st.integers(limits.MIN_EXTRA_NUMBER, limits.MAX_EXTRA_NUMBER), max_size=5))
    integers = st.integers(-(2**63), 2**63 - 1).filter(bool)
    octets = st.binary(min_size=1, max_size=20)
    return tuple((number, draw(octets if number % 2 else integers)) for number in sorted(numbers))


@st.composite
def registers(draw: st.DrawFn) -> tuple[FurtherRegister, ...]:
    """Registers of a newer version, none of which says nothing."""
    numbers = draw(st.sets(st.integers(0, limits.MAX_FURTHER_REGISTERS - 1), max_size=3))
    drawn = [
        FurtherRegister(number, draw(st.integers(0, limits.MAX_HLC)), draw(st.binary(max_size=12)))
        for number in sorted(numbers)
    ]
    return tuple(register for register in drawn if register.hlc or register.value)


results = st.builds(
    ResultRow,
    counter=counters,
    started_at_ms=st.integers(0, limits.MAX_TIME_MS),
    duration_ms=st.integers(0, limits.MAX_DURATION_MS),
    n_steps=st.integers(0, limits.MAX_STEPS),
    usable_s=st.integers(0, limits.MAX_USABLE_S),
    quality=st.integers(0, limits.MAX_QUALITY),
    rhythm=enums,
    confidence_permille=st.integers(0, limits.MAX_CONFIDENCE_PERMILLE),
    logits=st.tuples(logits, logits, logits, logits),
    tier=enums,
    reason=enums,
    model_digest=st.one_of(st.just(bytes(32)), fixed(32)),
    front_end_version=st.integers(0, limits.MAX_FRONT_END_VERSION),
    extra=st.one_of(st.just(()), extras()),
)
targets = st.builds(ResultId, aliases, epochs, counters)
hlcs = st.integers(0, limits.MAX_HLC)
annotations = st.builds(
    AnnotationRow,
    target=targets,
    author=text(limits.MAX_AUTHOR_CHARACTERS, 1),
    rhythm=st.builds(Register, text(limits.MAX_RHYTHM_CHARACTERS), hlcs),
    comment=st.builds(Register, text(40), hlcs),
    further=st.one_of(st.just(()), registers()),
)
authors = text(limits.MAX_AUTHOR_CHARACTERS, 1)
times_ms = st.integers(0, limits.MAX_TIME_MS)
notes = st.builds(
    NoteRow,
    device_alias=aliases,
    epoch=epochs,
    counter=counters,
    author=authors,
    at_ms=times_ms,
    text=text(40),
    extra=st.one_of(st.just(()), extras()),
)
superseded = st.builds(Superseded, targets, authors, st.integers(1, limits.MAX_ENUM), hlcs, text(40))
kinds = st.integers(1, limits.MAX_ENUM)
tombstones = st.builds(Tombstone, kinds, aliases, epochs, counters, text(limits.MAX_AUTHOR_CHARACTERS), hlcs)
refusals = st.builds(AnnotationVerdict, kinds, aliases, epochs, counters, text(limits.MAX_AUTHOR_CHARACTERS), enums)
documents = st.builds(
    Document,
    name=text(limits.MAX_DOCUMENT_NAME_CHARACTERS, 1),
    version=st.integers(1, limits.MAX_DOCUMENT_VERSION),
    issued_at_ms=times_ms,
    body=st.binary(max_size=60),
    signature=st.binary(max_size=80),
)
owners = st.builds(Owner, aliases, fixed(32))
bucket_digests = st.builds(
    BucketDigest, aliases, kinds, st.integers(0, limits.MAX_DIGEST_COUNT), st.integers(0, 2**128 - 1)
)
identified = st.builds(IdentifiedResult, device_alias=aliases, epoch=epochs, row=results)
capabilities = st.integers(0, limits.MAX_CAPABILITIES)
cursors = st.builds(Cursor, st.integers(0, limits.MAX_SHARD_EPOCH), st.integers(0, limits.MAX_COMMIT_SEQ))


def _numbered(rows: Sequence[Any], first: int, **changes: int) -> tuple[Any, ...]:
    return tuple(msgspec.structs.replace(row, counter=first + place, **changes) for place, row in enumerate(rows))


@st.composite
def requests(draw: st.DrawFn) -> ExchangeRequest:
    """A request: contiguous results and notes, alerts behind the results, and seals whose runs lie within them."""
    device_alias, epoch = draw(aliases), draw(epochs)
    drawn, urgent = draw(st.lists(results, max_size=8)), draw(st.lists(results, max_size=3))
    first = draw(st.integers(1, limits.MAX_COUNTER - 20))
    rows = _numbered(drawn, first)
    alerts = tuple(
        msgspec.structs.replace(row, counter=first + len(rows) + 2 * place) for place, row in enumerate(urgent)
    )
    runs = [st.just((alert.counter, alert.counter)) for alert in alerts]
    if rows:
        bounds = st.integers(first, first + len(rows) - 1)
        runs.append(st.tuples(bounds, bounds))
    seals = [
        Seal(
            epoch=draw(epochs),
            first_counter=min(run),
            last_counter=max(run),
            results_root=draw(fixed(32)),
            segments_root=draw(fixed(32)),
            signature=draw(fixed(64)),
        )
        for run in draw(st.lists(st.one_of(runs or [st.tuples(counters, counters)]), max_size=3))
    ]
    written = tuple(draw(st.lists(annotations, max_size=4)))
    marks = st.tuples(*[st.integers(0, limits.MAX_BASE_MARK)] * 2)
    return ExchangeRequest(
        device_alias=device_alias,
        epoch=epoch,
        cursor=draw(cursors),
        capabilities=draw(capabilities),
        owners_known=draw(st.integers(0, limits.MAX_OWNERS)),
        results=rows,
        annotations=written,
        annotation_bases=tuple(draw(marks) for _ in written) if draw(st.booleans()) else (),
        seals=tuple(seals),
        alerts=alerts,
        notes=_numbered(draw(st.lists(notes, max_size=3)), first, device_alias=device_alias, epoch=epoch),
        deletions=tuple(draw(st.lists(tombstones, max_size=3))),
    )


verdicts = st.builds(RowVerdict, counters, st.integers(1, limits.MAX_ENUM), enums)
responses = st.builds(
    ExchangeResponse,
    acknowledged=st.integers(0, limits.MAX_COUNTER),
    notes_acknowledged=st.integers(0, limits.MAX_COUNTER),
    verdicts=st.lists(verdicts, max_size=8).map(tuple),
    refused=st.lists(refusals, max_size=3).map(tuple),
    annotations=st.lists(annotations, max_size=4).map(tuple),
    results=st.lists(identified, max_size=4).map(tuple),
    notes=st.lists(notes, max_size=3).map(tuple),
    superseded=st.lists(superseded, max_size=3).map(tuple),
    tombstones=st.lists(tombstones, max_size=3).map(tuple),
    documents=st.lists(documents, max_size=2).map(tuple),
    owners=st.lists(owners, max_size=3).map(tuple),
    cursor=cursors,
    digest=st.builds(Digest, st.integers(0, limits.MAX_DIGEST_COUNT), st.integers(0, 2**128 - 1)),
    digests=st.lists(bucket_digests, max_size=3).map(tuple),
    more=st.booleans(),
    rebaseline=st.booleans(),
    server_time_ms=st.integers(0, limits.MAX_TIME_MS),
    capabilities=capabilities,
    limits=st.builds(
        ServerLimits, **{name: st.integers(0, limits.MAX_ANNOUNCED) for name in ServerLimits.__struct_fields__}
    ),
)

st.register_type_strategy(ResultRow, results)
st.register_type_strategy(AnnotationRow, annotations)
st.register_type_strategy(NoteRow, notes)
st.register_type_strategy(Superseded, superseded)
st.register_type_strategy(ExchangeRequest, requests())
st.register_type_strategy(ExchangeResponse, responses)

_CLASS_MEANS = ((900, -700, -100, -900), (-800, 800, 0, -900), (-300, -200, 400, -700), (-600, -500, -200, 900))


def realistic_results(n: int) -> tuple[ResultRow, ...]:
    """Results of a device worn for a while: 30 s apart with gaps, logits pooled as ``einthoven.analysis`` does.

    The sums of 30 steps' int8 logits are normal about a class's mean with a standard deviation of 250, which is about
    10 bits of noise for each logit; pooled, they are means with 8 fractional bits.
    """
    random = np.random.default_rng(2017)
    model_digest = hashlib.sha256(b"model").digest()
    started_at_ms = 1_780_000_000_000
    expected, rows = 0, []
    for counter in range(1, n + 1):
        if random.random() < 0.1:
            expected = int(random.choice(4, p=[0.6, 0.1, 0.25, 0.05]))
        sums = np.rint(_CLASS_MEANS[expected] + random.normal(0, 250, 4)).astype(int)
        odds = np.exp(sums / 250)
        rhythm = int(sums.argmax())
        pooled = (256 * sums + 15) // 30
        confidence = int(1000 * odds[rhythm] / odds.sum())
        reason = 1 if rhythm == 3 else 3 if confidence < 600 else 0
        usable_s = 30 if rhythm != 3 else int(random.integers(3, 30))
        started_at_ms += 30_000 + (int(random.integers(3_600_000)) if random.random() < 0.002 else 0)
        rows.append(
            ResultRow(
                counter=counter,
                started_at_ms=started_at_ms,
                duration_ms=30_000,
                n_steps=30,
                usable_s=usable_s,
                quality=0 if usable_s == 30 else int(random.integers(1, 8)),
                rhythm=rhythm,
                confidence_permille=confidence,
                logits=(int(pooled[0]), int(pooled[1]), int(pooled[2]), int(pooled[3])),
                tier=0 if reason else 1 if rhythm == 0 else 2,
                reason=reason,
                model_digest=model_digest,
                front_end_version=1,
            )
        )
    return tuple(rows)


@pytest.fixture(scope="session")
def device_results() -> Callable[[int], tuple[ResultRow, ...]]:
    """``device_results(n)``: the first n of 10,000 realistic results."""
    rows = realistic_results(10_000)
    return lambda n: rows[:n]


@pytest.fixture
def a_result(device_results: Callable[[int], tuple[ResultRow, ...]]) -> ResultRow:
    """One realistic result, counter 1."""
    return device_results(1)[0]


@pytest.fixture
def an_annotation() -> AnnotationRow:
    """One annotation as a clinician writes it."""
    return AnnotationRow(
        target=ResultId(7, 1, 42),
        author="p-3f2a",
        rhythm=Register("A", 1_780_000_000_000 << 16),
        comment=Register("irregular, no P waves – see lead I", 1_780_000_000_000 << 16 | 1),
    )
