"""`einthoven-convert keygen, sign, card, vectors`: what makes a trained model one to ship. Registered by ``cli``.

It deliberately decides nothing: ``signing``, ``card``, ``bom`` and ``golden`` do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from einthoven.errors import InputError
from einthoven.model_manifest import Model
from einthoven.model_signature import TrustedKey
from einthoven.models import load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.golden import differences, golden_bytes, golden_document
from einthoven_conversion.manifests import write_cards, write_whole
from einthoven_conversion.signing import make_key, read_key, sign_folder

MODEL_FOLDER: Final = Path("edge_models/einthoven_models")
VECTORS: Final = Path("tests/vectors/rhythm_golden.json")
_out = Console(highlight=False)

Keys = Annotated[list[Path], typer.Option("--key", help="Private key file; give it again to sign with several.")]
OptionalKeys = Annotated[
    list[Path] | None, typer.Option("--key", help="Sign with this private key; unsigned, the SDK refuses the model.")
]
TrustedKeys = Annotated[
    list[str] | None,
    typer.Option("--trusted-key", help="A key to believe beside the project's own: ed25519:HEX, as keygen printed it."),
]
Folder = Annotated[Path, typer.Argument(help="Folder of the model.")]


def trusted(texts: list[str] | None) -> tuple[TrustedKey, ...]:
    """The keys of ``--trusted-key``.

    Raises:
        InputError: One is not a public key.
    """
    return tuple(TrustedKey.from_text(text) for text in texts or ())


def keygen(
    keyfile: Annotated[Path, typer.Argument(help="New file for the private key, outside any repository.")],
) -> None:
    """Make a key to sign models with; prints the public half, which apps pass as trusted key."""
    public = make_key(keyfile)
    _out.print(f"{public.text}  (key id {public.key_id})", soft_wrap=True)


def sign(folder: Folder, key: Keys) -> None:
    """Name a model's parts in its manifest, sign it, and write the cards that go with it."""
    model = finish(folder, read_keys(key))
    _out.print(f"signed: {model.manifest.name} {model.manifest.version}, digest {model.digest.hex()}", soft_wrap=True)


def read_keys(paths: list[Path] | None) -> list[Ed25519PrivateKey]:
    """The keys of ``--key``, read before any work that their lack would waste.

    Raises:
        SigningKeyError: One can't be used.
    """
    return [read_key(path) for path in paths or ()]


def finish(folder: Path, keys: list[Ed25519PrivateKey]) -> Model:
    """Sign a folder and write its cards.

    Raises:
        ModelError: The files are no model.
    """
    model = sign_folder(folder, keys)
    write_cards(model, folder)
    return model


def card(folder: Folder = MODEL_FOLDER, trusted_key: TrustedKeys = None) -> None:
    """Write a signed model's cards again: Markdown for people, CycloneDX for tools."""
    write_cards(load_model("rhythm", folder, trusted_keys=trusted(trusted_key)), folder)


def vectors(
    output: Annotated[Path, typer.Option(help="Where they go.")] = VECTORS,
    folder: Annotated[Path, typer.Option("--model", help="Folder of the model.")] = MODEL_FOLDER,
    trusted_key: TrustedKeys = None,
) -> None:
    """Write golden vectors of a model: inputs, every state and output of every step, verdicts."""
    model = load_model("rhythm", folder, trusted_keys=trusted(trusted_key))
    with native_stderr_silenced():
        runner = LiteRtRunner(model)
    document = golden_document(model, runner)
    for line in differences(model, runner, document):
        raise InputError(
            f"two runs gave different vectors ({line})", "report it: a step is not a function of its input"
        )
    write_whole(output, golden_bytes(document))
    _out.print(f"{output}: {output.stat().st_size} B", soft_wrap=True)
