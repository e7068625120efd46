"""The commands ``einthoven-server audit ...``.

It deliberately prints no name of a patient: ids are opaque, and who they are stays with the clinic.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from einthoven_server import audit_commands
from einthoven_server.audit.report import PatientReport, instant
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl

app = typer.Typer(help="The audit log; the server must not be running on DATA.", no_args_is_help=True)
_EVER_MS: Final = (1 << 63) - 1


@app.command()
def verify(
    data: Data,
    database_url: DatabaseUrl = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A checkpoint that someone else held: a note, or a device's document."),
    ] = None,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Check that no entry was altered, removed or moved, and that none is missing that a checkpoint knows of."""
    held = audit_commands.verify(data, database_url, checkpoint or (), key_service)
    if as_json:
        typer.echo(msgspec.json.encode({"entries": held.entries, "intact": True, "checkpoints": held.states}).decode())
    else:
        Console().print(f"{held.entries} audit entries, intact; {held.states} checkpoints agree", highlight=False)


@app.command()
def checkpoint(
    data: Data, database_url: DatabaseUrl = None, key_service: KeyServiceUrl = None, as_json: Json = False
) -> None:
    """Sign the log as it is now, keep the checkpoint, and print it for others to keep."""
    signed = audit_commands.checkpoint(data, database_url, key_service)
    if as_json:
        typer.echo(msgspec.json.encode({"checkpoint": signed.note, "verifier": signed.verifier}).decode())
    else:
        typer.echo(signed.note, nl=False)


@app.command()
def report(
    data: Data,
    patient: Annotated[str, typer.Option(help="Opaque id of the patient.")],
    database_url: DatabaseUrl = None,
    since: Annotated[
        dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; included.")
    ] = None,
    until: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; not included.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Read the patient's entries only: one that is missing is not noticed.")
    ] = False,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Who saw a patient's data, and when; status 3 if the log does not hold."""
    wanted = PatientReport(patient, _ms(since, 0), _ms(until, _EVER_MS))
    found = audit_commands.report(data, database_url, wanted, key_service, quick=quick)
    if as_json:
        problem = None if found.problem is None else str(found.problem)
        # Nobody looked whether all of it holds.
        intact = None if quick and problem is None else problem is None
        document = {"intact": intact, "problem": problem, **wanted.document()}
        typer.echo(msgspec.json.encode(document).decode())
    else:
        _show(wanted)
    if found.problem is not None:
        raise found.problem


def _show(wanted: PatientReport) -> None:
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"Patient {wanted.patient}: {len(wanted.entries)} entries", markup=False)
    actors = Table("actor", "role", "allowed", "refused", "first", "last", box=None)
    for one in wanted.tallies():
        actors.add_row(
            one.actor,
            one.role,
            str(one.allowed),
            str(one.refused),
            instant(one.first_ms),
            instant(one.last_ms),
        )
    out.print(actors)
    accesses = Table("entry", "at", "actor", "operation", "about", "purpose", "outcome", box=None)
    for entry in wanted.entries:
        event = entry.event
        about = f"{event.resource} {event.resource_id}".strip()
        accesses.add_row(
            str(entry.seq), instant(event.at_ms), event.actor, event.operation, about, event.purpose, event.outcome
        )
    out.print(accesses)


def _ms(moment: dt.datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else round(moment.replace(tzinfo=dt.UTC).timestamp() * 1000)
