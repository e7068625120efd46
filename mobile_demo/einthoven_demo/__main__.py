"""`python -m einthoven_demo`: the whole path, alone on a fresh machine, in half a minute."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from einthoven import EinthovenError, SimulatedSource, open_source
from einthoven_demo.walkthrough import Walkthrough


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="einthoven-demo-"))
    folder.chmod(0o700)
    try:
        source = open_source(options.record) if options.record else SimulatedSource.demo()
        asyncio.run(_walk(Walkthrough(console, folder, source, options.report)))
    except EinthovenError as problem:
        Console(stderr=True).print(f"einthoven demo: {problem}", markup=False, soft_wrap=True)
        return problem.exit_status
    except KeyboardInterrupt:
        Console(stderr=True).print("einthoven demo: stopped", markup=False)
        return 130
    finally:
        if options.keep:
            console.print(f"kept: {folder}", markup=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _walk(walkthrough: Walkthrough) -> None:
    """Run it; whatever Ctrl-C broke on its way, for instance a server that was being started, is a Ctrl-C."""
    task = asyncio.current_task()
    try:
        await walkthrough.run()
    except EinthovenError as problem:
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from problem
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="einthoven_demo", description="An ECG in, a sealed result out of the cloud.")
    parser.add_argument("--record", type=Path, help="a WFDB header, EDF, CSV or NPY file instead of a simulated ECG")
    parser.add_argument("--report", type=Path, default=Path("demo-report.html"), help="where to write the report")
    parser.add_argument("--keep", action="store_true", help="keep the demo's folder: store, server data and logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
