"""What must hold at the end of every history; each rule names what it found.

Of all devices that are left, and of the server, once nothing changes any more:
    J1. Nothing waits, and digests are equal, of every bucket; the server's are those of its rows.
    J2. A device shows the results, words, notes and superseded writes of its patient that the server holds, and all of
        them; beside them only own rows that were refused by name, what a server lost in a fail-over, and own results
        that came down and whose deletion the server forgot before it could say so: by a repair alone the device can't
        tell them from what the server lost, and keeps what may be the last copy (R24 of the store).
    J3. T1 and T2 of ``truth``: nothing acknowledged is lost, nothing is there twice.
    J4. T3: no words are lost, the losers of conflicts are kept.
    J5. What was deleted is nowhere.
    J6. Of documents every device has the newest version.
    J7. An urgent result waits behind nothing: every request that could carry it ahead did.
    J8. Buckets are compared only where something was lost or turned back, or where old and new versions met: an
        exchange alone makes digests equal.

A row may be there twice (against J3) if its device was enrolled anew in between: it then stands under both aliases. A
result may also if the device was turned back to before it was given again, and gave it again as or to one of the first
version: whether it had been is in no answer of that version, which sends no device its own results, and if it had not
been, it would be lost.

It deliberately changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from einthoven.ports import SyncState
from einthoven.result_rows import to_row
from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.content import note_serial, serial_of
from einthoven_bench.simulation.holdings import Holdings, read_holdings
from einthoven_bench.simulation.participants import Participant
from einthoven_bench.simulation.registry import patient_id
from einthoven_bench.simulation.truth import comment_serials
from einthoven_bench.simulation.world import World
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import ResultId, RowKind

_LAST_MS: Final = 2**60
_REASONS_TO_COMPARE: Final = (h.Restore, h.FailOver, h.LoseCursor, h.EnrolAnew, h.Collect, h.TurnClock)


async def judge(world: World) -> list[str]:
    """Everything that does not hold, one line each."""
    found: list[str] = []
    everything: list[Holdings] = []
    for patient in range(world.history.patients):
        enrolled = world.server.registry.devices_of(patient)
        held = await read_holdings(world.server.changes, enrolled)
        everything.append(held)
        found += [f"patient {patient}: {line}" for line in _judge_server(world, held)]
        versions = await _documents(world, patient)
        for device in world.devices:
            if device.patient == patient and not device.destroyed:
                found += [f"device {device.number}: {line}" for line in _judge_device(world, device, held, versions)]
    found += _judge_promises(world, everything)
    found += _judge_words(world, everything)
    if world.truth.not_ahead:
        found.append(f"J7: urgent results {sorted(world.truth.not_ahead)[:5]} waited behind others")
    if world.truth.repairs and not _may_differ(world.history):
        found.append(f"J8: buckets were compared {world.truth.repairs} times, and nothing was lost")
    return found


def _old(world: World, device: Participant) -> bool:
    """Whether device and server still speak as the first version did: what that can't say waits."""
    return device.old_app or world.server.old


def _anything_deleted(world: World) -> bool:
    return bool(world.truth.deleted_serials or world.truth.taken_back)


def _may_differ(history: h.History) -> bool:
    """Whether anything happens after which an exchange alone need not make digests equal."""
    old = history.old_server or any(setup.old_app for setup in history.devices)
    return old or any(isinstance(step, _REASONS_TO_COMPARE) for step in history.steps)


def _judge_server(world: World, held: Holdings) -> Iterator[str]:
    for name in sorted(held.digests.keys() | held.computed.keys()):
        if held.digests.get(name) != held.computed.get(name):
            yield f"J1: the server's digest of bucket {name} is not that of its rows"
    for (alias, serial), count in Counter(held.serials()).items():
        if count > 1 and not world.truth.may_be_there_again(held.places_of(alias, serial)):
            yield f"J3: result {serial} is there {count} times, of device {alias}"
    notes = Counter((note.device_alias, note_serial(note)) for note in held.notes.values())
    for (_, serial), count in notes.items():
        if count > 1:
            yield f"J3: note {serial} is there {count} times"
    for target, author in held.annotations:
        if target in world.truth.deleted_targets and target not in held.results and not world.truth.forks:
            yield f"J5: words of {author} stand at {target}, which was deleted"


async def _documents(world: World, patient: int) -> dict[str, int]:
    """The newest version of each document, whether it is the patient's or everybody's."""
    versions: dict[str, int] = {}
    for whose in ("", patient_id(patient)):
        for name in world.console.documents:
            version = await world.server.document_version(whose, name)
            if version:
                versions[name] = max(version, versions.get(name, 0))
    return versions


def _judge_device(world: World, device: Participant, held: Holdings, versions: Mapping[str, int]) -> Iterator[str]:
    state = device.store.sync_state()
    old = _old(world, device)
    if state.waiting and not old:
        yield f"J1: {state.waiting} rows wait"
    if state.waiting_given:
        yield f"J1: {state.waiting_given} results wait to be given back"
    # A server of the first version neither says what is gone nor sends a device its own rows again.
    if state.last_digest_equal is False and not (old and (_anything_deleted(world) or device.restored)):
        yield "J1: digests differ"
    if old:
        return
    forked = bool(world.truth.forks)
    kept = world.truth.deleted_targets if any(isinstance(step, h.Collect) for step in world.history.steps) else set()
    yield from _judge_results(device, state, held, forked=forked, forgotten=kept)
    yield from _judge_annotations(device, state, held, forked=forked)
    yield from _judge_notes(device, state, held, forked=forked)
    shown = set(device.store.superseded())
    if missing := held.superseded - shown:
        yield f"J2: superseded writes are missing: {sorted(missing)[:3]}"
    if not forked and (extra := shown - held.superseded):
        yield f"J2: superseded writes that the server does not hold: {sorted(extra)[:3]}"
    documents = {document.name: document.version for document in device.store.documents()}
    if not forked and documents != versions:
        yield f"J6: documents are {documents}, not {dict(versions)}"


