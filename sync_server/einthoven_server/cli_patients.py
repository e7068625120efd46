"""The commands ``einthoven-server patient ...``. It deliberately prints opaque ids only."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console

from einthoven_server import erasing
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl, Signals, VaultUrl
from einthoven_server.rotating import Place

app = typer.Typer(help="Patients.", no_args_is_help=True)


@app.callback()
def patients() -> None:
    """Patients."""


@app.command("erase")
def erase(
    data: Data,
    patient: Annotated[str, typer.Argument(help="The patient's opaque id.")],
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Signals = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Erase a patient for good, in backups too; servers may serve. What was cut short is gone on with."""
    finished = erasing.erase(Place(data, database_url, key_service, signals, vault), patient)
    if as_json:
        typer.echo(msgspec.json.encode({"patient_id": patient, "finished": finished}).decode())
    elif finished:
        Console().print("erased; nothing is left", highlight=False)
    else:
        Console().print("erased; a server, or this command a minute later, looks again for what was under way")
