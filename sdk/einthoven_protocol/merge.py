"""The merge rule for what can be written in two places: annotations, field by field.

It deliberately merges nothing else: results and notes never change, and everything the server decides replaces. It does
not tell a conflict from a sequence either; that takes a base mark, and a server to compare it.

Invariants:
    1. Commutative, associative, idempotent: replicas that saw the same rows agree, in whatever order they came.
    2. The register with the higher (hlc, value) wins; the value decides only between equal times, by code points, which
       is also the order of its UTF-8 bytes. Registers of a newer version do the same by their bytes.
    3. A register with time 0 and no value is the identity: it says nothing, and loses to all.
"""

from __future__ import annotations

from einthoven_protocol import limits
from einthoven_protocol.messages import AnnotationRow, FurtherRegister, Register


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
        further=_further(a.further, b.further) if a.further or b.further else (),
    )


def base_mark(hlc: int) -> int:
    """Return the mark of a register that a write was made over: 0 for none, else 1 to ``limits.MAX_BASE_MARK``.

    A mark tells apart the versions of one register that a device and its server may hold at a time; it is no hash. The
    modulus is prime, so writes a multiple of 65,536 apart (whole milliseconds) get different marks.
    """
    return 1 + hlc % limits.MAX_BASE_MARK if hlc else 0


def _later(a: Register, b: Register) -> Register:
    return max(a, b, key=lambda register: (register.hlc, register.value))


def _further(a: tuple[FurtherRegister, ...], b: tuple[FurtherRegister, ...]) -> tuple[FurtherRegister, ...]:
    held: dict[int, FurtherRegister] = {}
    for register in (*a, *b):
        # They order by (number, hlc, value), which within one number is the rule.
        held[register.number] = max(held.get(register.number, register), register)
    return tuple(sorted(held.values()))