def _judge_results(
    device: Participant, state: SyncState, held: Holdings, *, forked: bool, forgotten: set[ResultId]
) -> Iterator[str]:
    own = {
        ResultId(device.alias, stored.epoch, stored.result.counter): to_row(stored.result)
        for stored in device.store.results_between(0, _LAST_MS, limit=100_000)
    }
    came = {
        ResultId(found.device_alias, found.epoch, found.row.counter): found.row
        for found in device.store.replicas(0, _LAST_MS, limit=100_000)
    }
    refused = {verdict.counter for verdict in state.refused}
    for result, row in held.results.items():
        if row not in (own.get(result), came.get(result)):
            yield f"J2: result {result} ({serial_of(row)}) of the server is not shown"
    there = {serial_of(row) for row in held.results.values()}
    for result, row in own.items():
        if held.results.get(result) != row and result.counter not in refused and serial_of(row) not in there:
            yield f"J3: own result {result} ({serial_of(row)}) is neither on the server nor refused by name"
    for result, row in came.items():
        own_forgotten = result.device_alias == device.alias and result in forgotten
        if held.results.get(result) != row and not (forked or own_forgotten):
            yield f"J2: result {result} ({serial_of(row)}) is shown, and not on the server"


def _judge_annotations(device: Participant, state: SyncState, held: Holdings, *, forked: bool) -> Iterator[str]:
    refused = _refused(state)
    shown = {(row.target, row.author): row for row in device.store.annotations()}
    for name, row in held.annotations.items():
        mine = shown.get(name)
        if name[0].device_alias in device.former_aliases and mine is not None:
            continue  # what was said under a former name stays as it was, and was said again (R10)
        if mine is None:
            yield f"J2: words of {name} are not shown"
        elif mine != row and not ((forked or _named(*name) in refused) and merge_annotation(mine, row) == mine):
            yield f"J2: words of {name} are {mine}, and on the server {row}"
    own_names = {device.identity.device_id, device.identity.patient_id}
    for name in shown.keys() - held.annotations.keys():
        target, author = name
        on_refused = target.device_alias == device.alias and target not in held.results
        former = target.device_alias in device.former_aliases or (
            author.startswith("device-") and author not in own_names
        )
        if not (forked or _named(*name) in refused or on_refused or former):
            yield f"J2: words of {name} are shown, and not on the server"


def _judge_notes(device: Participant, state: SyncState, held: Holdings, *, forked: bool) -> Iterator[str]:
    refused = _refused(state)
    shown = {
        ResultId(note.device_alias, note.epoch, note.counter): note
        for note in device.store.notes(0, _LAST_MS, limit=100_000)
    }
    for place, note in held.notes.items():
        if shown.get(place) != note:
            yield f"J2: note {place} ({note_serial(note)}) of the server is not shown"
    for place, note in shown.items():
        name = (RowKind.NOTE, place.device_alias, place.epoch, place.counter, "")
        if place not in held.notes and not (forked or name in refused):
            yield f"J2: note {place} ({note_serial(note)}) is shown, and not on the server"


def _judge_promises(world: World, everything: list[Holdings]) -> Iterator[str]:
    truth = world.truth
    results = {serial for held in everything for _, serial in held.serials()}
    notes = {note_serial(note) for held in everything for note in held.notes.values()}
    for kind, promises, there in (("result", truth.results, results), ("note", truth.notes, notes)):
        for promise in promises:
            gone = promise.serial not in there and promise.serial not in truth.deleted_serials
            if gone and truth.survives(promise):
                yield f"J3: {kind} {promise.serial} of device {promise.alias} was acknowledged, and is lost"
    shown = {note_serial(note) for held in everything for note in held.notes.values()}
    for promise in truth.deletions:
        if promise.serial in shown and truth.survives(promise):
            yield f"J5: note {promise.serial} was deleted, and is there"


def _judge_words(world: World, everything: list[Holdings]) -> Iterator[str]:
    truth = world.truth
    there: set[int] = set()
    for held in everything:
        there.update(comment_serials(held.annotations.values()))
        overtaken = held.kept | held.superseded
        there.update(int(row.value.rpartition(" ")[2]) for row in overtaken if row.value.startswith("comment "))
    promised = {promise.serial for promise in truth.comments if truth.survives(promise)}
    for serial, words in truth.words.items():
        device = world.devices[words.device]
        if serial in there or truth.may_be_gone(serial):
            continue
        if serial in promised:
            yield f"J4: comment {serial} was acknowledged, and neither stands nor is kept"
        elif not (words.replaced or device.destroyed or device.life != words.life) and not (
            _old(world, device) or _excused(device, serial) or truth.was_overwritten(serial, there)
        ):
            yield f"J4: comment {serial} of device {device.number} is neither on the server nor refused by name"


def _excused(device: Participant, serial: int) -> bool:
    """Whether words are still here, and were refused or stand at a result that was."""
    state = device.store.sync_state()
    refused, refused_results = _refused(state), {verdict.counter for verdict in state.refused}
    for row in device.store.annotations():
        if serial in comment_serials([row]):
            return _named(row.target, row.author) in refused or row.target.counter in refused_results
    return False


def _named(target: ResultId, author: str) -> tuple[int, int, int, int, str]:
    return (RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, author)


def _refused(state: SyncState) -> set[tuple[int, int, int, int, str]]:
    return {(said.kind, said.device_alias, said.epoch, said.counter, said.author) for said in state.refused_words}
