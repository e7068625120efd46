"""What `einthoven` exports: lists that must agree, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import einthoven


def typed_imports() -> dict[str, str]:
    """Names that type checkers see, with their modules."""
    tree = ast.parse(Path(einthoven.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_what_checkers_see_is_what_runs() -> None:
    assert typed_imports() == einthoven._MODULE_OF
    assert sorted(typed_imports()) == sorted(einthoven.__all__) == dir(einthoven)


@pytest.mark.parametrize("name", einthoven.__all__)
def test_every_export_is_there(name: str) -> None:
    assert getattr(einthoven, name) is not None


def test_what_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = einthoven.no_such_name


def test_an_app_that_never_syncs_never_pays_for_http() -> None:
    script = (
        "import sys\n"
        "from einthoven import FileKeyProvider, Session, SqlCipherStore, load_model\n"
        "assert callable(load_model) and Session and SqlCipherStore and FileKeyProvider\n"
        "sys.exit('aiohttp' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
