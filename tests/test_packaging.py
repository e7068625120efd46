"""setup.cfg against the folders, and a wheel against both: sub-packages go missing silently."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTAINERS = ("sdk", "edge_models", "sync_server", "conversion", "mobile_demo", "benchmarks")


def declared() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def declared_packages() -> set[str]:
    return set(declared()["options"]["packages"].split())


def packages_on_disk() -> set[str]:
    found = set()
    for container in CONTAINERS:
        base = ROOT / container
        for marker in base.glob("**/__init__.py"):
            found.add(".".join(marker.parent.relative_to(base).parts))
    return found


def test_every_package_on_disk_is_declared_and_the_other_way_round() -> None:
    assert declared_packages() == packages_on_disk()


def test_every_folder_with_python_files_is_a_package() -> None:
    for container in CONTAINERS:
        for file in (ROOT / container).glob("*/**/*.py"):
            assert (file.parent / "__init__.py").exists(), f"{file.parent} has no __init__.py"


def test_every_top_level_package_is_typed() -> None:
    package_data = declared()["options.package_data"]
    for name in declared_packages():
        if "." not in name:
            assert "py.typed" in package_data[name].split()


def test_the_extras_that_the_project_promises_are_there() -> None:
    extras = set(declared()["options.extras_require"])
    assert {"server", "conversion", "demo", "ble", "formats", "bench", "test", "cli"} <= extras


def test_the_bare_install_carries_no_heavy_package() -> None:
    required = declared()["options"]["install_requires"].lower()
    for heavy in ("tensorflow", "scipy", "asyncpg", "kivy", "typer", "wfdb"):
        assert heavy not in required


def test_pyproject_holds_only_what_setup_cfg_cannot() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project) == {"build-system", "tool"}
    assert set(project["tool"]) == {"ruff", "pyright"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel built from a clean copy of the tree, so that no stale build folder helps."""
    copy = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(source.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(copy)], check=True, capture_output=True
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_every_package(wheel_names: set[str]) -> None:
    """Modules, and what they read: migrations, models, py.typed."""
    for container in CONTAINERS:
        base = ROOT / container
        for file in base.glob("*/**/*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert file.relative_to(base).as_posix() in wheel_names


def test_the_wheel_holds_the_model_and_its_papers(wheel_names: set[str]) -> None:
    for name in ("rhythm.tflite", "rhythm.json", "rhythm.json.sig", "rhythm.md", "rhythm.cdx.json", "verdict.json"):
        assert f"einthoven_models/{name}" in wheel_names


def test_the_wheel_holds_nothing_but_our_packages(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {name for name in declared_packages() if "." not in name}


def test_no_module_of_the_sdk_imports_what_the_bare_install_lacks() -> None:
    """An optional package is imported inside a function, so that `import einthoven` works on a phone."""
    script = (
        "import sys; banned = {'tensorflow', 'scipy', 'asyncpg', 'wfdb', 'edfio', 'typer', 'rich'};"
        "import einthoven; loaded = banned & {name.split('.')[0] for name in sys.modules};"
        "sys.exit(f'imported: {sorted(loaded)}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
