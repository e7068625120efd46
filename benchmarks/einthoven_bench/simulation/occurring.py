"""What a history contained, by name, so that a run can show that it was no idle one. Pure.

A trouble counts where it struck, not where it was drawn: a kill that came after the sync was over is none.

It deliberately judges nothing, and nothing that happens depends on it.

Invariants:
    1. Every name that can be given is in ``NAMES``, so that a run can also say what never happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from einthoven_bench.simulation import history as h
from einthoven_bench.simulation.virtual_time import YEAR_MS
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse


class Occurred(StrEnum):
    """What can befall a history, beside its steps."""

    ENCRYPTED_STORE = "device with the real store"
    OLD_APP = "app of the first version"
    OLD_SERVER = "server of the first version"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    DOUBLED = "request doubled"
    LATE = "request late"
    CORRUPTED = "message corrupted"
    BUSY = "server busy"
    KILLED_IN_SYNC = "device killed in a sync"
    FULL_IN_SYNC = "disk full in a sync"
    SERVER_KILLED = "server killed in a request"
    FAILED_OVER = "server failed over"
    COMMITS_LOST = "commits lost in a fail-over"
    RESTORED_NOTICED = "device restored, noticed"
    RESTORED_UNNOTICED = "device restored, not noticed"
    RESTORED_AGAIN = "device restored more than once"
    CURSOR_LOST = "cursor lost"
    CLOCK_A_YEAR_OFF = "clock a year off"
    NEW_EPOCH = "epoch begun in a sync"
    COMPARED = "buckets compared"
    REBASELINED = "rebaseline asked for"
    ALERT = "alert went ahead"
    ROW_REFUSED = "row refused by name"
    LOSER_HEARD = "loser of a conflict heard"
    TOMBSTONE_HEARD = "tombstone heard"
    DOCUMENT_HEARD = "document heard"
    IN_PAGES = "answer in pages"
    COLLECTED = "tombstones collected"


_STEPS: Final[Mapping[type, str]] = {kind: f"step: {kind.__struct_config__.tag}" for kind in h.Step.__args__}
NAMES: Final = (*map(str, Occurred), *_STEPS.values())
"""All names, in the order in which they are shown."""


def in_step(step: h.Step) -> set[str]:
    """What a step is that is played."""
    far = isinstance(step, h.TurnClock) and abs(step.offset_ms) >= YEAR_MS
    return {_STEPS[type(step)]} | ({Occurred.CLOCK_A_YEAR_OFF} if far else set())


def in_setup(history: h.History) -> set[str]:
    """What a history begins with."""
    had = {
        Occurred.ENCRYPTED_STORE: any(device.encrypted for device in history.devices),
        Occurred.OLD_APP: any(device.old_app for device in history.devices),
        Occurred.OLD_SERVER: history.old_server,
    }
    return {name for name, there in had.items() if there}


def in_exchange(request: ExchangeRequest, response: ExchangeResponse) -> set[str]:
    """What there was in an exchange whose answer a device took over."""
    had = {
        Occurred.ALERT: request.alerts,
        Occurred.ROW_REFUSED: response.refused,
        Occurred.LOSER_HEARD: response.superseded,
        Occurred.TOMBSTONE_HEARD: response.tombstones,
        Occurred.DOCUMENT_HEARD: response.documents,
        Occurred.IN_PAGES: response.more,
        Occurred.REBASELINED: response.rebaseline,
    }
    return {name for name, there in had.items() if there}
