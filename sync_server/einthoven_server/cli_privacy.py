"""The commands ``einthoven-server privacy ...``.

They deliberately need no server and no data folder: the register is of this version, not of what is stored.
"""

from __future__ import annotations

import msgspec
import typer

from einthoven_server.cli_options import Json
from einthoven_server.privacy.register import markdown
from einthoven_server.privacy.register import register as make_register

app = typer.Typer(help="What a controller has to show.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Keep ``register`` a command of its own, also while it is the only one."""


@app.command()
def register(as_json: Json = False) -> None:
    """Print the register of processing (GDPR article 30): what is kept, why, how, until when, and who sees it."""
    document = make_register()
    typer.echo(msgspec.json.encode(document).decode() if as_json else markdown(document), nl=as_json)
