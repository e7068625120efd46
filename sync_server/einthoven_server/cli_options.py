"""Options that several commands of ``einthoven-server`` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Signals = Annotated[
    str | None,
    typer.Option(
        "--signals", help="Where raw signals lie: s3://, gs://, az:// or file://; a folder in DATA if not given."
    ),
]
VaultUrl = Annotated[
    str | None,
    typer.Option(
        "--vault-url",
        help="A PostgreSQL URL of a database apart, for patients' keys; else beside --database-url, or a file in DATA.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
