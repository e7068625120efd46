"""What happens while a store is watched (``watching``). Values without content, and no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from einthoven.errors import EinthovenError, TransportError
from einthoven.signal_upload import SignalReport
from einthoven.sync_report import SyncReport


@dataclass(frozen=True, slots=True)
class Synced:
    """An exchange succeeded."""

    report: SyncReport


@dataclass(frozen=True, slots=True)
class SyncFailed:
    """An exchange failed; nothing is lost.

    Attributes:
        error: Why.
        failures: How many in a row.
    """

    error: EinthovenError
    failures: int


@dataclass(frozen=True, slots=True)
class SignalsSent:
    """Raw signals went up."""

    report: SignalReport


@dataclass(frozen=True, slots=True)
class LineOpened:
    """The server will say when there is something."""


@dataclass(frozen=True, slots=True)
class LineLost:
    """It will not, for now; the slow look goes on."""

    error: TransportError


@dataclass(frozen=True, slots=True)
class Woken:
    """The server said that there is something."""


WatchEvent: TypeAlias = Synced | SyncFailed | SignalsSent | LineOpened | LineLost | Woken
