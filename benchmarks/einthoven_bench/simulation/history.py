"""A history as a value: who there is, and what happens, step by step. Pure.

A step holds all that chance decided about it, so that leaving other steps out changes nothing in it: that is what makes
a failing history shrink. It deliberately does nothing (``world``) and draws nothing (``drawing``).

Invariants:
    1. Every history can be played: a step that speaks of what is not there does nothing.
    2. ``History`` survives JSON.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How badly the network treats one sync's messages, in permille of them; times in ms.

    Attributes:
        request_lost: Never arrives.
        answer_lost: The server did it, and nobody learns of it.
        doubled: The request arrives once more, the same bytes under the same signature.
        late: The request arrives once more, signed anew by something between, up to ``late_ms`` later.
        corrupted: A byte of request or answer is another.
        busy: The server says that it has no time.
        slow_ms: Longest way, either direction.
        late_ms: See ``late``.
    """

    request_lost: int = 0
    answer_lost: int = 0
    doubled: int = 0
    late: int = 0
    corrupted: int = 0
    busy: int = 0
    slow_ms: int = 200
    late_ms: int = 0


CALM = Faults()


class _Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", omit_defaults=True):
    """Something that happens ``after_ms`` after what happened before."""

    after_ms: int = 0


class Append(_Step, frozen=True, tag="append"):
    """A device keeps results, the last of them urgent or not."""

    device: int
    count: int = 1
    urgent: bool = False


class Say(_Step, frozen=True, tag="say"):
    """Somebody says something, on a device, of a result that is there. 1 is the rhythm, 2 the comment, 3 both."""

    device: int
    pick: int
    fields: int = 2


class WriteDiary(_Step, frozen=True, tag="diary"):
    """A note on a device."""

    device: int


class TakeBack(_Step, frozen=True, tag="take back"):
    """A note or words are deleted on a device."""

    device: int
    pick: int
    words: bool = False


class Sync(_Step, frozen=True, tag="sync"):
    """A device syncs.

    Attributes:
        device: Which.
        seed: Of this sync's chances.
        faults: Of the network.
        dies_at: The device's process dies at so manieth of the moments at which it can (store calls before and after,
            messages before and after); 0 for never.
        fills_at: The disk is full from so manieth moment on, for this sync; 0 for never.
    """

    device: int
    seed: int = 0
    faults: Faults = CALM
    dies_at: int = 0
    fills_at: int = 0


class KillDevice(_Step, frozen=True, tag="kill device"):
    """kill -9 of whatever a device is doing."""

    device: int


class KillServer(_Step, frozen=True, tag="kill server"):
    """kill -9 of the server, at so manieth of the moments at which it can from now on."""

    at: int = 1
    down_ms: int = 1_000


class Clinician(_Step, frozen=True, tag="clinician"):
    """Words of a clinician on a result that the server holds."""

    patient: int
    pick: int
    fields: int = 2


class ConsoleNote(_Step, frozen=True, tag="console note"):
    """A note of somebody at the console."""

    patient: int


class ConsoleDelete(_Step, frozen=True, tag="console delete"):
    """The server deletes a row: 1 a result, 2 words, 3 a note."""

    patient: int
    pick: int
    kind: int


class Decide(_Step, frozen=True, tag="decide"):
    """The server decides a document, for a patient or (-1) for all."""

    patient: int
    name: int = 0


class BackUp(_Step, frozen=True, tag="back up"):
    """A device's files are copied."""

    device: int


class Restore(_Step, frozen=True, tag="restore"):
    """A device's files are put back, with the record that lies outside them (so it does not notice) or without."""

    device: int
    noticed: bool = False


class TurnClock(_Step, frozen=True, tag="clock"):
    """A device's clock is off from now on."""

    device: int
    offset_ms: int


class FillDisk(_Step, frozen=True, tag="disk"):
    """A device's disk is full, or no longer."""

    device: int
    full: bool


class LoseCursor(_Step, frozen=True, tag="lose cursor"):
    """A device no longer knows how far it read."""

    device: int


class EnrolAnew(_Step, frozen=True, tag="enrol anew"):
    """A device is enrolled for the same patient again, under another alias; its former one is revoked or not."""

    device: int
    revoke: bool = True


class Destroy(_Step, frozen=True, tag="destroy"):
    """A device is gone for good, with all that only it had."""

    device: int


class Upgrade(_Step, frozen=True, tag="upgrade"):
    """A device gets the app of now; device -1 is the server."""

    device: int


class PushNewer(_Step, frozen=True, tag="newer"):
    """A device of a version to come pushes rows with columns that nobody knows yet."""

    patient: int
    count: int = 1


class Replicate(_Step, frozen=True, tag="replicate"):
    """The replica has what the server has now."""


class FailOver(_Step, frozen=True, tag="fail over"):
    """The server is lost; the replica goes on from where it was."""

    down_ms: int = 1_000


class Collect(_Step, frozen=True, tag="collect"):
    """The server removes tombstones that nobody needs."""


Step: TypeAlias = (
    Append
    | Say
    | WriteDiary
    | TakeBack
    | Sync
    | KillDevice
    | KillServer
    | Clinician
    | ConsoleNote
    | ConsoleDelete
    | Decide
    | BackUp
    | Restore
    | TurnClock
    | FillDisk
    | LoseCursor
    | EnrolAnew
    | Destroy
    | Upgrade
    | PushNewer
    | Replicate
    | FailOver
    | Collect
)


class DeviceSetup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device at the beginning.

    Attributes:
        patient: Whose.
        encrypted: Whether its store is the real one on disk, or the one in memory.
        old_app: Whether it speaks as the first version did.
    """

    patient: int
    encrypted: bool = False
    old_app: bool = False


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Who there is, and what happens.

    Attributes:
        seed: What it was drawn from; seeds also what it leaves open (keys, epochs).
        devices: By number.
        steps: In order.
        old_server: Whether the server speaks as the first version did, until it is upgraded.
        signed_time: Whether a request whose signature is older or newer than it may be is refused, as it is over HTTP.
        push_max: Results of one push that the server asks for; 0 for no limit but the protocol's.
        page_rows: Rows of one answer of the server; 0 for as many as fit.
    """

    seed: int
    devices: tuple[DeviceSetup, ...]
    steps: tuple[Step, ...]
    old_server: bool = False
    signed_time: bool = True
    push_max: int = 0
    page_rows: int = 0

    @property
    def patients(self) -> int:
        """How many."""
        return 1 + max(device.patient for device in self.devices)
