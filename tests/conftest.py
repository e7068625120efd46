"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A deadline measures the machine, not the code.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
