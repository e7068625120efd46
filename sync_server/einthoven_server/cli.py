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

from einthoven_server import rotating
from einthoven_server.errors import ServerError
from einthoven_server.serve import Ready, Settings, audit_entries, serve

app = typer.Typer(
    name="einthoven-server",
    help="The cloud side of Einthoven: enrolment, sync, records, FHIR, audit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
keys_app = typer.Typer(help="Keys at rest; servers may go on serving.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

Data = Annotated[Path, typer.Option("--data", help="Folder for keys and the embedded database; made on first start.")]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", help="A PostgreSQL URL, instead of the embedded one.")
]
KeyServiceUrl = Annotated[
    str | None,
    typer.Option(
        "--key-service",
        help="What wraps keys: aws-kms://, gcp-kms://, azure-key-vault://, vault-transit://; else a file in DATA.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]


@app.command("all")
def serve_all(  # each is an option of the command line, by name
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for any free one.")] = 8443,
    database_url: DatabaseUrl = None,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Written (JSON: url, ca_file, pid) once requests are accepted.")
    ] = None,
    signals: Annotated[
        str | None,
        typer.Option(
            "--signals", help="Where raw signals lie: s3://, gs://, az:// or file://; a folder in DATA if not given."
        ),
    ] = None,
    key_service: KeyServiceUrl = None,
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
            errors.print(f"authority {ready.ca_file}, admin token in {data / 'admin-token'}", highlight=False)

    serve(Settings(data, host, port, database_url, ready_file, signals, key_service), on_ready)


@audit_app.command("verify")
def audit_verify(
    data: Data, database_url: DatabaseUrl = None, key_service: KeyServiceUrl = None, as_json: Json = False
) -> None:
    """Check that no audit entry was altered, removed or moved; the server must not be running on DATA."""
    entries = audit_entries(data, database_url, key_service)
    if as_json:
        typer.echo(msgspec.json.encode({"entries": entries, "intact": True}).decode())
    else:
        Console().print(f"{entries} audit entries, intact", highlight=False)


@keys_app.command("rotate")
def keys_rotate(
    data: Data, database_url: DatabaseUrl = None, key_service: KeyServiceUrl = None, as_json: Json = False
) -> None:
    """Rotate the key-encryption key and wrap every key anew, from another key service as well."""
    n_wrapped = rotating.rotate(rotating.Place(data, database_url, key_service))
    _tell({"wrapped": n_wrapped}, f"{n_wrapped} keys wrapped anew", as_json=as_json)


@keys_app.command("rotate-patient")
def keys_rotate_patient(
    data: Data,
    patient: Annotated[str | None, typer.Argument(help="The patient's opaque id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All patients; one that was cut short is gone on with.")] = False,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Annotated[str | None, typer.Option("--signals", help="As the server has it.")] = None,
    as_json: Json = False,
) -> None:
    """Give a patient a new data key, and seal all of its data anew."""
    if (patient is None) is not every:
        raise typer.BadParameter("name a patient, or give --all")
    n_rotated = rotating.rotate_patients(rotating.Place(data, database_url, key_service, signals), patient)
    _tell({"patients": n_rotated}, f"{n_rotated} patients have a new key", as_json=as_json)


@keys_app.command("forget-former")
def keys_forget_former(data: Data, database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Remove former versions from the key file; backups of the database from before can't be read any more."""
    version = rotating.forget_former(rotating.Place(data, database_url))
    _tell({"version": version}, f"only version {version} is left in the key file", as_json=as_json)


def _tell(document: dict[str, int], sentence: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(document).decode())
    else:
        Console().print(sentence, highlight=False)


def main() -> None:
    """Entry point: a refusal is one line on standard error and an exit status other than 0."""
    try:
        app()
    except ServerError as error:
        Console(stderr=True, soft_wrap=True).print(f"einthoven-server: {error}", style="red", markup=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
