"""The merge rule for what can be written in two places: annotations, field by field.

It deliberately merges nothing else: results never change, and everything the server decides replaces.

Invariants:
    1. Commutative, associative, idempotent: replicas that saw the same rows agree, in whatever order they came.
    2. The register with the higher (hlc, value) wins; the value decides only between equal times, by code points, which
       is also the order of its UTF-8 bytes.
"""

from __future__ import annotations

from einthoven_protocol.messages import AnnotationRow, Register


def merge_annotation(a: AnnotationRow, b: AnnotationRow) -> AnnotationRow:
    """Return what both say of one result by one author.

    Raises:
        ValueError: They speak of different results, or are by different authors.
    """
    if (a.target, a.author) != (b.target, b.author):
        raise ValueError("only annotations of one result by one author merge")
    return AnnotationRow(
        target=a.target,
        author=a.author,
        rhythm=_later(a.rhythm, b.rhythm),
        comment=_later(a.comment, b.comment),
    )


def _later(a: Register, b: Register) -> Register:
    return max(a, b, key=lambda register: (register.hlc, register.value))
