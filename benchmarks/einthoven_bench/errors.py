"""Every error that the benchmarks raise on purpose, in one tree.

::

    BenchError
    ├── DatasetNotFound        no such folder
    ├── DatasetCorrupt         an index, a shard or marks that do not hold what they claim
    ├── CompilerNotFound       crash points can't be made on this system
    ├── ShimNotLoaded          this process was not started behind the crash points' library
    ├── DocumentUnreadable     the file to compare with is no document of figures
    └── MeasurementFailed      the SDK refused a record; carries its exit status

Invariants:
    1. A message is one line, says what was wrong and what to do.
    2. ``exit_status`` is what a command ends with.
"""

from __future__ import annotations


class BenchError(Exception):
    """Root of this package's errors.

    Args:
        problem: What was wrong, without a full stop.
        remedy: What to do about it, without a full stop.
    """

    exit_status = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[BenchError], tuple[object, ...]]:
        """Travel whole from a worker's process; the default would lose the remedy."""
        return type(self), (self.problem, self.remedy)


class DatasetNotFound(BenchError):
    """There is no such folder."""

    exit_status = 2


class DatasetCorrupt(BenchError):
    """An index, a shard or marks that do not hold what they claim."""

    exit_status = 2


class DocumentUnreadable(BenchError):
    """The file to compare with is no document of figures."""

    exit_status = 2


class MeasurementFailed(BenchError):
    """The SDK refused a record.

    Args:
        problem: As in ``BenchError``.
        remedy: As in ``BenchError``.
        exit_status: That of the SDK's error.
    """

    def __init__(self, problem: str, remedy: str, exit_status: int) -> None:
        super().__init__(problem, remedy)
        self.exit_status = exit_status

    def __reduce__(self) -> tuple[type[BenchError], tuple[object, ...]]:
        """Travel whole from a worker's process."""
        return type(self), (self.problem, self.remedy, self.exit_status)


class CompilerNotFound(BenchError):
    """No C compiler, or a system on which calls can't be stood between."""

    exit_status = 2


class ShimNotLoaded(BenchError):
    """This process was not started with the library in front."""
