"""What the README promises: its example runs as printed, its commands exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer
from tests.e2e.conftest import Admin

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def embedding_example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return str(block)


def test_the_example_is_short_enough_to_read() -> None:
    assert len([line for line in embedding_example().splitlines() if line.strip()]) <= 15


async def test_the_example_runs_as_printed(
    admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    code = await admin.code()
    monkeypatch.chdir(tmp_path)
    program = compile(embedding_example(), "README.md", "exec")
    await asyncio.to_thread(exec, program, {"enrolment_code": code})
    shown = capsys.readouterr().out
    assert "ROUTINE NORMAL" in shown or "ELEVATED" in shown or "INCONCLUSIVE" in shown
    assert "digests equal: True" in shown
    assert (tmp_path / "ecg.db").read_bytes()[:15] != b"SQLite format 3"


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", README))
    assert named, "the README names no target"
    assert named <= targets


def test_every_file_it_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_it_says_what_it_is_not() -> None:
    assert "not a medical device" in README.lower()


def commands_of(app: typer.Typer) -> set[str]:
    """Names of an app's commands."""
    return {str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback}


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("einthoven", "einthoven"),
        ("einthoven-server", "einthoven_server"),
        ("einthoven-convert", "einthoven_conversion"),
    ],
)
def test_every_command_is_named(program: str, module: str) -> None:
    """An undocumented command fails the build."""
    app = importlib.import_module(f"{module}.cli").app
    documents = README + (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    undocumented = {name for name in commands_of(app) if f"{program} {name}" not in documents}
    assert not undocumented
