"""What a committed batch touched, for whoever wakes devices. Pure; the writer tells, and knows nobody who listens."""

from __future__ import annotations

from typing import Final, NamedTuple

WHOLE_TENANT: Final = ""
"""Stands for every patient of the tenant."""


class Committed(NamedTuple):
    """A batch that is durable.

    Attributes:
        after_seq: The shard's commit sequence before it.
        commit_seq: And with it.
        touched: (patient id or ``WHOLE_TENANT``, alias of the device that wrote, 0 for anybody else) of every change
            that wrote something.
    """

    after_seq: int
    commit_seq: int
    touched: frozenset[tuple[str, int]]
