"""The `einthoven sync`, `status` and `note` commands.

It deliberately contains no logic of its own: it opens things, calls the SDK, and shows what came back
(``cli_sync_render``, ``cli_watch``). While it watches, it holds the store only for each exchange, so that other
commands can have it in between.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

from einthoven import cli_sync_render as render
from einthoven.cli_note_render import notes_document, show_notes
from einthoven.cli_options import Home, Json, open_store
from einthoven.cli_render import print_json
from einthoven.cli_status_render import show_status, status_document
from einthoven.cli_sync_progress import progress_shown
from einthoven.cli_watch import keep_watching
from einthoven.clock import SystemClock
from einthoven.errors import InputError
from einthoven.identity import find_identity, load_identity
from einthoven.noting import add_note, delete_note, list_notes
from einthoven.ports import Store
from einthoven.power_sysfs import read_surroundings
from einthoven.signal_upload import SignalReport, send_signals
from einthoven.store_values import AuditAction, AuditEntry
from einthoven.sync_policy import Surroundings, signals_allowed
from einthoven.sync_report import ShowProgress, SyncReport
from einthoven.sync_requests import understands
from einthoven.syncing import sync as sync_store
from einthoven.transport_https import HttpsTransport
from einthoven_protocol import limits
from einthoven_protocol.messages import Capability

try:
    import typer
    from rich.console import Console
except ImportError:  # the bare install is what a phone carries
    sys.exit("einthoven: the command needs two more packages; run: pip install 'einthoven[cli]'")

MAX_SHOWN_NOTES: Final = 1_000
"""Notes of one `note list`."""
MAX_SHOWN_EPOCHS: Final = 20
"""Epochs of one `status`, the latest."""
_AUDIT_PAGE: Final = 1_000

note_app = typer.Typer(no_args_is_help=True, help="The patient's diary: notes seen on all the patient's devices.")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def sync(
    home: Home,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and sync whenever something happens.")] = False,
    metered: Annotated[bool, typer.Option("--metered", help="The network counts bytes: send no raw signals.")] = False,
    as_json: Json = False,
) -> None:
    """Send what waits, fetch what is new, compare digests and mend what differs; Ctrl-C ends --watch well."""
    if watch:
        keep_watching(home, metered=metered, as_json=as_json, out=_out)
        return
    with open_store(home, create=False) as store:
        with progress_shown(_err, quiet=as_json) as shown:
            report, signals = asyncio.run(_sync_once(store, shown, read_surroundings(metered=metered)))
        document = render.sync_document(report, store.take_events())
        document["signals"] = None if signals is None else render.signals_document(signals)
    _show(document, as_json, lambda: render.show_sync(_out, document))


def status(home: Home, as_json: Json = False) -> None:
    """Say what the store holds, what waits, what was refused and why, and whether both sides are the same."""
    with open_store(home, create=False) as store:
        document = status_document(
            find_identity(store),
            store.stats(),
            store.sync_state(),
            store.take_events(),
            _forks(store),
            SystemClock().now_ms(),
        )
    _show(document, as_json, lambda: show_status(_out, document))


@note_app.command("add")
def note_add(
    text: Annotated[str, typer.Argument(help=f"At most {limits.MAX_NOTE_CHARACTERS} characters.")],
    home: Home,
    at: Annotated[str | None, typer.Option(help="The moment it speaks of, ISO 8601; now, if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a note; it goes with the next sync."""
    at_ms = None if at is None else _moment_ms(at)
    with open_store(home, create=False) as store:
        note = add_note(store, text, at_ms=at_ms)
        document = notes_document([note], load_identity(store))["notes"][0]
    _show(document, as_json, lambda: _out.print(f"Note {document['name']} is kept.", markup=False))


@note_app.command("list")
def note_list(
    home: Home,
    first: Annotated[str | None, typer.Option("--from", help="Not before this moment, ISO 8601.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Not after this moment, ISO 8601.")] = None,
    as_json: Json = False,
) -> None:
    """List the notes of all the patient's devices, by the moment they speak of."""
    first_ms = 0 if first is None else _moment_ms(first)
    last_ms = limits.MAX_TIME_MS if last is None else _moment_ms(last)
    with open_store(home, create=False) as store:
        notes = list_notes(store, first_ms, last_ms, limit=MAX_SHOWN_NOTES)
        document = notes_document(notes, load_identity(store))
    _show(document, as_json, lambda: show_notes(_out, document))


@note_app.command("delete")
def note_delete(
    name: Annotated[str, typer.Argument(help="Its name, as `note list` shows it.")], home: Home, as_json: Json = False
) -> None:
    """Delete a note that was written on this device, here now and everywhere with the next sync."""
    with open_store(home, create=False) as store:
        delete_note(store, name)
    _show({"deleted": name}, as_json, lambda: _out.print(f"Note {name} is deleted.", markup=False))


async def _sync_once(
    store: Store, shown: ShowProgress, surroundings: Surroundings
) -> tuple[SyncReport, SignalReport | None]:
    """Rows first; raw signals after them, where battery and network allow it."""
    identity = load_identity(store)
    transport = HttpsTransport(identity)
    try:
        report = await sync_store(store, transport=transport, progress=shown)
        if not (understands(report.state, Capability.SIGNALS) and signals_allowed(surroundings)):
            return report, None
        return report, await send_signals(store, transport=transport)
    finally:
        await transport.close()


def _forks(store: Store) -> list[AuditEntry]:
    """Where the epochs of a store began, the latest of them."""
    found: list[AuditEntry] = []
    first_seq = 1
    while page := store.audit_trail(first_seq=first_seq, limit=_AUDIT_PAGE):
        found += [entry for entry in page if entry.action is AuditAction.FORKED]
        first_seq = page[-1].seq + 1
    return found[-MAX_SHOWN_EPOCHS:]


def _moment_ms(text: str) -> int:
    """A moment as it was typed; without a zone, UTC.

    Raises:
        InputError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        raise InputError("that is no moment in time", "write it as 2026-05-31T14:30 or 2026-05-31") from problem
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _show(document: object, as_json: bool, show: Callable[[], None]) -> None:
    if as_json:
        print_json(document)
    else:
        show()
