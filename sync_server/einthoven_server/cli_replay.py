"""The command ``einthoven-server replay``.

It deliberately prints ids and names of fields, and nothing of a result or a signal.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from einthoven_server import replay_commands
from einthoven_server.cli_options import Data, DatabaseUrl, Json, KeyServiceUrl, Signals, VaultUrl
from einthoven_server.records.resource_ids import result_text
from einthoven_server.replay_commands import Replays
from einthoven_server.replaying.outcomes import ReplayOutcome

DIFFERENT_STATUS = 3
"""Exit status where results differ."""


def replay(
    data: Data,
    permille: Annotated[
        int, typer.Option(min=1, max=1000, help="Of 1,000 results that are not urgent, how many; urgent ones always.")
    ] = 1000,
    again: Annotated[bool, typer.Option("--again", help="Also in signals that were looked at before.")] = False,
    database_url: DatabaseUrl = None,
    key_service: KeyServiceUrl = None,
    signals: Signals = None,
    vault: VaultUrl = None,
    as_json: Json = False,
) -> None:
    """Recompute results from their stored signals; status 3 if any differ. The server must not be running on DATA."""
    found = replay_commands.replay(
        data, database_url, permille, signals=signals, key_service=key_service, vault=vault, again=again
    )
    if as_json:
        typer.echo(msgspec.json.encode(_document(found)).decode())
    else:
        _show(found)
    if found.different:
        raise typer.Exit(DIFFERENT_STATUS)


def _document(found: Replays) -> dict[str, object]:
    return {
        "replayed": found.replayed,
        "counts": {one.value: found.counts.get(one, 0) for one in ReplayOutcome},
        "different": [
            {"result_id": result_text(one.replayed.result), "differing": list(one.replayed.verdict.differing)}
            for one in found.different
        ],
    }


def _show(found: Replays) -> None:
    out = Console(soft_wrap=True, highlight=False)
    counted = ", ".join(f"{n} {outcome.value.replace('_', ' ')}" for outcome, n in sorted(found.counts.items()))
    out.print(f"{found.replayed} results recomputed; ever: {counted or 'none'}")
    if found.different:
        table = Table("result", "differs in", box=None)
        for one in found.different:
            table.add_row(result_text(one.replayed.result), ", ".join(one.replayed.verdict.differing))
        out.print(table)
