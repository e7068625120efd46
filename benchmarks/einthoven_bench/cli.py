"""The `einthoven-bench` command: signal, model, store, sync, server.

It deliberately measures nothing itself. With ``--json`` standard output holds one JSON document and nothing else; what
is going on is said on standard error.

Exit status: 0 measured, whether or not the targets are met; 2-3 as in ``einthoven_bench.errors``; the SDK's own errors
have theirs; 1 anything unforeseen.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError:
    sys.exit("einthoven-bench: the command needs two more packages; run: pip install 'einthoven[bench]'")

from einthoven.errors import EinthovenError
from einthoven_bench.errors import BenchError
from einthoven_bench.figures import Document, read_values
from einthoven_bench.model_run import ModelOptions, ModelRun
from einthoven_bench.render import change_table, print_document
from einthoven_bench.server_run import QUICK as QUICK_SERVER
from einthoven_bench.server_run import ServerOptions, ServerRun
from einthoven_bench.signal_run import Options, SignalRun
from einthoven_bench.store_run import StoreOptions, StoreRun
from einthoven_bench.sync_run import QUICK, SyncOptions, SyncRun
from einthoven_bench.targets import changes

DEFAULT_DATA = Path("../shared/data")
TABLE_WIDTH = 160
"""Columns of a table where output is no terminal: an id is not to be cut."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure the system and compare with the targets.",
)
_out = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_WIDTH)
_err = Console(stderr=True, highlight=False)


@app.command()
def signal(
    data: Annotated[Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")] = (
        DEFAULT_DATA
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A minute's run over little, to see that it works.")] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="What --json printed earlier, to print the changes.")
    ] = None,
    records: Annotated[int | None, typer.Option(min=1, help="Only the first N records of each data set.")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="XQRS and NeuroKit2 on the same records.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Push all 10 h sample by sample as well.")] = False,
    digest_only: Annotated[
        bool, typer.Option("--digest-only", help="Only the digests, to compare two machines.")
    ] = False,
) -> None:
    """Beats, noise, quality, exactness, cost and compression of the signal path."""
    before = read_values(compare) if compare else None
    options = Options(records, quick, peers, thorough, workers=0 if quick else None)
    run = SignalRun(data, options, _progress)
    if digest_only:
        sys.stdout.write(json.dumps(asdict(run.digest())) + "\n")
        return
    document = run.measure()
    _show(document, before, as_json)


@app.command()
def model(
    data: Annotated[Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")] = (
        DEFAULT_DATA
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A run of seconds over little, to see that it works.")] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="What --json printed earlier, to print the changes.")
    ] = None,
    records: Annotated[int | None, typer.Option(min=1, help="Only the first N recordings of cinc2017.")] = None,
    thorough: Annotated[bool, typer.Option("--thorough", help="Chunkings of every recording of cinc2017.")] = False,
    digest_only: Annotated[
        bool, typer.Option("--digest-only", help="Only the digests, to compare two machines.")
    ] = False,
) -> None:
    """Size, multiply-adds, state, time and exactness of the shipped model."""
    before = read_values(compare) if compare else None
    run = ModelRun(data, ModelOptions(records, quick, thorough, workers=0 if quick else None), _progress)
    if digest_only:
        sys.stdout.write(json.dumps(asdict(run.digest())) + "\n")
        return
    document = run.measure()
    _show(document, before, as_json)


@app.command()
def store(
    data: Annotated[Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")] = (
        DEFAULT_DATA
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A minute's run over little, to see that it works.")] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="What --json printed earlier, to print the changes.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where stores are made, on the disk to measure; else temporary.")
    ] = None,
    crash_points: Annotated[
        int | None, typer.Option("--crash-points", min=0, help="Crash points to try; 0 leaves them out.")
    ] = None,
    tamper: Annotated[bool, typer.Option("--tamper/--no-tamper", help="Tamper with a store in every way.")] = True,
) -> None:
    """Insert, commit, open, a day's size and memory, crash points, tampering and canaries of the encrypted store."""
    before = read_values(compare) if compare else None
    document = StoreRun(data, StoreOptions(quick, folder, crash_points, tamper), _progress).measure()
    _show(document, before, as_json)


@app.command()
def sync(
    data: Annotated[Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")] = (
        DEFAULT_DATA
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute's run, to see that it works.")] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="What --json printed earlier, to print the changes.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where stores and the server's data lie; else temporary.")
    ] = None,
) -> None:
    """Rows a second, bytes a row and an edit, repair and restore, between real devices and a real server."""
    before = read_values(compare) if compare else None
    options = replace(QUICK if quick else SyncOptions(), folder=folder)
    _show(SyncRun(data, options, _progress).measure(), before, as_json)


@app.command()
def server(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A minute's run over little, to see that it works.")] = False,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="What --json printed earlier, to print the changes.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where servers' data lies while they run; else temporary.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Taken, and not used: signal is constructed here.")
    ] = None,
) -> None:
    """Permissions, existence oracle, tokens, FHIR reads, audit and throughput of a real server."""
    del data
    before = read_values(compare) if compare else None
    options = replace(QUICK_SERVER if quick else ServerOptions(), folder=folder)
    _show(ServerRun(options, _progress).measure(), before, as_json)


def _show(document: Document, before: dict[str, float] | None, as_json: bool) -> None:
    """Print what was measured, and what changed since."""
    if as_json:
        sys.stdout.write(document.as_json() + "\n")
    else:
        print_document(_out, document)
    if before is not None:
        (_err if as_json else _out).print(change_table(changes(before, document.figures)))


def _progress(what: str, done: int = 0, total: int = 0) -> None:
    """A count is overwritten on a terminal; elsewhere only its end is said."""
    if not total:
        _err.print(what, markup=False, soft_wrap=True)
    elif _err.is_terminal and done < total:
        _err.print(f"{what} {done} of {total}", markup=False, end="\r")
    elif done >= total:
        _err.print(f"{what} {done} of {total}", markup=False)


def main() -> None:
    """Run the command; an expected failure is one line and an exit status."""
    try:
        app()
    except (BenchError, EinthovenError) as error:
        _err.print(f"einthoven-bench: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _err.print("einthoven-bench: stopped; nothing was kept")
        sys.exit(130)


if __name__ == "__main__":
    main()
