"""What Schemathesis loads (``SCHEMATHESIS_HOOKS``): who sends each request, real ids in paths, messages half right.

Loaded inside the tool's process only. What was generated is sent as it is most of the time; random input alone would
end at the first check of an id or a signature.

Invariants:
    1. The choices are drawn from a seeded generator, one for each process.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis

from einthoven_bench.fuzzing.ground import ERASED, Ground, read_ground
from einthoven_bench.fuzzing.showing import SignatureShown, TokenShown
from einthoven_bench.fuzzing.tally import Counting

GROUND: Final = "EINTHOVEN_FUZZ_GROUND"
TALLY: Final = "EINTHOVEN_FUZZ_TALLY"
CA_FILE: Final = "EINTHOVEN_FUZZ_CA"
SEED: Final = "EINTHOVEN_FUZZ_SEED"
SYNC_TYPE: Final = "application/vnd.einthoven.sync"
UPLOAD_TYPE: Final = "application/offset+octet-stream"
_REAL_PLACE: Final = 0.8
"""How often a path gets an id that there is."""
_RIGHT_ROLE: Final = 0.85
_STRANGER: Final = 0.03
"""How often nobody asks."""
_HALF_RIGHT: Final = 0.6
"""How often a message is a right one with damaged bytes."""
_AT_ONCE: Final = 0.05
_TIMEOUT_S: Final = 30.0
_ROLES: Final = ("admin", "clinician", "patient", "service")

_ground: Final[Ground] = read_ground(Path(os.environ[GROUND]))
_drawn: Final = random.Random(int(os.environ.get(SEED, "0")))  # noqa: S311  # what to try, no secret
_counting: Final = Counting(Path(os.environ[TALLY]))
_shown_by: Final = threading.local()
atexit.register(_counting.write)


def _post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    answer = requests.post(url, data=body, headers=headers, verify=os.environ[CA_FILE], timeout=_TIMEOUT_S)
    return bytes(answer.content)


_accounts: Final = {
    role: [TokenShown(_ground.url, key_file, _post) for key_file in key_files]
    for role, key_files in _ground.key_files.items()
}
_devices: Final = [
    SignatureShown(device_id, key) for device_id, key in zip(_ground.device_ids, _ground.device_keys, strict=True)
]


def as_bytes(context: Any, value: Any) -> Any:
    """Bytes as they are, and whatever else as its text's."""
    del context
    return value if isinstance(value, bytes) else str(value).encode()


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Put real ids into the path, half right bytes into the body, and say who asks."""
    del context
    places = case.path_parameters or {}
    erases = case.path.endswith("/erase")
    for name in places:
        if name in _ground.places and _drawn.random() < _REAL_PLACE:
            places[name] = _drawn.choice(_ground.places[ERASED if erases and name == "patient_id" else name])
    definition = case.operation.definition.raw
    who = _who(definition)
    if isinstance(who, SignatureShown) and case.media_type == SYNC_TYPE and _drawn.random() < _HALF_RIGHT:
        case.body = _damaged(_ground.message)
    # Each time at once, nobody's token would live for a second request.
    if isinstance(case.body, dict) and case.body.get("at_once") is True and _drawn.random() > _AT_ONCE:
        case.body["at_once"] = False
    _shown_by.who = who
    if who is not None:
        kwargs["auth"] = who


def after_call(context: Any, case: Any, response: Any) -> None:
    """Count it; a token that is refused is not shown again."""
    del context
    who = getattr(_shown_by, "who", None)
    if response.status_code == 401 and who is not None:
        who.refused()
    _counting.answered(f"{case.operation.method.upper()} {case.operation.path}", response.status_code)


def after_network_error(context: Any, case: Any, request: Any) -> None:
    """Count what was not answered."""
    del context, request
    _counting.unanswered(f"{case.operation.method.upper()} {case.operation.path}")


def _who(definition: dict[str, Any]) -> TokenShown | SignatureShown | None:
    security = definition.get("security") or [{}]
    if _drawn.random() < _STRANGER or not security[0]:
        return None
    if "signature" in security[0]:
        return _drawn.choice(_devices)
    allowed = [role for role in definition.get("x-einthoven-allowed", {}) if role in _ROLES]
    role = _drawn.choice(allowed if allowed and _drawn.random() < _RIGHT_ROLE else _ROLES)
    return _drawn.choice(_accounts[role])


def _damaged(message: bytes) -> bytes:
    octets = bytearray(message)
    for _ in range(_drawn.randint(0, 3)):
        octets[_drawn.randrange(len(octets))] = _drawn.randrange(256)
    return bytes(octets[: _drawn.randint(1, len(octets))] if _drawn.random() < 0.3 else octets)


schemathesis.serializer(SYNC_TYPE, UPLOAD_TYPE)(as_bytes)
for _hook in (before_call, after_call, after_network_error):
    schemathesis.hook(_hook)
