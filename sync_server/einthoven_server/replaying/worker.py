"""The process that recomputes: a result's row and its signal come in by a pipe, a verdict goes back.

It deliberately has no socket, no key and no database: it reads standard input and writes standard output, in frames of
a length (4 bytes, little-endian) and msgpack. Raw signals stay in its memory and go nowhere.

Invariants:
    1. It never dumps core, and gives way to whatever serves.
    2. A signal or row that can't be analysed is a verdict, not its end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from fractions import Fraction
from typing import BinaryIO, Final

import msgspec
import numpy as np

from einthoven.analysis import Runner, analyze_window
from einthoven.errors import EinthovenError
from einthoven.models import Model, load_model
from einthoven.ports import Segment
from einthoven.result_rows import to_row
from einthoven.runner_litert import LiteRtRunner
from einthoven.verdicts import window_result
from einthoven_protocol.canonical import decode_result_row
from einthoven_protocol.errors import ProtocolError
from einthoven_server import limits
from einthoven_server.replaying.outcomes import ReplayOutcome, Verdict, compare

LENGTH_BYTES: Final = 4
_HEADER_BYTES: Final = 13
"""Of a signal's canonical form: version, rate as two uint32, n (docs/signals-v1.md, section 1)."""


class Job(msgspec.Struct, frozen=True, array_like=True):
    """One result to recompute.

    Attributes:
        row: Its canonical bytes (docs/sync-protocol-v1.md).
        signal: The canonical form of its signal (docs/signals-v1.md).
    """

    row: bytes
    signal: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What became of a job.

    Attributes:
        outcome: A ``ReplayOutcome``.
        differing: Names of the fields that differ.
    """

    outcome: str
    differing: tuple[str, ...] = ()


def recompute(model: Model, runner: Runner, job: Job) -> Verdict:
    """Recompute one result and compare."""
    try:
        claimed = decode_result_row(job.row)
        if (claimed.model_digest, claimed.front_end_version) != (model.digest, model.front_end_version):
            return Verdict(ReplayOutcome.OTHER_MODEL)
        segment = _segment(job.signal)
        analysis = analyze_window(model, runner, segment.samples_uv, segment.sampling_rate_hz)
        return compare(claimed, to_row(window_result(model, analysis, segment, claimed.started_at_ms)))
    except (EinthovenError, ProtocolError, ValueError, ArithmeticError):
        return Verdict(ReplayOutcome.FAILED)


def _segment(canonical: bytes) -> Segment:
    rate = Fraction(int.from_bytes(canonical[1:5], "little"), int.from_bytes(canonical[5:9], "little"))
    return Segment(rate, np.frombuffer(canonical, "<i4", offset=_HEADER_BYTES).astype(np.int32))


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer jobs until there are no more."""
    model = load_model()
    runner = LiteRtRunner(model)
    decode = msgspec.msgpack.Decoder(Job).decode
    while length := source.read(LENGTH_BYTES):
        verdict = recompute(model, runner, decode(source.read(int.from_bytes(length, "little"))))
        octets = msgspec.msgpack.encode(Answer(verdict.outcome, verdict.differing))
        sink.write(len(octets).to_bytes(LENGTH_BYTES, "little") + octets)
        sink.flush()


def main() -> None:
    """Entry point of the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(limits.REPLAY_NICENESS)
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get between the answers
    with os.fdopen(answers, "wb") as sink, contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
