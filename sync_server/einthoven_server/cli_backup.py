"""The commands ``einthoven-server backup`` and ``restore``."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from einthoven_server import backing_up, restoring
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl, Signals, VaultUrl
from einthoven_server.rotating import Place

_PLACE = "Where backups lie: s3://, gs://, az:// or file://."


def add_to(app: typer.Typer) -> None:
    """Add them to the command line."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    data: Data,
    to: Annotated[str, typer.Option("--to", help=_PLACE)],
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Signals = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Back up the database, encrypted and without patients' keys, and mirror those beside it; servers may serve."""
    done = backing_up.back_up(Place(data, database_url, key_service, signals, vault), to)
    _tell(done._asdict(), f"backup {done.backup_id}: {done.n_rows} rows", as_json=as_json)


def restore(
    data: Data,
    source: Annotated[str, typer.Option("--from", help=_PLACE)],
    to: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S"], help="The last backup that was begun by then (UTC)."),
    ] = None,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Signals = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty folder (with the key file in it); who was erased since is not in it."""
    at_ms = None if to is None else round(to.replace(tzinfo=dt.UTC).timestamp() * 1000)
    done = restoring.restore(Place(data, database_url, key_service, signals, vault), source, at_ms)
    sentence = f"{done.n_rows} rows, {done.n_patients} patients; {done.n_erased} were erased since {done.backup_id}"
    _tell(done._asdict(), sentence, as_json=as_json)


def _tell(document: dict[str, object], sentence: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(document).decode())
    else:
        Console().print(sentence, highlight=False)
