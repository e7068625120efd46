"""Every error that training and evaluation raise on purpose, in one tree.

::

    ConversionError
    ├── DatasetNotFound        no such folder, or no index in it
    ├── DatasetCorrupt         an index or shard that does not hold what it claims
    ├── DatasetUnknown         a data set that this command can't use
    ├── OptionRefused          options of a command that do not go together
    ├── DependencyMissing      TensorFlow or SciPy is not installed
    ├── TrainingFailed         a loss that is no number, or too few records to train on
    ├── QuantizationFailed     the converter gave another graph than the SDK expects
    ├── OperatorUnsupported    the graph has an operator that the target can't run
    ├── ExportFailed           a model or table that can't be written as C
    ├── ReportIncomplete       a figure without its n
    └── SigningKeyError        no key, one that others can read, or one that would be overwritten

Invariants:
    1. A message is one line, says what was wrong and what to do.
    2. ``exit_status`` is what a command ends with.
"""

from __future__ import annotations


class ConversionError(Exception):
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

    def __reduce__(self) -> tuple[type[ConversionError], tuple[str, str]]:
        """Travel whole from a training's process; the default would lose the remedy."""
        return type(self), (self.problem, self.remedy)


class DatasetNotFound(ConversionError):
    """There is no such folder, or no index in it."""

    exit_status = 2


class DatasetCorrupt(ConversionError):
    """An index or a shard that does not hold what it claims."""

    exit_status = 2


class DatasetUnknown(ConversionError):
    """A data set that this command can't use."""

    exit_status = 2


class OptionRefused(ConversionError):
    """Options of a command do not go together."""

    exit_status = 2


class DependencyMissing(ConversionError):
    """A package of the ``conversion`` extra is not installed."""

    exit_status = 3


class TrainingFailed(ConversionError):
    """Training did not end with a usable model."""

    exit_status = 4


class QuantizationFailed(ConversionError):
    """The converter gave another graph than the SDK expects."""

    exit_status = 4


class OperatorUnsupported(ConversionError):
    """The graph has an operator that the target can't run, or whose cost is not known."""

    exit_status = 4


class ExportFailed(ConversionError):
    """A model or a table can't be read as a graph or as integers, or the files can't be written."""

    exit_status = 4


class SigningKeyError(ConversionError):
    """There is no usable key to sign with, or one is there that would be overwritten."""

    exit_status = 2


class ReportIncomplete(ConversionError):
    """A report has a figure without its value or its n."""

    exit_status = 4
