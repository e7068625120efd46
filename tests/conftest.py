"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# A deadline measures the machine, not the code.
settings.register_profile("no-deadline", deadline=None)
# A check of a change looks at the same examples each time; new ones are looked for while working, where one that fails
# is kept and tried again.
settings.register_profile("same-examples", settings.get_profile("no-deadline"), derandomize=True, database=None)
settings.load_profile("same-examples" if os.environ.get("CI") else "no-deadline")
