"""The command ``einthoven-server``.

It deliberately prints no token and no key; ``--json`` prints one JSON document to standard output and nothing else.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from einthoven_server import (
    cli_accounts,
    cli_audit,
    cli_backup,
    cli_keys,
    cli_patients,
    cli_privacy,
    cli_replay,
    limits,
)
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl, Signals, VaultUrl
from einthoven_server.errors import ServerError
from einthoven_server.identity.permissions import Role
from einthoven_server.identity.public_keys import KeyMalformed
from einthoven_server.offline import add_client
from einthoven_server.serve import ADMIN_KEY_NAME, Ready, Settings, serve

app = typer.Typer(
    name="einthoven-server",
    help="The cloud side of Einthoven: enrolment, sync, records, FHIR, audit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_accounts.app, name="account")
app.add_typer(cli_audit.app, name="audit")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_patients.app, name="patient")
app.add_typer(cli_privacy.app, name="privacy")
cli_backup.add_to(app)
app.command("replay")(cli_replay.replay)
client_app = typer.Typer(help="Who may ask for access tokens.", no_args_is_help=True)
app.add_typer(client_app, name="client")

_ADDABLE = frozenset({Role.ADMIN, Role.CLINICIAN, Role.SERVICE})


@app.command("all")
def serve_all(  # each is an option of the command line, by name
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for any free one.")] = 8443,
    database_url: DatabaseUrl = None,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Written (JSON: url, ca_file, pid) once requests are accepted.")
    ] = None,
    signals: Signals = None,
    public_url: Annotated[
        str | None,
        typer.Option("--public-url", help="Where clients reach this server, if not at its own address and port."),
    ] = None,
    key_service: KeyServiceUrl = None,
    vault: VaultUrl = None,
    replay_permille: Annotated[
        int, typer.Option(min=0, max=1000, help="Of 1,000 results with a signal, how many are recomputed; 0: none.")
    ] = limits.REPLAY_SAMPLE_PERMILLE,
    as_json: Json = False,
) -> None:
    """Run all applications in one process until SIGTERM or Ctrl-C."""
    errors = Console(stderr=True)
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO)

    def on_ready(ready: Ready) -> None:
        if as_json:
            typer.echo(msgspec.json.encode(ready).decode())
        else:
            errors.print(f"[bold]einthoven-server[/bold] at {ready.url}", highlight=False)
            errors.print(f"authority {ready.ca_file}, admin key in {data / ADMIN_KEY_NAME}", highlight=False)

    serve(
        Settings(data, host, port, database_url, ready_file, signals, public_url, key_service, vault, replay_permille),
        on_ready,
    )


@client_app.command("add")
def client_add(
    data: Data,
    role: Annotated[str, typer.Option(help="admin, clinician or service.")],
    jwks: Annotated[Path, typer.Option(help="File with its public keys: a JWK Set (RFC 7517).")],
    bearer: Annotated[
        bool, typer.Option("--bearer", help="A service whose tokens need no proof of a key (no DPoP).")
    ] = False,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Register a client by its public keys; the server must not be running on DATA."""
    if role not in _ADDABLE or (bearer and role != Role.SERVICE):
        raise typer.BadParameter("role is admin, clinician or service; --bearer is for a service")
    try:
        document = msgspec.json.decode(jwks.read_bytes(), type=dict[str, object])
        client_id = add_client(data, database_url, Role(role), document, bearer=bearer, key_service=key_service)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise typer.BadParameter("--jwks can't be read, or is no JSON object") from error
    except KeyMalformed as error:
        raise typer.BadParameter(f"--jwks is refused: {error}") from error
    typer.echo(msgspec.json.encode({"client_id": client_id}).decode() if as_json else client_id)


def main() -> None:
    """Entry point: a refusal is one line on standard error and an exit status other than 0."""
    try:
        app()
    except ServerError as error:
        Console(stderr=True, soft_wrap=True).print(f"einthoven-server: {error}", style="red", markup=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
