"""The commands ``einthoven-server keys ...``.

It deliberately prints no key.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console

from einthoven_server import rotating
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl, Signals, VaultUrl
from einthoven_server.offline import rotate_signing_key

app = typer.Typer(help="The server's keys, and patients'.", no_args_is_help=True)


@app.command("rotate-signing")
def rotate_signing(
    data: Data,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Let all tokens issued so far be refused: a key was disclosed.")
    ] = False,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Make a new key that signs access tokens; the server must not be running on DATA (else POST /v1/signing-keys)."""
    kid = rotate_signing_key(data, database_url, at_once=at_once, key_service=key_service)
    typer.echo(msgspec.json.encode({"kid": kid}).decode() if as_json else kid)


@app.command("rotate")
def rotate(
    data: Data,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Rotate the key-encryption key and wrap every key anew, from another key service as well; servers may serve."""
    n_wrapped = rotating.rotate(rotating.Place(data, database_url, key_service, vault=vault))
    _tell({"wrapped": n_wrapped}, f"{n_wrapped} keys wrapped anew", as_json=as_json)


@app.command("rotate-patient")
def rotate_patient(
    data: Data,
    patient: Annotated[str | None, typer.Argument(help="The patient's opaque id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All patients; one that was cut short is gone on with.")] = False,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Signals = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Give a patient a new data key, and seal all of its data anew; servers may serve."""
    if (patient is None) is not every:
        raise typer.BadParameter("name a patient, or give --all")
    n_rotated = rotating.rotate_patients(rotating.Place(data, database_url, key_service, signals, vault), patient)
    _tell({"patients": n_rotated}, f"{n_rotated} patients have a new key", as_json=as_json)


@app.command("forget-former")
def forget_former(data: Data, database_url: DatabaseUrl = None, vault: VaultUrl = None, as_json: Json = False) -> None:
    """Remove former versions from the key file; backups of the database from before can't be read any more."""
    version = rotating.forget_former(rotating.Place(data, database_url, vault=vault))
    _tell({"version": version}, f"only version {version} is left in the key file", as_json=as_json)


def _tell(document: dict[str, int], sentence: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(document).decode())
    else:
        Console().print(sentence, highlight=False)
