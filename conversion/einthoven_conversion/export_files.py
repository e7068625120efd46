"""All files of an export, as text, and their way to a folder.

It deliberately loads and believes nothing: the caller brings a verified model and the tables verified with it.

Invariants:
    1. Nothing is written before every file is there; each appears whole or not at all.
    2. The same model and tables give the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from einthoven.models import Model
from einthoven_conversion.errors import ExportFailed
from einthoven_conversion.export_c import comment, header_file, identifier, source_file
from einthoven_conversion.export_golden import export_golden
from einthoven_conversion.export_model import ExportedModel, about, export_model
from einthoven_conversion.export_tables import Integers, integers_of, read_table


@dataclass(frozen=True, slots=True)
class Export:
    """What an export holds.

    Attributes:
        texts: By file name.
        model: The network's part.
        tables_bytes: What the arrays beside the network take, by the file they come from.
    """

    texts: Mapping[str, str]
    model: ExportedModel
    tables_bytes: Mapping[str, int]


def export_c_array(model: Model, tables: Mapping[str, bytes]) -> Export:
    """Everything a microcontroller needs of a model.

    Args:
        model: Verified.
        tables: The table files that decide beside it, by name, as verified with it.

    Raises:
        ConversionError: In one of its kinds.
    """
    name = identifier(model.manifest.name)
    exported = export_model(model)
    groups = {"manifest": integers_of(f"einthoven_{name}", _decides(model))}
    groups |= {file: read_table(file, content) for file, content in sorted(tables.items())}
    tables_header, tables_source = _tables(model, name, groups)
    golden_header, golden_source = export_golden(model)
    texts = {
        f"{name}_model.h": exported.header,
        f"{name}_model.c": exported.source,
        f"{name}_tables.h": tables_header,
        f"{name}_tables.c": tables_source,
        f"{name}_golden.h": golden_header,
        f"{name}_golden.c": golden_source,
    }
    sizes = {file: sum(one.size_bytes for one in found) for file, found in groups.items()}
    return Export(texts, exported, sizes)


def _decides(model: Model) -> dict[str, Any]:
    """What the manifest itself holds of integers that decide."""
    coefficients, probability = model.coefficients, model.manifest.probability
    return {
        "front_end": {"grid_hz": coefficients.grid_hz, "half_kernel": list(coefficients.half_kernel)},
        "probability": {
            key: value for key, value in msgspec.structs.asdict(probability).items() if isinstance(value, int)
        },
    }


def _tables(model: Model, name: str, groups: Mapping[str, list[Integers]]) -> tuple[str, str]:
    header = comment(
        "The integers beside the network: the front end and the probability of the model's manifest, then every table "
        "file. Names are paths in the file; matrices are stored row after row. What they mean is said in the Python "
        "modules of the SDK that read them: frontend, resampling, probability, beat_tables, quality_network and so on."
    )
    source = ""
    for file, found in groups.items():
        header += f"\n{comment(file)}" + "".join(one.declare() for one in found)
        source += comment(file) + "".join(one.define() for one in found)
    return (
        header_file(f"einthoven_{name}_tables_h", about(model), header),
        source_file(f"{name}_tables.h", about(model), source),
    )


def write_files(texts: Mapping[str, str], folder: Path) -> None:
    """Write the files, making the folder if it is not there.

    Raises:
        ExportFailed: It can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partial = folder / f".{name}.partial"
            partial.write_text(text, encoding="utf-8", newline="\n")
            partial.replace(folder / name)
    except OSError as error:
        raise ExportFailed("the files can't be written", "give a folder that can be written to as OUT") from error
