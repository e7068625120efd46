"""Pieces of C source: names, numbers, arrays, comments, the frame of a header. Text in, text out.

What they give is C99 and C++11 alike. It deliberately knows no model.

Invariants:
    1. A number is written so that C reads the same one back; a number of no type is refused.
    2. Whatever text goes into a comment, it does not end it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np

from einthoven_conversion.errors import ExportFailed

LINE_CHARS: Final = 110
MAX_ARRAY_ELEMENTS: Final = 10_000_000
INTEGER_TYPES: Final = (("int8_t", 8), ("int16_t", 16), ("int32_t", 32), ("int64_t", 64))

ALIGN: Final = """\
#if defined(__cplusplus)
#define EINTHOVEN_ALIGN16 alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define EINTHOVEN_ALIGN16 _Alignas(16)
#elif defined(__GNUC__)
#define EINTHOVEN_ALIGN16 __attribute__((aligned(16)))
#elif !defined(EINTHOVEN_ALIGN16)
#error "define EINTHOVEN_ALIGN16 as what aligns an array to 16 bytes with this compiler"
#endif
"""


def identifier(text: str) -> str:
    """A name of lower-case letters, digits and underscores."""
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


def comment(text: str) -> str:
    """A block comment, wrapped; lines that begin with a blank stay as they are."""
    safe = text.replace("*/", "* /").replace("/*", "/ *").replace("??/", "? ?/")
    safe = "".join(char if char.isprintable() or char == "\n" else " " for char in safe)
    lines = []
    for line in safe.splitlines():
        lines += [line] if line.startswith(" ") else textwrap.wrap(line, LINE_CHARS - 3) or [""]
    if len(lines) == 1:
        return f"/* {lines[0].strip()} */\n"
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in lines) + " */\n"


def define(name: str, value: int | float | str) -> str:
    """A macro: an integer, a float that is read back to the same 32 bits, or text between quotes."""
    if isinstance(value, str):
        safe = re.sub(r'[^ -~]|["\\?]', "_", value)
        return f'#define {name.upper()} "{safe}"\n'
    if isinstance(value, float):
        return f"#define {name.upper()} {float32(value)}\n"
    return f"#define {name.upper()} {integer(value)}\n"


def float32(value: float) -> str:
    """A literal of type float.

    Raises:
        ExportFailed: Not a finite number of 32 bits.
    """
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    if not np.isfinite(narrow):
        raise ExportFailed("a number of the model is not finite", "report it; the model is damaged")
    text = np.format_float_scientific(narrow, unique=True, trim="0")
    return f"({text}f)" if narrow < 0 else f"{text}f"


def integer(value: int) -> str:
    """A literal; the smallest of 64 bits can't be written as one number.

    Raises:
        ExportFailed: Over 64 bits.
    """
    integer_type(value, value)
    if -(2**31) < value < 2**31:
        return f"({value})" if value < 0 else str(value)
    if value == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    return f"(-INT64_C({-value}))" if value < 0 else f"INT64_C({value})"


def integer_type(low: int, high: int) -> str:
    """The narrowest signed type that holds both.

    Raises:
        ExportFailed: None does.
    """
    for name, bits in INTEGER_TYPES:
        if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):
            return name
    raise ExportFailed("an integer has more than 64 bits", "report it; the tables are damaged")


def declaration(ctype: str, name: str, length: int | str) -> str:
    """An array that another file defines."""
    return f"extern const {ctype} {name}[{length}];\n"


def definition(ctype: str, name: str, values: Sequence[int], *, aligned: bool = False) -> str:
    """An array with its content.

    Raises:
        ExportFailed: It is empty, or too long.
    """
    if not 0 < len(values) <= MAX_ARRAY_ELEMENTS:
        raise ExportFailed("a table is empty or too long", "report it; the tables are damaged")
    # In a list a sign needs no brackets; what is over 32 bits keeps the macro that gives it its type.
    cells = [str(value) if -(2**31) < value < 2**31 else integer(value) for value in values]
    lines, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > LINE_CHARS:
            lines.append(line)
            line = "   "
        line += f" {cell},"
    head = f"{'EINTHOVEN_ALIGN16 ' if aligned else ''}const {ctype} {name}[{len(values)}] = {{\n"
    return head + "\n".join([*lines, line]) + "\n};\n"


def header_file(name: str, about: str, body: str) -> str:
    """A header with its guard; what it declares has C linkage."""
    guard = f"{identifier(name).upper()}_INCLUDED"
    return (
        f"{comment(about)}#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
        f'#ifdef __cplusplus\nextern "C" {{\n#endif\n\n{body}\n#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {guard} */\n'
    )


def source_file(header: str, about: str, body: str) -> str:
    """A source file that defines what a header declares; C and C++ alike."""
    return f'{comment(about)}#include "{header}"\n\n{body}'
