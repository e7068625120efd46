"""What a microcontroller's build must answer: the self-test's signal, and the logits and states that belong to it.

TensorFlow Lite Micro's reference kernels round as LiteRT's reference kernels do, and not as XNNPACK, which phones and
servers use and the manifest's self-test pins; so both answers are written, and which is which is said. It deliberately
holds no recording: the signal is a generator's (``runner_litert.self_test_signal``).

Invariants:
    1. Both answers come from running the very bytes that are exported.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.models import Model
from einthoven.runner_litert import LiteRtRunner, self_test_signal
from einthoven_conversion.errors import DependencyMissing, ExportFailed
from einthoven_conversion.export_c import (
    comment,
    declaration,
    define,
    definition,
    header_file,
    identifier,
    source_file,
)
from einthoven_conversion.export_model import about

INTERPRETERS: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_CHECK: Final = """\
int {prefix}_golden_check({prefix}_step step, void *context) {{
  int largest = 0;
  int second;
  int label;
  int8_t logits[{upper}_CLASSES];
  for (second = 0; second < {upper}_GOLDEN_STEPS; second++) {{
    step(context, &{prefix}_golden_signal[second * {upper}_GOLDEN_SAMPLES], logits);
    for (label = 0; label < {upper}_CLASSES; label++) {{
      int difference = logits[label] - {prefix}_golden_logits[second * {upper}_CLASSES + label];
      if (difference < 0) difference = -difference;
      if (difference > largest) largest = difference;
    }}
  }}
  return largest;
}}
"""


@dataclass(frozen=True, slots=True)
class GoldenSteps:
    """A run from the initial state.

    Attributes:
        signal: int8 [steps, 128].
        logits: int8 [steps, classes].
        states: int8, one array a state, after the last step.
    """

    signal: NDArray[np.int8]
    logits: NDArray[np.int8]
    states: tuple[NDArray[np.int8], ...]


def shipped_steps(model: Model) -> GoldenSteps:
    """The steps with the kernels that phones and servers use."""
    runner = LiteRtRunner(model)
    signal = self_test_signal(model.manifest.self_test.steps)
    state, logits = runner.initial_state(), []
    for second in signal:
        answer, state = runner.step(second, state)
        logits.append(answer)
    return GoldenSteps(signal, np.stack(logits), state)


def reference_steps(model: Model) -> GoldenSteps:
    """The steps with reference kernels, which round as a microcontroller's do.

    Raises:
        DependencyMissing: No interpreter that can choose its kernels is installed.
        ExportFailed: The interpreter refused the model.
    """
    signal = self_test_signal(model.manifest.self_test.steps)
    try:
        interpreter = _reference_interpreter()(model.content)
        interpreter.allocate_tensors()
        places = {d["name"]: d["index"] for d in (*interpreter.get_input_details(), *interpreter.get_output_details())}
        ins, outs = (
            [places[tensor.name] for tensor in ends] for ends in (model.manifest.inputs, model.manifest.outputs)
        )
        states = [np.full(tensor.shape, tensor.zero_point, np.int8) for tensor in model.manifest.inputs[1:]]
        logits = []
        for second in signal:
            for place, values in zip(ins, (second[None], *states), strict=True):
                interpreter.set_tensor(place, values)
            interpreter.invoke()
            answer, *states = (interpreter.get_tensor(place) for place in outs)
            logits.append(answer[0])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ExportFailed("the reference kernels refused the model", "report it, with the model's digest") from error
    return GoldenSteps(signal, np.stack(logits), tuple(state[0] for state in states))


def _reference_interpreter() -> Any:
    for name in INTERPRETERS:
        try:
            module = importlib.import_module(name)
            resolver = module.OpResolverType.BUILTIN_REF
        except (ImportError, AttributeError):
            continue
        return lambda content, module=module, resolver=resolver: module.Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=resolver
        )
    raise DependencyMissing("no interpreter with reference kernels is installed", "pip install 'ai-edge-litert>=2.3'")


def export_golden(model: Model) -> tuple[str, str]:
    """Header and source of the golden vectors.

    Raises:
        DependencyMissing: See ``reference_steps``.
        ExportFailed: See ``reference_steps``.
    """
    name = identifier(model.manifest.name)
    prefix = f"einthoven_{name}"
    shipped, reference = shipped_steps(model), reference_steps(model)
    apart = int(np.abs(shipped.logits.astype(np.int64) - reference.logits).max())
    states = [identifier(tensor.name.rpartition(":")[0] or tensor.name) for tensor in model.manifest.inputs[1:]]
    arrays = [("signal", shipped.signal), ("logits", reference.logits), ("logits_of_phones", shipped.logits)]
    arrays += [
        (f"{state.removeprefix('step_')}_after", values) for state, values in zip(states, reference.states, strict=True)
    ]
    explained = comment(
        "Seconds of a fixed signal, one after the other from the initial state. _logits and _after are what reference "
        "kernels give, TensorFlow Lite Micro's among them, bit for bit; _logits_of_phones what the kernels of phones "
        f"and servers give, at most {apart} apart here. Optimized kernels of a microcontroller may round otherwise too."
    )
    body = explained + define(f"{prefix}_golden_steps", len(shipped.signal))
    body += define(f"{prefix}_golden_samples", shipped.signal.shape[1])
    body += "".join(declaration("int8_t", f"{prefix}_golden_{part}", values.size) for part, values in arrays)
    body += "\n" + comment(
        "Runs one second: SAMPLES counts in, CLASSES logits out; the state between seconds is the callee's. The check "
        "gives the largest difference from _logits in counts, 0 with reference kernels."
    )
    body += f"typedef void (*{prefix}_step)(void *context, const int8_t *signal, int8_t *logits);\n"
    body += f"int {prefix}_golden_check({prefix}_step step, void *context);\n"
    header = header_file(f"{prefix}_golden_h", about(model), body)
    source = source_file(
        f"{name}_golden.h",
        about(model),
        f'#include "{name}_model.h"\n\n'
        + "".join(
            definition("int8_t", f"{prefix}_golden_{part}", values.ravel().tolist()) + "\n" for part, values in arrays
        )
        + _CHECK.format(prefix=prefix, upper=prefix.upper()),
    )
    return header, source
