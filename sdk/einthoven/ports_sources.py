"""Where time and signals come from: ports (``ports``).

It deliberately holds no code that does anything.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.events import SensorEvent

MISSING_UV: Final = -(2**31)
"""Stands for a sample that was never received, in int32 microvolts."""


class Clock(Protocol):
    """Wall time; the core never asks the machine itself."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""
        ...


class Source(Protocol):
    """Where samples come from: a file, a sensor, the simulator."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no path, no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart was involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Samples a second, exact."""
        ...

    @property
    def started_at_ms(self) -> int | None:
        """UTC of the first sample, ms since 1970, where the source knows it."""
        ...

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] in microvolts, ``MISSING_UV`` where none was received.

        Raises:
            InputError: The source turns out not to hold what it claimed.
        """
        ...


class Stamped(Enum):
    """Which of a packet's samples its stamp is for."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Packet:
    """Consecutive samples as a sensor sent them.

    Attributes:
        samples_uv: int32 [n] microvolts, ``MISSING_UV`` where none was received.
        stamp_ns: When the sensor (or the host, for one without a clock) says that the stamped sample was taken, ns;
            of any epoch if ``received_at_ms`` is given, else UTC since 1970. Without one, the packet follows what
            came before.
        stamped: The sample that the stamp is for.
        received_at_ms: UTC when the packet arrived here, ms since 1970; anchors the sensor's clock to UTC.
    """

    samples_uv: NDArray[np.int32]
    stamp_ns: int | None = None
    stamped: Stamped = Stamped.FIRST
    received_at_ms: int | None = None


class LiveSource(Protocol):
    """A sensor that sends packets while it is listened to."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart is involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Nominal samples a second, exact."""
        ...

    def listen(self, listener: Callable[[SensorEvent], None]) -> None:
        """Call ``listener``, in the event loop, with what happens to the sensor; there is one listener at most."""
        ...

    async def start(self) -> None:
        """Find the sensor and start its stream; starting twice is an error of the caller.

        Raises:
            SensorError: In one of its kinds.
        """
        ...

    def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield packets as they arrive, until the source ends or is closed.

        Raises:
            SensorError: The sensor was lost for good.
        """
        ...

    async def close(self) -> None:
        """Stop the stream and let go of the sensor. Closing twice is allowed; it never raises."""
        ...
