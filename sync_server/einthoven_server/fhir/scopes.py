"""What a service's token was issued for: SMART scopes (SMART App Launch 2.2, ``system/Type.cruds``). Pure.

They narrow what the table of permissions allows, and never widen it. A service that is registered without scopes is not
narrowed; people and devices have none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from einthoven_server.errors import Forbidden

READ: Final = "r"
SEARCH: Final = "s"
CREATE: Final = "c"
UPDATE: Final = "u"


def covers(scopes: Collection[str], kind: str, interactions: str) -> bool:
    """Whether scopes cover all of ``interactions`` (letters) with a type of resource."""
    given: set[str] = set()
    for scope in scopes:
        named, _, letters = scope.removeprefix("system/").partition(".")
        if named in {kind, "*"}:
            given |= set(letters)
    return not scopes or given.issuperset(interactions)


def require(scopes: Collection[str], kind: str, interactions: str) -> None:
    """Hold a request to its token's scopes.

    Raises:
        Forbidden: They do not cover it.
    """
    if not covers(scopes, kind, interactions):
        raise Forbidden(
            f"the token's scopes do not cover this for {kind}",
            f"ask for system/{kind}.{interactions}",
            code="insufficient_scope",
        )
