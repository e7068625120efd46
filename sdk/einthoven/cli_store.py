"""`einthoven store`: check, rekey, export, erase, stats.

It deliberately contains no logic of its own: it opens things, calls the SDK, and shows what came back
(``cli_store_render``). Exit status 5 where a check found damage that is still there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

from einthoven.errors import InputError, StoreDamaged

try:
    import typer
    from rich.console import Console
except ImportError:  # the bare install is what a phone carries
    sys.exit("einthoven: the command needs two more packages; run: pip install 'einthoven[cli]'")

from einthoven import cli_store_render as render
from einthoven.cli_options import (
    STORE_FILE,
    Home,
    Json,
    new_keys,
    open_store,
    settled_keys,
    store_keys,
)
from einthoven.cli_render import print_json
from einthoven.store_checking import check_file
from einthoven.store_erase import erase_store
from einthoven.store_export import export_store

ERASE_WORD: Final = "ERASE"
"""What has to be typed before anything is destroyed."""
SLOW_BYTES: Final = 32 * 2**20
"""Size of a store, bytes, from which on copying it takes so long that it is said beforehand."""
PROGRESS_RESULTS: Final = 2_000
"""Results between two lines of an export's progress."""

app = typer.Typer(no_args_is_help=True, help="Look after the encrypted store.")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@app.command()
def check(
    home: Home,
    repair: Annotated[bool, typer.Option("--repair", help="Keep what is whole, list what was lost.")] = False,
    as_json: Json = False,
) -> None:
    """Read everything in the store and say what is not as it was written."""
    checked = check_file(home / STORE_FILE, store_keys(home), repair=repair)
    document = render.check_document(checked.report, checked.quarantined, checked.events, repaired=checked.repaired)
    if as_json:
        print_json(document)
    else:
        render.show_check(_out, document)
    if not checked.report.sound:
        raise typer.Exit(StoreDamaged.exit_status)


@app.command()
def rekey(
    home: Home,
    new_key_file: Annotated[
        bool, typer.Option("--new-key-file", help="Make another key file too, for one that may have been seen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Encrypt the store anew under another data key; it needs room for a second copy meanwhile."""
    with open_store(home, create=False) as store:
        size_bytes = store.stats().file_bytes
        if size_bytes > SLOW_BYTES:
            _err.print(f"Copying {size_bytes:,} B under a new key; interrupting it loses nothing.")
        store.rekey(new_keys(home) if new_key_file else store_keys(home))
        events = store.take_events()
    settled_keys(home)
    document = render.rekey_document(events, new_key_file=new_key_file)
    if as_json:
        print_json(document)
    else:
        render.show_rekey(_out, document)


@app.command()
def export(
    home: Home,
    folder: Annotated[Path, typer.Argument(help="A new folder for the files; they are not encrypted.")],
    pseudonym: Annotated[str | None, typer.Option(help="What EDF files call the patient; nobody's name.")] = None,
    as_json: Json = False,
) -> None:
    """Write all that the store holds as a FHIR Bundle, EDF+ files and tables."""

    def progress(count: int) -> None:
        if count % PROGRESS_RESULTS == 0 and not as_json:
            _err.print(f"{count:,} results ...")

    with open_store(home, create=False) as store:
        report = export_store(store, folder, pseudonym=pseudonym, progress=progress)
    document = render.export_document(report)
    if as_json:
        print_json(document)
    else:
        render.show_export(_out, document)


@app.command()
def erase(
    home: Home,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the keys, then the files; nothing brings them back. It needs no key and works on a damaged store."""
    path, keys = home / STORE_FILE, store_keys(home)
    if not yes:
        if as_json:
            raise InputError("--json asks no questions", "give --yes as well")
        _err.print(f"This destroys the store in {home} and its key for good.", markup=False, soft_wrap=True)
        if typer.prompt(f"Type {ERASE_WORD} to go on", err=True) != ERASE_WORD:
            raise InputError("nothing was erased", f"type {ERASE_WORD}, or give --yes")
    document = render.erase_document(erase_store(path, keys), home)
    if as_json:
        print_json(document)
    else:
        render.show_erase(_out, document)


@app.command()
def stats(home: Home, as_json: Json = False) -> None:
    """Say what the store holds, how large it is, what waits and what could go."""
    with open_store(home, create=False) as store:
        free_bytes = shutil.disk_usage(home).free
        document = render.stats_document(store.stats(), store.sync_state(), free_bytes, store.take_events())
    if as_json:
        print_json(document)
    else:
        render.show_stats(_out, document)
