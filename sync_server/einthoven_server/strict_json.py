"""JSON as all its readers agree on (RFC 7493, I-JSON). Pure.

It deliberately knows no shape: whoever asks for one decodes after this.

Invariants:
    1. What is taken has no member twice, no number that readers round or overflow differently, no lone surrogate and no
       nesting that exhausts a stack; whatever bytes come, nothing but ``Malformed`` is raised.
"""

from __future__ import annotations

import json
import math
from typing import Final

from einthoven_server import limits
from einthoven_server.errors import Malformed

_PLAIN_NESTING_MAX: Final = 64
"""So many brackets that open nest no deeper than that."""


def check_json(octets: bytes) -> object:
    """Hold JSON to that, and return it.

    Raises:
        Malformed: It is none, or not such.
    """
    try:
        text = octets.decode("utf-8")
        value: object = _DECODER.decode(text)
        # UTF-8 holds no surrogate, only an escape can bring one: writing finds it, and nesting that is too deep for it.
        if "\\u" in text or text.count("[") + text.count("{") > _PLAIN_NESTING_MAX:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Malformed(
            "the JSON is malformed, too deep, or has a member twice, a lone surrogate or an overlong number",
            "see docs/server.md for its shape",
        ) from error
    return value


def _once_each(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member comes twice")
    return found


def _exact(text: str) -> int:
    if len(text) > limits.JSON_INTEGER_MAX_DIGITS:
        raise ValueError("an overlong integer")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("no finite number")
    return value


# Made once: ``json.loads`` makes one for each text, which takes longer than a short text does.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once_each, parse_int=_exact, parse_float=_finite, parse_constant=_finite
)
