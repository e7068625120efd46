"""The page of attacks names every number once, and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
NUMBERS = 42


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name for name in found if name.startswith("test_")}


def test_every_attack_has_its_line_once() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, NUMBERS + 1))


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w*]+)`", PAGE)
    assert len(named) > NUMBERS - 10
    for path, name in named:
        found = names_in(ROOT / path)
        assert found if name == "*" else name in found, f"{path}::{name}"


def test_every_file_of_an_exception_exists() -> None:
    for path in re.findall(r"\((tests/[\w/]+\.py)\)", PAGE):
        assert (ROOT / path).exists(), path


def test_every_test_that_has_an_attacks_number_is_on_the_page() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        numbers = {int(found[1]) for name in names_in(path) if (found := re.match(r"test_attack_(\d+)_", name))}
        for number in numbers:
            line = re.search(rf"^\| {number} \|.*$", PAGE, re.MULTILINE)
            assert line is not None, (path, number)
            assert path.relative_to(ROOT).as_posix() in line[0], (path, number)
