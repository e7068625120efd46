"""Text for a report: escaping, times, numbers. Pure.

Invariants:
    1. ``escaped`` gives text that is safe in HTML content and in double-quoted attributes, and valid in XML 1.0.
"""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

# What XML 1.0 forbids, and the controls that reorder text (bidi overrides can make one text look like another).
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def escaped(text: object) -> str:
    """Escape anything for content or a double-quoted attribute."""
    return html.escape(_UNPRINTABLE.sub("�", str(text)), quote=True)


def clock(ms: int) -> str:
    """Time since the start of a recording: 3:05 or 1:02:05."""
    minutes, seconds = divmod(abs(ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    sign = "−" if ms < 0 else ""
    return f"{sign}{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{sign}{minutes}:{seconds:02d}"


def utc(ms: int) -> str:
    """An instant in UTC to the second, or a dash where it is out of the calendar."""
    try:
        return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return "–"


def grouped(count: int) -> str:
    """An integer with thin spaces between thousands."""
    return f"{count:,}".replace(",", " ")


def percent(permille: int) -> str:
    """A share of 1000 as per cent with one decimal."""
    return f"{permille // 10}.{permille % 10} %"
