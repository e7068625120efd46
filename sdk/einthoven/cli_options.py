"""What the subcommands of `einthoven` share: their options, and how they open a store and a model.

It deliberately holds no command and shows nothing.
"""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

from einthoven.errors import InputError
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_succession import key_provider, settle_succession, successor_path
from einthoven.model_signature import TrustedKey
from einthoven.models import Model, load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.ports import KeyProvider
from einthoven.runner_litert import LiteRtRunner
from einthoven.store_sqlcipher import SqlCipherStore

try:
    import typer
except ImportError:  # the bare install is what a phone carries
    sys.exit("einthoven: the command needs two more packages; run: pip install 'einthoven[cli]'")

STORE_FILE: Final = "store.db"
KEY_FILE: Final = "store.key"


def default_home() -> Path:
    """Where this user's store is: ``$EINTHOVEN_HOME``, or the XDG data folder."""
    chosen = os.environ.get("EINTHOVEN_HOME")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "einthoven"


Home = Annotated[Path, typer.Option("--home", help="Folder of the encrypted store.", default_factory=default_home)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
FILE_HELP: Final = (
    "A WFDB header (.hea), EDF, DICOM, HL7 aECG, SCP-ECG, Philips or Schiller XML, Apple Health, CSV or NPY file."
)
SamplingRate = Annotated[
    str | None, typer.Option(help="Samples a second, for files that do not say: 300, 512.617 or 1000/3.")
]
Unit = Annotated[str | None, typer.Option(help="nV, uV, mV or V, for files that do not say.")]
Lead = Annotated[str | None, typer.Option(help="Which lead, where a file has several.")]
ModelFolder = Annotated[
    Path | None, typer.Option("--model", help="Folder of another model: rhythm.tflite, rhythm.json, rhythm.json.sig.")
]
TrustedKeys = Annotated[
    list[str] | None,
    typer.Option("--trusted-key", help="Public key of who signed that model, ed25519:HEX, as keygen printed it."),
]


def store_keys(home: Path, *, create: bool = False) -> KeyProvider:
    """What opens the store of a home folder.

    Raises:
        InputError: There is no store, and none is to be created.
        KeyUnavailable: A key file that was to take another's place can't.
    """
    if not create and not any((home / name).exists() for name in (STORE_FILE, KEY_FILE)):
        raise InputError(f"there is no store in {home}", "analyse a file first, or say --home")
    return key_provider(home / KEY_FILE, create=create and not (home / STORE_FILE).exists())


def new_keys(home: Path) -> KeyProvider:
    """A key file that is to take the place of a home folder's (``settled_keys``)."""
    return FileKeyProvider(successor_path(home / KEY_FILE), create=True)


def settled_keys(home: Path) -> None:
    """Leave the one key file that opens the store, which was just opened.

    Raises:
        KeyUnavailable: A key file can't be read, destroyed or renamed.
        StoreIOError: The key slots can't be read.
    """
    settle_succession(home / STORE_FILE, home / KEY_FILE)


def open_store(home: Path, *, create: bool) -> SqlCipherStore:
    """Open the store of a home folder.

    Raises:
        InputError: There is none, and none is to be created.
        StoreError: It can't be opened.
    """
    if not create and not (home / STORE_FILE).exists():
        raise InputError(f"there is no store in {home}", "analyse a file first, or say --home")
    store = SqlCipherStore.open(home / STORE_FILE, store_keys(home, create=create), create=create)
    try:
        settled_keys(home)
    except BaseException:
        store.close()
        raise
    return store


def open_model(folder: Path | None, trusted_keys: list[str] | None) -> Model:
    """Load and verify a model: that of a folder, or the shipped one."""
    return load_model(folder=folder, trusted_keys=[TrustedKey.from_text(text) for text in trusted_keys or ()])


def open_runner(model: Model) -> LiteRtRunner:
    """Make a model run, without the interpreter's greetings on standard error."""
    with native_stderr_silenced():
        return LiteRtRunner(model)


def parsed_rate(text: str | None) -> Fraction | None:
    """A sampling rate as it was typed.

    Raises:
        InputError: It is no number.
    """
    if text is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as problem:
        raise InputError(f"{text!r} is no sampling rate", "give samples a second: 300, 512.617 or 1000/3") from problem
