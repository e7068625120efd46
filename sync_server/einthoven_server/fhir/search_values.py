"""Values of search parameters (http://hl7.org/fhir/R4/search.html): dates, tokens, references, numbers. Pure.

It deliberately takes no regular expression, no FHIRPath and no modifier: a value is compared, never run.

Invariants:
    1. Whatever text comes, the answer is a value or ``ParameterRefused``, which names the parameter and not the value.
    2. A date without a time of day is a range: of its day, month or year, in UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final, NamedTuple

from einthoven_server import limits
from einthoven_server.errors import ParameterRefused

_DATE: Final = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb)?"
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?",
    re.ASCII,
)
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
_SHOWN: Final = re.compile(r"[^A-Za-z0-9_:.-]", re.ASCII)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_LAST_MS: Final = 2**53


class DateRange(NamedTuple):
    """A date with its prefix.

    Attributes:
        prefix: One of eq, ne, gt, lt, ge, le, sa, eb.
        begin_ms: First millisecond of what the value covers, since 1970.
        end_ms: The millisecond behind it.
    """

    prefix: str
    begin_ms: int
    end_ms: int


class Token(NamedTuple):
    """A code or an identifier.

    Attributes:
        system: Of what; ``None`` where any will do.
        code: The value; ``None`` where any of the system will do.
    """

    system: str | None
    code: str | None


def shown(name: str) -> str:
    """A parameter's name as it may stand in an answer: what a name has no use for is left out."""
    return _SHOWN.sub("", name)[:64] or "?"


def alternatives(name: str, text: str) -> list[str]:
    r"""The values between commas; ``\,`` is a comma that parts nothing.

    Raises:
        ParameterRefused: There is none, an empty one, too many, or too long a one.
    """
    parts = [part.replace("\0", ",") for part in text.replace("\0", "").replace("\\,", "\0").split(",")]
    if len(parts) > limits.FHIR_ALTERNATIVES_MAX:
        raise ParameterRefused(name, "has too many values", f"give at most {limits.FHIR_ALTERNATIVES_MAX}")
    if any(not 0 < len(part) <= limits.FHIR_VALUE_MAX_CHARS for part in parts):
        raise ParameterRefused(name, "has an empty or overlong value", "give one, or leave the parameter out")
    return parts


def parse_date(name: str, text: str) -> DateRange:
    """A date, as precise as it is.

    Raises:
        ParameterRefused: It is none.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise _bad_date(name)
    prefix, year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        begin = dt.datetime(int(year), int(month or 1), int(day or 1), tzinfo=dt.UTC)
        if hour is None:
            end = _behind(begin, month, day)
        else:
            # A leap second is the last one that calendars here know.
            seconds = min(int(second or 0), 59)
            parts = f"{fraction or '0':0<6}"[:6]
            begin = begin.replace(hour=int(hour), minute=int(minute), second=seconds, microsecond=int(parts))
            begin -= _offset(zone)
            if second is None:
                end = begin + dt.timedelta(minutes=1)
            else:
                end = begin + (dt.timedelta(seconds=1) if fraction is None else _MILLISECOND)
        return DateRange(prefix or "eq", _ms(begin), _ms(end))
    except (ValueError, OverflowError) as error:
        raise _bad_date(name) from error


def _behind(begin: dt.datetime, month: str | None, day: str | None) -> dt.datetime:
    if day is not None:
        return begin + dt.timedelta(days=1)
    months = begin.year * 12 + (begin.month if month is not None else 12)
    return begin.replace(year=months // 12, month=months % 12 + 1)


def _offset(zone: str | None) -> dt.timedelta:
    if zone is None or zone == "Z":
        return dt.timedelta()
    hours, minutes = int(zone[1:3]), int(zone[4:])
    if hours > 14 or minutes > 59:
        raise ValueError("no such time zone")
    return dt.timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)


def _ms(at: dt.datetime) -> int:
    return max(-_LAST_MS, (at - _EPOCH) // _MILLISECOND)


def _bad_date(name: str) -> ParameterRefused:
    return ParameterRefused(name, "is no date", "give eq, ne, gt, lt, ge, le, sa or eb and YYYY[-MM[-DD[Thh:mm:ssZ]]]")


def parse_token(name: str, text: str) -> Token:
    """A token: ``code``, ``system|code``, ``|code`` or ``system|``.

    Raises:
        ParameterRefused: It is none.
    """
    system, bar, code = text.rpartition("|")
    if "|" in system or not (system or code):
        raise ParameterRefused(name, "is no token", "give code, or system|code")
    return Token(system if bar else None, code or None)


def parse_id(name: str, text: str) -> str:
    """A logical id.

    Raises:
        ParameterRefused: It is none.
    """
    if not _ID.fullmatch(text):
        raise ParameterRefused(name, "is no id", "give the id alone")
    return text


def parse_reference(name: str, text: str, target: str, base_url: str) -> str:
    """The id of the one ``target`` a reference names: ``id``, ``Type/id`` or an address of this server.

    Raises:
        ParameterRefused: It names something else, or lies on another server.
    """
    found = text.removeprefix(f"{base_url}/").removeprefix(f"{target}/")
    if not _ID.fullmatch(found):
        raise ParameterRefused(name, f"is no reference to a {target} of this server", f"give {target}/id")
    return found


def parse_count(name: str, text: str, most: int) -> int:
    """How many on a page; more than ``most`` is ``most``.

    Raises:
        ParameterRefused: It is no positive number.
    """
    if not _COUNT.fullmatch(text) or int(text) == 0:
        raise ParameterRefused(name, "is no number of rows", f"give 1 to {most}")
    return min(int(text), most)
