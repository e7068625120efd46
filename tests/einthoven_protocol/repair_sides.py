"""A device and a server that hold one bucket each, and a repair between them that goes through bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from einthoven_protocol import digests
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Digest,
    IdentifiedResult,
    NoteRow,
    Register,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    Run,
    Superseded,
    VerdictCode,
)
from einthoven_protocol.repair import RepairPlan, Standing, absent_places
from einthoven_protocol.repair_answer import select
from einthoven_protocol.repair_checks import OtherRow, place_of
from einthoven_protocol.repair_codec import (
    decode_repair_request,
    decode_repair_response,
    encode_repair_request,
    encode_repair_response,
)

KEY = bytes(range(32))
OWNER = 7
Row = IdentifiedResult | OtherRow


def result(counter: int, epoch: int = 1) -> IdentifiedResult:
    row = ResultRow(
        counter=counter,
        started_at_ms=1_780_000_000_000 + 30_000 * counter,
        duration_ms=30_000,
        n_steps=30,
        usable_s=30,
        quality=0,
        rhythm=counter % 4,
        confidence_permille=900,
        logits=(counter % 700, -5, -6, -7),
        tier=1,
        reason=0,
        model_digest=bytes(32),
        front_end_version=1,
    )
    return IdentifiedResult(device_alias=OWNER, epoch=epoch, row=row)


def annotation(counter: int, author: str = "p-1", comment: str = "") -> AnnotationRow:
    target = ResultId(OWNER, 1, counter)
    return AnnotationRow(target=target, author=author, rhythm=Register("A", 5), comment=Register(comment, 6))


def note(counter: int) -> NoteRow:
    return NoteRow(device_alias=OWNER, epoch=1, counter=counter, author="p-1", at_ms=counter, text=f"note {counter}")


def superseded(counter: int, value: str = "N") -> Superseded:
    return Superseded(ResultId(OWNER, 1, counter), "p-1", 1, 9, value)


def share(row: Row) -> bytes:
    match row:
        case IdentifiedResult():
            value = digests.result_sum(KEY, row.device_alias, row.epoch, row.row)
        case AnnotationRow():
            value = digests.annotation_sum(KEY, row)
        case NoteRow():
            value = digests.note_sum(KEY, row)
        case Superseded():
            value = digests.superseded_sum(KEY, row)
    return value.to_bytes(16, "big")


def name_of(row: Row) -> tuple[int | str, ...]:
    return (-1, row.epoch, row.row.counter) if isinstance(row, IdentifiedResult) else place_of(row)


@dataclass
class Side:
    """One side's rows of one bucket, by what they are ordered by."""

    rows: dict[tuple[int | str, ...], Row] = field(default_factory=dict)
    _shares: dict[Row, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, *rows: Iterable[Row]) -> Side:
        return cls({name_of(row): row for some in rows for row in some})

    def ordered(self) -> list[Row]:
        return [self.rows[name] for name in sorted(self.rows)]

    def shares(self) -> NDArray[np.uint8]:
        octets = b"".join(self._share(row) for row in self.ordered())
        return np.frombuffer(octets, np.uint8).reshape(-1, 16)

    def ids(self) -> NDArray[np.int64]:
        results = [row for row in self.ordered() if isinstance(row, IdentifiedResult)]
        return np.array([(row.epoch, row.row.counter) for row in results], np.int64).reshape(-1, 2)

    def others(self) -> list[OtherRow]:
        return [row for row in self.ordered() if not isinstance(row, IdentifiedResult)]

    def digest(self) -> Digest:
        total = sum(int.from_bytes(self._share(row), "big") for row in self.rows.values())
        return Digest(len(self.rows), total % 2**128)

    def take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows[name_of(row)] = row

    def _share(self, row: Row) -> bytes:
        if row not in self._shares:
            self._shares[row] = share(row)
        return self._shares[row]


def answer(server: Side, request: RepairRequest) -> RepairResponse:
    """What a server answers that keeps what it is given."""
    server.take(request.given)
    rows = server.ordered()
    chosen = select(request, server.shares(), server.ids())
    sent = [rows[place] for place in chosen.rows]
    return RepairResponse(
        decoded=chosen.decoded,
        differences=chosen.differences,
        absent=chosen.absent,
        results=tuple(row for row in sent if isinstance(row, IdentifiedResult)),
        annotations=tuple(row for row in sent if isinstance(row, AnnotationRow)),
        notes=tuple(row for row in sent if isinstance(row, NoteRow)),
        superseded=tuple(row for row in sent if isinstance(row, Superseded)),
        more=chosen.more,
        verdicts=(VerdictCode.ACCEPTED,) * len(request.given),
        held=chosen.held if request.kind == BucketKind.RECORDS else (),
        digest=server.digest(),
    )


@dataclass
class Repair:
    """What a repair was like.

    Attributes:
        settled: Whether the plan says that it came to an end.
        pairs: Every request and its answer.
        octets: Bytes of all of them.
    """

    settled: bool
    pairs: list[tuple[RepairRequest, RepairResponse]]
    octets: int


def mend(
    device: Side,
    server: Side,
    kind: int = BucketKind.RECORDS,
    missing: Sequence[Run] = (),
    *,
    gives: bool = True,
    looks_for_holes: bool = False,
    takes_powers: bool = False,
) -> Repair:
    """Run a repair to its end; a device that ``gives`` gives back what the server lacks."""
    plan = RepairPlan(OWNER, OWNER, kind, server.digest(), missing, takes_powers=takes_powers)
    random = np.random.default_rng(4)
    pairs: list[tuple[RepairRequest, RepairResponse]] = []
    octets = 0
    to_give: dict[tuple[int | str, ...], IdentifiedResult] = {}
    while True:
        given = tuple(to_give[name] for name in sorted(to_give))[:3]
        standing = Standing(device.shares(), device.digest(), random.bytes(16), given)
        if given:
            standing = Standing(*_parts(standing), segments_root=bytes(32), signature=bytes(64))
        if looks_for_holes:
            standing = replace(standing, result_ids=device.ids())
        request = plan.next(standing)
        if request is None:
            return Repair(plan.settled, pairs, octets)
        body = encode_repair_request(request)
        assert decode_repair_request(body) == request
        response = answer(server, decode_repair_request(body))
        back = encode_repair_response(response)
        assert structs.asdict(decode_repair_response(back)) == structs.asdict(response)
        plan.take(decode_repair_response(back))
        octets += len(body) + len(back)
        pairs.append((request, response))
        apply(device, request, response, to_give if gives else {})


def apply(
    device: Side,
    request: RepairRequest,
    response: RepairResponse,
    to_give: dict[tuple[int | str, ...], IdentifiedResult],
) -> None:
    rows = device.ordered()
    for place in absent_places(request, response, device.shares(), device.ids(), device.others()):
        lost = device.rows.pop(name_of(rows[place]))
        if isinstance(lost, IdentifiedResult):
            to_give[name_of(lost)] = lost
    device.take((*response.results, *response.annotations, *response.notes, *response.superseded))
    for row in request.given:
        device.take((to_give.pop(name_of(row)),))


def _parts(standing: Standing) -> tuple[NDArray[np.uint8], Digest, bytes, Sequence[IdentifiedResult]]:
    return standing.shares, standing.ours, standing.session, standing.given
