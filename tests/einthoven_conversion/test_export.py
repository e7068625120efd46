"""`einthoven-convert export --c-array`: C and C++ that compile, hold every byte and integer, and say what is true."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from einthoven.models import Model, read_model_files, verify_model
from einthoven.runner_litert import LiteRtRunner, import_interpreter, self_test_signal
from einthoven_conversion.errors import ExportFailed
from einthoven_conversion.export_c import comment, define, definition, float32, identifier, integer
from einthoven_conversion.export_files import Export, export_c_array, write_files
from einthoven_conversion.export_golden import reference_steps, shipped_steps
from einthoven_conversion.export_tables import read_table
from einthoven_conversion.operators import resolver_calls

C99 = ("gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
CPP = ("g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-x", "c++")
NAMES = ("rhythm_model", "rhythm_tables", "rhythm_golden")


@pytest.fixture(scope="module")
def shipped() -> tuple[Model, Mapping[str, bytes]]:
    files = read_model_files("rhythm")
    return verify_model(files), files.parts


@pytest.fixture(scope="module")
def exported(shipped: tuple[Model, Mapping[str, bytes]]) -> Export:
    return export_c_array(*shipped)


@pytest.fixture(scope="module")
def folder(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "new" / "folder"
    write_files(exported.texts, out)
    return out


def build(folder: Path, main: str, *, compiler: tuple[str, ...] = C99, extra: tuple[str, ...] = ()) -> bytes:
    """Compile the export and a main file, run it, and return what it printed."""
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    suffix = "c" if compiler is C99 else "cc"
    (folder / f"main.{suffix}").write_text(main, encoding="utf-8")
    sources = [f"main.{suffix}", *(f"{name}.c" for name in NAMES)]
    program = folder / f"program-{suffix}"
    command = [*compiler, *extra, "-I.", *sources, "-o", str(program)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr[:2_000]
    return subprocess.run([program], capture_output=True, check=True, timeout=20).stdout


def macros(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#define (\w+) (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("compiler", [C99, CPP], ids=["C99", "C++11"])
def test_the_array_is_the_model_and_aligned(
    folder: Path, shipped: tuple[Model, Mapping[str, bytes]], compiler: tuple[str, ...]
) -> None:
    main = """
    #include <stdio.h>
    #include "rhythm_model.h"
    #include "rhythm_model.h"
    #include "rhythm_tables.h"
    #include "rhythm_golden.h"
    int main(void) {
      if ((uintptr_t)einthoven_rhythm_model % 16) return 1;
      return fwrite(einthoven_rhythm_model, 1, sizeof einthoven_rhythm_model, stdout) != EINTHOVEN_RHYTHM_MODEL_BYTES;
    }
    """
    assert build(folder, main, compiler=compiler) == shipped[0].content


def test_every_integer_of_every_table_is_there(folder: Path, shipped: tuple[Model, Mapping[str, bytes]]) -> None:
    tables = {name: read_table(name, content) for name, content in shipped[1].items()}
    assert {"beats.json", "quality.json"} <= tables.keys()
    arrays = [one for found in tables.values() for one in found]
    lines = [
        f'for (i = 0; i < {len(one.values)}; i++) printf("%lld ", (long long){one.name}[i]); printf("\\n");'
        if one.sizes
        else f'printf("%lld\\n", (long long){one.name.upper()});'
        for one in arrays
    ]
    main = (
        '#include <stdio.h>\n#include "rhythm_tables.h"\nint main(void) { int i;\n' + "\n".join(lines) + "return 0; }\n"
    )
    printed = build(folder, main, extra=("-Wno-misleading-indentation", "-O0")).decode().splitlines()
    assert len(printed) == len(arrays)
    for line, one in zip(printed, arrays, strict=True):
        assert tuple(map(int, line.split())) == one.values, one.name


def test_the_front_end_is_that_of_the_manifest(exported: Export, shipped: tuple[Model, Mapping[str, bytes]]) -> None:
    found = re.search(r"einthoven_rhythm_front_end_half_kernel\[\d+\] = \{([^}]+)\}", exported.texts["rhythm_tables.c"])
    assert found
    assert tuple(int(cell) for cell in found[1].split(",") if cell.strip()) == shipped[0].coefficients.half_kernel
    defined = macros(exported.texts["rhythm_tables.h"])
    assert int(defined["EINTHOVEN_RHYTHM_FRONT_END_GRID_HZ"]) == shipped[0].coefficients.grid_hz


def test_tensors_are_numbered_and_scaled_as_the_interpreter_does(
    exported: Export, shipped: tuple[Model, Mapping[str, bytes]]
) -> None:
    interpreter = import_interpreter()(model_content=shipped[0].content, num_threads=1)
    defined = macros(exported.texts["rhythm_model.h"])
    signature = interpreter.get_signature_list()["step"]
    for kind, details in (("input", interpreter.get_input_details()), ("output", interpreter.get_output_details())):
        assert int(defined[f"EINTHOVEN_RHYTHM_{kind.upper()}S"]) == len(details) == 3
        indices = []
        for name in signature[f"{kind}s"]:
            prefix = f"EINTHOVEN_RHYTHM_{kind.upper()}_{name.upper()}"
            index = int(defined[f"{prefix}_INDEX"])
            scale, zero_point = details[index]["quantization"]
            assert int(defined[f"{prefix}_SIZE"]) == int(np.prod(details[index]["shape"]))
            assert np.float32(defined[f"{prefix}_SCALE"].strip("()f")) == np.float32(scale)
            assert int(defined[f"{prefix}_ZERO_POINT"].strip("()")) == zero_point
            indices.append(index)
        assert sorted(indices) == [0, 1, 2]
    sizes = {name: int(defined[f"EINTHOVEN_RHYTHM_INPUT_{name}_SIZE"]) for name in ("SIGNAL", "STATE", "SIGNAL_STATE")}
    assert sizes["SIGNAL"] == 128
    assert sizes["STATE"] > sizes["SIGNAL_STATE"]


def test_header_and_source_say_whose_they_are(exported: Export, shipped: tuple[Model, Mapping[str, bytes]]) -> None:
    manifest = shipped[0].manifest
    for text in exported.texts.values():
        assert manifest.sha256 in text
        assert "Apache License" in text
        flat = " ".join(text.replace(" * ", " ").split())
        for licence in manifest.licences:
            assert str(licence["name"]) in flat
    assert f'"{shipped[0].digest.hex()}"' in exported.texts["rhythm_model.h"]


STUB = """
#pragma once
typedef int TfLiteStatus;
const TfLiteStatus kTfLiteOk = 0, kTfLiteError = 1;
namespace tflite { template <unsigned int N> struct MicroMutableOpResolver {
  unsigned int calls = 0;
  TfLiteStatus add() { return ++calls <= N ? kTfLiteOk : kTfLiteError; }
  METHODS
}; }
"""


def test_the_resolver_adds_just_the_operators(folder: Path, exported: Export) -> None:
    names = exported.model.graph.operator_names
    methods = "".join(f"TfLiteStatus {call}() {{ return add(); }}\n" for call in resolver_calls(names))
    stub = folder / "tensorflow" / "lite" / "micro"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "micro_mutable_op_resolver.h").write_text(STUB.replace("METHODS", methods), encoding="ascii")
    main = """
    #include <stdio.h>
    #include "rhythm_model.h"
    #define EINTHOVEN_RHYTHM_WITH_RESOLVER
    #include "rhythm_model.h"
    #include "rhythm_model.h"
    int main(void) {
      einthoven_rhythm_resolver resolver;
      if (einthoven_rhythm_add_operators(resolver) != kTfLiteOk) return 1;
      printf("%u", resolver.calls);
      return 0;
    }
    """
    assert int(build(folder, main, compiler=CPP)) == len(names)


@pytest.mark.parametrize(("wrong", "largest"), [(0, 0), (1, 1), (-3, 3)])
def test_the_golden_check_tells_the_largest_difference(folder: Path, wrong: int, largest: int) -> None:
    main = f"""
    #include <stdio.h>
    #include "rhythm_golden.h"
    #include "rhythm_model.h"
    static void step(void *context, const int8_t *signal, int8_t *logits) {{
      int *second = (int *)context;
      int i;
      int at = *second * EINTHOVEN_RHYTHM_CLASSES;
      if (signal != &einthoven_rhythm_golden_signal[*second * EINTHOVEN_RHYTHM_GOLDEN_SAMPLES]) logits[0] = 99;
      for (i = 0; i < EINTHOVEN_RHYTHM_CLASSES; i++) logits[i] = einthoven_rhythm_golden_logits[at + i];
      if (*second == 3) logits[2] = (int8_t)(logits[2] + {wrong});
      *second += 1;
    }}
    int main(void) {{
      int second = 0;
      printf("%d", einthoven_rhythm_golden_check(step, &second));
      return 0;
    }}
    """
    assert int(build(folder, main)) == largest


def test_golden_steps_are_what_the_kernels_give(shipped: tuple[Model, Mapping[str, bytes]], exported: Export) -> None:
    model = shipped[0]
    runner = LiteRtRunner(model)
    state, logits = runner.initial_state(), []
    for second in self_test_signal(model.manifest.self_test.steps):
        answer, state = runner.step(second, state)
        logits.append(answer)
    phones, reference = shipped_steps(model), reference_steps(model)
    np.testing.assert_array_equal(phones.logits, np.stack(logits))
    np.testing.assert_array_equal(phones.states[-1], state[-1])
    apart = np.abs(phones.logits.astype(int) - reference.logits)
    assert apart.max() <= 3  # kernels round differently; more would be another model
    written = re.search(r"golden_logits\[\d+\] = \{([^}]+)\}", exported.texts["rhythm_golden.c"])
    assert written
    assert [int(cell) for cell in written[1].split(",") if cell.strip()] == reference.logits.ravel().tolist()


def test_tensorflow_lite_micro_agrees(shipped: tuple[Model, Mapping[str, bytes]], exported: Export) -> None:
    """Its own interpreter, where it is installed: the same logits bit for bit, and an arena within the estimate."""
    micro = pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    from einthoven_conversion.arena import WORKSTATION, estimate

    model, graph = shipped[0], exported.model.graph
    room = estimate(graph, WORKSTATION).total_bytes
    interpreter = micro.runtime.Interpreter.from_bytes(model.content, arena_size=room)
    order = {graph.names[tensor]: i for i, tensor in enumerate(graph.inputs)}
    places = {graph.names[tensor]: i for i, tensor in enumerate(graph.outputs)}
    zero = {name: graph.tensors[graph.inputs[i]] for name, i in order.items()}
    state = {name: np.full(zero[name].shape, zero[name].zero_points[0], np.int8) for name in ("signal_state", "state")}
    golden = reference_steps(model)
    for second, logits in zip(golden.signal, golden.logits, strict=True):
        for name, values in ({"signal": second[None]} | state).items():
            interpreter.set_input(values, order[name])
        interpreter.invoke()
        state = {name: interpreter.get_output(places[f"{name}_out"]) for name in state}
        np.testing.assert_array_equal(interpreter.get_output(places["logits"])[0], logits)


def test_the_same_model_gives_the_same_files(shipped: tuple[Model, Mapping[str, bytes]], exported: Export) -> None:
    again = export_c_array(shipped[0], dict(reversed(list(shipped[1].items()))))
    assert again.texts == exported.texts
    assert not any(str(Path.cwd()) in text for text in exported.texts.values())


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="ascii")
    with pytest.raises(ExportFailed, match="OUT") as caught:
        write_files({"a.h": "x"}, tmp_path / "taken")
    assert str(tmp_path) not in str(caught.value)
    write_files({"a.h": "x\n"}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h", "taken"]


# Tables


def table(document: Any) -> list[Any]:
    return read_table("some table.json", json.dumps(document).encode())


def test_a_table_of_any_layout_is_taken() -> None:
    found = table(
        {
            "schema": 1,
            "layers": [{"weights": [[1, -300], [2, 3]], "shift": 40_000}, {"weights": [[7]], "bias": [2**40]}],
            "ragged": [[1, 2], [3]],
            "empty": [],
            "text": "left out",
            "real": [0.5, 1],
            "flag": True,
            "metrics": {"n": 5},
            "provenance": [1, 2, 3],
        }
    )
    assert {one.name: (one.values, one.sizes, one.ctype) for one in found} == {
        "einthoven_some_table_schema": ((1,), (), "int8_t"),
        "einthoven_some_table_layers_0_weights": ((1, -300, 2, 3), (2, 2), "int16_t"),
        "einthoven_some_table_layers_0_shift": ((40_000,), (), "int32_t"),
        "einthoven_some_table_layers_1_weights": ((7,), (1, 1), "int8_t"),
        "einthoven_some_table_layers_1_bias": ((2**40,), (1,), "int64_t"),
        "einthoven_some_table_ragged_0": ((1, 2), (2,), "int8_t"),
        "einthoven_some_table_ragged_1": ((3,), (1,), "int8_t"),
        "einthoven_some_table_real_1": ((1,), (), "int8_t"),
    }
    assert [one.size_bytes for one in found] == [0, 8, 0, 1, 8, 2, 1, 0]


def test_packed_integers_are_unpacked() -> None:
    thresholds, directions = np.array([-300, 7, 32_767], "<i2"), np.array([-128, 127], np.int8)
    found = table(
        {
            "trees": {
                "features": base64.b64encode(bytes([0, 200])).decode(),
                "thresholds": base64.b64encode(thresholds.tobytes()).decode(),
                "leaves": "",
            },
            "directions": base64.b64encode(directions.tobytes()).decode(),
            "sha256": "0" * 64,
        }
    )
    assert {one.name.removeprefix("einthoven_some_table_"): one.values for one in found} == {
        "trees_features": (0, 200),
        "trees_thresholds": (-300, 7, 32_767),
        "directions": (-128, 127),
    }


@pytest.mark.parametrize("document", [{"other": "A" * 100}, {"leaves": "AAA"}, {"leaves": "AA=="}, {"leaves": "é"}])
def test_packed_integers_are_never_lost(document: dict[str, str]) -> None:
    with pytest.raises(ExportFailed):
        table(document)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"{",
        b"\xff",
        b'{"a": 99999999999999999999}',
        b'{"a b": 1, "a_b": 2}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
)
def test_a_damaged_table_is_one_line(content: bytes) -> None:
    with pytest.raises(ExportFailed) as caught:
        read_table("verdict.json", content)
    assert "\n" not in str(caught.value)


# Pieces of C


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_read_back_to_the_same_bits(value: float) -> None:
    assert np.float32(float32(value).strip("()").removesuffix("f")) == np.float32(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_is_no_float_is_refused(value: float) -> None:
    with pytest.raises(ExportFailed):
        float32(value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_written_as_itself(value: int) -> None:
    plain = integer(value).replace("INT64_C(", "(")
    assert eval(plain) == value


def test_an_integer_of_no_type_is_refused() -> None:
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(ExportFailed):
            integer(value)


@given(st.text())
@example("*/ int x; /* ??/\n")
@example('"; system("x\\')
def test_no_text_ends_a_comment_or_a_string(text: str) -> None:
    written = comment(text)
    assert written.count("*/") == 1
    assert written.count("/*") == 1
    assert written.endswith("*/\n")
    assert define("name", text).count('"') == 2
    assert define("name", text).count("\n") == 1


@given(st.text())
def test_an_identifier_is_one(text: str) -> None:
    assert re.fullmatch("[a-z_][a-z0-9_]*", identifier(text))


def test_an_array_is_not_empty() -> None:
    with pytest.raises(ExportFailed):
        definition("int8_t", "nothing", [])


# The command


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from einthoven_conversion.cli import main\nmain()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


def test_the_command_writes_the_files(tmp_path: Path, exported: Export) -> None:
    done = convert("export", "--c-array", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "CONV_2D" in done.stdout
    assert f"about {exported.model.arena.total_bytes} B" in done.stdout
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()} == exported.texts


def test_the_command_tells_programs(tmp_path: Path, exported: Export) -> None:
    done = convert("export", "--c-array", "--json", tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["arena_estimate_bytes"] == exported.model.arena.total_bytes
    assert told["operators"] == list(exported.model.graph.operator_names)
    assert told["files"] == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    defined = macros(exported.texts["rhythm_model.h"])
    assert told["multiply_adds"] == int(defined["EINTHOVEN_RHYTHM_MULTIPLY_ADDS"])
    assert told["table_bytes"].keys() >= {"manifest", "beats.json", "quality.json"}


def test_a_model_that_was_changed_is_not_exported(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "edge_models" / "einthoven_models"
    model = tmp_path / "model"
    shutil.copytree(source, model)
    content = bytearray((model / "rhythm.tflite").read_bytes())
    content[-1_000] ^= 1
    (model / "rhythm.tflite").write_bytes(content)
    done = convert("export", "--c-array", "--model", model, tmp_path / "out")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("OUT",), 4, "--c-array"),
        (("--c-array", "--model", "/no/such/folder", "OUT"), 4, "can't be read"),
        (("--c-array", "/dev/null/out"), 4, "OUT"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    done = convert("export", *(tmp_path / "out" if word == "OUT" else word for word in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert not (tmp_path / "out").exists()
