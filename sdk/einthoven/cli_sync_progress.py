"""How far a long sync is: a bar for a person at a terminal, lines for a log, nothing for a short one.

It deliberately counts nothing itself (``sync_report``), and decides nothing.

Invariants:
    1. A sync of one round trip shows nothing.
    2. Without a terminal there is at most a line every ``LINE_EVERY_S``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from einthoven.sync_report import ShowProgress, SyncProgress

LINE_EVERY_S: Final = 5.0
"""Seconds between two lines."""
_DOING: Final = {False: "syncing", True: "comparing"}


class ProgressLines:
    """Turns progress into lines, few enough for a log.

    Args:
        now_s: Tells seconds since some moment.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._began_s = now_s()
        self._said_s = self._began_s

    def line(self, progress: SyncProgress) -> str | None:
        """What to say now, ``None`` for nothing."""
        now_s = self._now_s()
        if now_s - self._said_s < LINE_EVERY_S or progress.rows_done >= progress.rows_total:
            return None
        self._said_s = now_s
        rate = progress.rows_done / (now_s - self._began_s)
        said = (
            f"{_DOING[progress.repairing]}: {progress.rows_done:,} of {progress.rows_total:,} rows, {rate:,.0f} rows/s"
        )
        if rate <= 0:
            return said
        return f"{said}, about {(progress.rows_total - progress.rows_done) / rate:.0f} s left"


@contextmanager
def progress_shown(err: Console, *, quiet: bool, now_s: Callable[[], float] = time.monotonic) -> Iterator[ShowProgress]:
    """What to hand to ``sync`` so that its progress is shown.

    Args:
        err: Where to.
        quiet: Show nothing.
        now_s: Tells seconds since some moment.
    """
    if quiet:
        yield lambda progress: None
    elif err.is_terminal:
        with _bar(err) as bar:
            task = bar.add_task("syncing", total=None, visible=False, rate="")
            began_s = now_s()

            def draw(progress: SyncProgress) -> None:
                rate = progress.rows_done / max(now_s() - began_s, 1e-3)
                bar.update(
                    task,
                    description=_DOING[progress.repairing],
                    completed=progress.rows_done,
                    total=progress.rows_total,
                    rate=f"{rate:,.0f} rows/s",
                    visible=progress.round_trips > 1 or progress.rows_done < progress.rows_total,
                )

            yield draw
    else:
        lines = ProgressLines(now_s)

        def say(progress: SyncProgress) -> None:
            line = lines.line(progress)
            if line is not None:
                err.print(line, markup=False, soft_wrap=True)

        yield say


def _bar(err: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )
