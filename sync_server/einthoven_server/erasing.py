"""The command ``einthoven-server patient erase``, beside running servers or with none.

Invariants:
    1. Only who holds the data folder and its embedded database knows that no other process serves, and waits for none.
"""

from __future__ import annotations

from einthoven_server import limits
from einthoven_server.backup.places import open_place
from einthoven_server.clock import SystemClock
from einthoven_server.erasure.erasing import Erasures
from einthoven_server.rotating import Opened, Place, run_beside
from einthoven_server.rotation.wrapping import operator_event
from einthoven_server.signals.signal_store_obstore import open_signal_store


def erase(place: Place, patient_id: str) -> bool:
    """Erase a patient, or go on with it; return whether nothing is left to do.

    Raises:
        NotFound: There is no such patient.
        ServerError: It can't go on; what was begun is gone on with by the server, or by this command.
    """

    async def work(there: Opened) -> bool:
        clock = SystemClock()
        erasures = Erasures(
            there.database,
            there.vault,
            there.tenancy.scope,
            await open_signal_store(place.signals, place.data),
            there.audit,
            clock,
            lambda url: open_place(url, place.data),
            settle_ms=0 if there.alone else limits.ERASURE_SETTLE_MS,
        )
        begun_at_ms = await erasures.begin(patient_id, operator_event(clock, "patient.erase", patient_id))
        return await erasures.carry_out(patient_id, begun_at_ms)

    return run_beside(place, work)
