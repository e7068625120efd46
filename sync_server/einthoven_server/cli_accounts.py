"""The commands ``einthoven-server account ...``.

It deliberately takes no password; what it prints opens an account once, within a day.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from einthoven_server import account_commands
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl
from einthoven_server.identity.account_keys import NameRefused
from einthoven_server.identity.accounts import Invitation, NewAccount
from einthoven_server.identity.permissions import Role

app = typer.Typer(help="People who log in with a name; also beside a running server.", no_args_is_help=True)

_ROLES = frozenset({Role.ADMIN, Role.CLINICIAN, Role.PATIENT})


@app.command("add")
def add(
    data: Data,
    name: Annotated[str, typer.Option(help="The login name: no blanks; case doesn't count.")],
    role: Annotated[str, typer.Option(help="admin, clinician or patient.")],
    patient: Annotated[str | None, typer.Option(help="The patient's opaque id, for the role patient.")] = None,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Make an account; prints an invitation's code, good once and for a day."""
    if role not in _ROLES or (role == Role.PATIENT) is not (patient is not None):
        raise typer.BadParameter("role is admin, clinician or patient; --patient goes with the role patient")
    new, place = NewAccount(name, Role(role), patient), account_commands.Place(data, database_url, key_service)
    try:
        _tell(account_commands.add(place, new), as_json=as_json)
    except NameRefused as error:
        raise typer.BadParameter(f"--name is refused: {error}") from error


@app.command("reset")
def reset(
    data: Data,
    name: Annotated[str, typer.Argument(help="The login name.")],
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Take an account's password and codes, end its sessions, and print a new invitation's code."""
    try:
        _tell(account_commands.reset(account_commands.Place(data, database_url, key_service), name), as_json=as_json)
    except NameRefused as error:
        raise typer.BadParameter(f"the name is refused: {error}") from error


@app.command("list")
def list_accounts(
    data: Data, database_url: DatabaseUrl = None, key_service: KeyServiceUrl = None, as_json: Json = False
) -> None:
    """Show all accounts."""
    found = account_commands.listed(account_commands.Place(data, database_url, key_service))
    if as_json:
        typer.echo(msgspec.json.encode({"accounts": [one._asdict() for one in found]}).decode())
        return
    table = Table("name", "role", "id", "state")
    for one in found:
        invited = "" if one.invited_until_ms is None else f"invited until {_time(one.invited_until_ms)}"
        state = "revoked" if one.revoked else "ready" if one.ready else invited or "no invitation"
        table.add_row(one.name, one.role, one.account_id, state)
    Console().print(table)


def _tell(invitation: Invitation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(invitation._asdict()).decode())
    else:
        typer.echo(invitation.code)
        Console(stderr=True).print(f"good once, until {_time(invitation.expires_at_ms)}", highlight=False)


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
