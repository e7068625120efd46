"""`einthoven-convert export`: a model and its tables as C, for microcontrollers.

It deliberately writes only models whose signature and digests are right: a board checks nothing of that itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from einthoven.model_signature_keys import RELEASE_TRUST
from einthoven.models import read_model_files, verify_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven_conversion.cli_signing import TrustedKeys, trusted
from einthoven_conversion.errors import ExportFailed
from einthoven_conversion.export_files import Export, export_c_array, write_files
from einthoven_conversion.operators import MICRO_OPERATORS_VERSION, multiply_adds


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the files; made if it is not there.")],
    c_array: Annotated[bool, typer.Option("--c-array", help="C arrays and headers for TensorFlow Lite Micro.")] = False,
    model_folder: Annotated[
        Path | None,
        typer.Option("--model", help="Folder with the model's files; the shipped one, if not given."),
    ] = None,
    trusted_key: TrustedKeys = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write a model and its tables as C for microcontrollers, with operators, arena estimate and golden vectors."""
    if not c_array:
        raise ExportFailed("no form is named", "say --c-array, the only one there is")
    files = read_model_files("rhythm", model_folder)
    model = verify_model(files, RELEASE_TRUST.with_keys(trusted(trusted_key)))
    with native_stderr_silenced():
        exported = export_c_array(model, files.parts)
    write_files(exported.texts, out)
    typer.echo(json.dumps(document(exported)) if as_json else "\n".join(summary(exported)))


def document(exported: Export) -> dict[str, Any]:
    """What was written, for programs."""
    graph, arena = exported.model.graph, exported.model.arena
    return {
        "files": {name: len(text.encode()) for name, text in exported.texts.items()},
        "operators": list(graph.operator_names),
        "operators_checked_against": MICRO_OPERATORS_VERSION,
        "multiply_adds": multiply_adds(graph),
        "arena_estimate_bytes": arena.total_bytes,
        "arena_tensor_bytes": arena.planned_bytes,
        "arena_persistent_bytes": arena.persistent_bytes,
        "table_bytes": dict(exported.tables_bytes),
    }


def summary(exported: Export) -> list[str]:
    """What was written, for people."""
    model = exported.model
    lines = [f"{name}  {len(text)} B of text" for name, text in exported.texts.items()]
    lines.append(f"operators: {', '.join(model.graph.operator_names)}")
    lines.append(
        f"tensor arena: about {model.arena.total_bytes} B ({model.arena.planned_bytes} B of tensors, an estimate; "
        "see the header)"
    )
    lines += [f"{file}: {size} B of integers" for file, size in exported.tables_bytes.items()]
    return lines
