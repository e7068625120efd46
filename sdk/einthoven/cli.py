"""The `einthoven` command: analyze, beats, explain, live, enroll, sync, status, note, replay, store.

It deliberately contains no logic of its own: it opens things, calls the SDK, and shows what came back
(``cli_render``). With ``--json`` standard output holds one JSON document and nothing else.

Exit status: 0 done; 2-10 as in ``einthoven.errors``; 1 anything unforeseen.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import numpy as np

from einthoven.errors import EinthovenError, InputError, NoUsableSignal, ReplayMismatch

try:
    import typer
    from rich.console import Console
except ImportError:  # the bare install is what a phone carries
    sys.exit("einthoven: the command needs two more packages; run: pip install 'einthoven[cli]'")

from einthoven import cli_render as render
from einthoven import cli_store, cli_sync
from einthoven.cli_explain import explain
from einthoven.cli_heart import beats_document
from einthoven.cli_live import Narrator, listen
from einthoven.cli_options import (
    FILE_HELP,
    Home,
    Json,
    Lead,
    ModelFolder,
    SamplingRate,
    TrustedKeys,
    Unit,
    open_model,
    open_runner,
    open_store,
    parsed_rate,
)
from einthoven.cli_sync_render import identity_document
from einthoven.enrolling import enroll as enroll_device
from einthoven.events import Event, WindowAnalyzed
from einthoven.heart_summary import summarize_heart
from einthoven.ports import LiveSource
from einthoven.recordings import Recording
from einthoven.recordings import analyze as analyze_source
from einthoven.replaying import ReplayOutcome, replay_all
from einthoven.replaying import replay as replay_one
from einthoven.results import WindowResult
from einthoven.session import Session
from einthoven.signal_monitor import SignalTally
from einthoven.signals import analyze_signal
from einthoven.source_polar import PolarSource
from einthoven.source_replay import ReplaySource
from einthoven.sources import open_source
from einthoven.store_memory import MemoryStore

LIVE_BLOCK_MS: Final = 1_000
"""Someone is looking: say each beat within three seconds."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Analyse ECGs on this device, keep them encrypted, sync them. Not a medical device.",
)
app.command()(explain)
app.command()(cli_sync.sync)
app.command()(cli_sync.status)
app.add_typer(cli_sync.note_app, name="note")
app.add_typer(cli_store.app, name="store")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    home: Home,
    sampling_rate_hz: SamplingRate = None,
    unit: Unit = None,
    lead: Lead = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Keep the results in the encrypted store.")] = True,
    model_folder: ModelFolder = None,
    trusted_key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Analyse an ECG file second by second and say what was found."""
    rate = parsed_rate(sampling_rate_hz)
    source = open_source(file, sampling_rate_hz=rate, unit=unit, lead=lead)
    model = open_model(model_folder, trusted_key)
    runner = open_runner(model)
    with open_store(home, create=True) if store else MemoryStore() as kept:
        recording = analyze_source(model, kept, source, runner=runner)
    _require_signal(recording)
    document = render.analysis_document(source, model, recording)
    _show(document, as_json, lambda: render.show_analysis(_out, document))


@app.command()
def beats(
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    sampling_rate_hz: SamplingRate = None,
    unit: Unit = None,
    lead: Lead = None,
    as_json: Json = False,
) -> None:
    """Find every beat of an ECG file and judge every second of its signal; nothing is kept."""
    source = open_source(file, sampling_rate_hz=parsed_rate(sampling_rate_hz), unit=unit, lead=lead)
    samples = np.concatenate(list(source.chunks()))
    signal = analyze_signal(samples, source.sampling_rate_hz)
    heart = summarize_heart(signal, source.sampling_rate_hz)
    document = beats_document(
        source.name, source.simulated, source.sampling_rate_hz, signal, heart, render.NOT_A_DEVICE
    )
    _show(document, as_json, lambda: render.show_beats(_out, document))


@app.command()
def live(
    home: Home,
    file: Annotated[Path | None, typer.Argument(help="A recording to replay; a Polar H10, if not given.")] = None,
    address: Annotated[str | None, typer.Option(help="The strap's address; the first in reach, if not given.")] = None,
    speed: Annotated[float, typer.Option(help="Of a replay: 1 is real time, 0 as fast as it goes.")] = 1.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.", min=0.1)] = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Keep the results in the encrypted store.")] = True,
    model_folder: ModelFolder = None,
    trusted_key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Follow a chest strap, or a recording as if it were one, and say what happens; Ctrl-C ends it well."""
    if file is not None and address is not None:
        raise InputError("both a file and a strap are given", "leave one of them out")
    source: LiveSource = PolarSource(address=address) if file is None else ReplaySource(open_source(file), speed=speed)
    model = open_model(model_folder, trusted_key)
    narrator, results = Narrator(), list[WindowResult]()
    tally = SignalTally(source.sampling_rate_hz)

    def take(event: Event) -> None:
        tally.take([event])
        if isinstance(event, WindowAnalyzed):
            results.append(event.result)
        line = narrator.line(event)
        if line is not None and not as_json:
            _out.print(line, markup=False, soft_wrap=True)

    with open_store(home, create=True) if store else MemoryStore() as kept:
        rate = source.sampling_rate_hz
        with Session.open(
            model, kept, sampling_rate_hz=rate, runner=open_runner(model), block_ms=LIVE_BLOCK_MS
        ) as session:
            with suppress(KeyboardInterrupt):
                asyncio.run(listen(session, source, seconds=seconds, take=take))
            for event in session.close():
                take(event)
    recording = Recording(tuple(results), session.assessment, rate, tally.signal)
    document = render.analysis_document(source, model, recording)
    _show(document, as_json, lambda: render.show_analysis(_out, document))


