"""What can go wrong in the demo itself; the SDK's errors pass through as they are."""

from __future__ import annotations

from einthoven import EinthovenError


class DemoError(EinthovenError):
    """A step of the demo did not do what it shows."""

    exit_status = 10