@app.command()
def enroll(
    code: Annotated[str, typer.Argument(help="The one-time code from your clinic; it begins with EIN1.")],
    home: Home,
    as_json: Json = False,
) -> None:
    """Enrol this device with a server, once."""
    with open_store(home, create=True) as store:
        identity = asyncio.run(enroll_device(store, code))
    document = identity_document(identity)
    _show(document, as_json, lambda: render.show_identity(_out, document))


@app.command()
def replay(
    home: Home,
    counter: Annotated[int | None, typer.Argument(help="Which result; all of them, if not given.", min=1)] = None,
    model_folder: ModelFolder = None,
    trusted_key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Recompute results from their stored signal and compare them bit for bit."""
    model = open_model(model_folder, trusted_key)
    runner = open_runner(model)
    with open_store(home, create=False) as store:
        if counter is None:
            replays = list(replay_all(model, store, runner=runner))
        else:
            stored = store.result(counter)
            if stored is None:
                raise InputError(f"there is no result {counter}", "see `einthoven status` for how many there are")
            replays = [replay_one(model, store, stored, runner=runner)]
    document = render.replay_document(replays)
    _show(document, as_json, lambda: render.show_replay(_out, document))
    differing = [one.stored.counter for one in replays if one.outcome is ReplayOutcome.DIFFERENT]
    if differing:
        raise ReplayMismatch(
            f"{len(differing)} of {len(replays)} results do not replay (first: {differing[0]})",
            "keep the store as it is and report the result, the model and this version",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the one place where an error becomes a line and an exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # A command that ends by typer.Exit, without an error, makes its status the value of the call.
        ended = app(arguments, standalone_mode=False)
    except EinthovenError as problem:
        if "--json" in arguments:
            render.print_json({"error": type(problem).__name__, "problem": problem.problem, "remedy": problem.remedy})
        _err.print(f"einthoven: {problem}", markup=False, soft_wrap=True)
        return problem.exit_status
    except typer.Exit as end:
        return end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _err.print("einthoven: stopped", markup=False)
        return 130
    except Exception as problem:
        if not hasattr(problem, "format_message"):  # only click's own usage errors have one
            raise
        _err.print(
            f"einthoven: {problem.format_message().rstrip('.')}; see `einthoven --help`", markup=False, soft_wrap=True
        )
        return InputError.exit_status
    return ended if isinstance(ended, int) else 0


def _require_signal(recording: Recording) -> None:
    """Refuse to end well on a record without one usable second.

    Raises:
        NoUsableSignal: There is none.
    """
    if any(result.usable_s for result in recording.results):
        return
    found = sorted({flag.name.lower() for result in recording.results for flag in result.quality if flag.name})
    seconds = sum(result.duration_ms for result in recording.results) / 1000
    why = " and ".join(found) or "too short"
    raise NoUsableSignal(
        f"no usable signal in {seconds:.0f} s ({why})", "check electrodes, unit and sampling rate, then record again"
    )


def _show(document: object, as_json: bool, show: Callable[[], None]) -> None:
    if as_json:
        render.print_json(document)
    else:
        show()


if __name__ == "__main__":
    sys.exit(main())
