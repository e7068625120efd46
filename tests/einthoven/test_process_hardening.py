"""Core dumps: a child that aborts leaves one if it may, and none once it is protected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from einthoven.process_hardening import CORE_LIMIT_BYTES, protect_process

resource = pytest.importorskip("resource", reason="no core limits on this platform")

LINUX = sys.platform.startswith("linux")
RAISED = (
    "import os, resource; "
    "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2); "
)
PROTECTED = "from einthoven.process_hardening import protect_process; print(protect_process(), flush=True); "
HIDDEN = PROTECTED.replace("protect_process()", "protect_process(hide_from_debuggers=True)")


def aborted(code: str, folder: Path) -> tuple[int, str]:
    """Wait status and output of a child that ends by SIGABRT, in an empty folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", code + "os.abort()"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    said = child.stdout.read().decode()
    _, status = os.waitpid(child.pid, 0)
    child.returncode = status
    child.stdout.close()
    assert os.WTERMSIG(status) == signal.SIGABRT
    return status, said


def dumps_here(folder: Path) -> bool:
    """Whether an unprotected child dumps core on this machine: where it does not, there is nothing to prove."""
    return os.WCOREDUMP(aborted(RAISED, folder)[0])


@pytest.mark.skipif(not LINUX, reason="core dumps of other systems lie elsewhere")
def test_a_protected_child_dumps_no_core(tmp_path: Path) -> None:
    if not dumps_here(tmp_path):
        pytest.skip("this machine dumps no core of any process")

    folder = tmp_path / "protected"
    folder.mkdir()
    status, said = aborted(RAISED + PROTECTED, folder)

    assert said.strip() == "True"
    assert not os.WCOREDUMP(status)
    assert not list(folder.iterdir())


@pytest.mark.skipif(not LINUX, reason="PR_SET_DUMPABLE is Linux's")
def test_a_hidden_child_dumps_no_core_and_says_so(tmp_path: Path) -> None:
    dumpable = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True); "

    status, said = aborted(RAISED + dumpable + HIDDEN + dumpable, tmp_path)

    assert said.split() == ["1", "True", "0"]
    assert not os.WCOREDUMP(status)


def in_child(code: str) -> str:
    """What a child prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_only_the_soft_limit_is_lowered_and_never_raised() -> None:
    shown = "print(*resource.getrlimit(resource.RLIMIT_CORE))"
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]

    lowered = in_child(f"{RAISED}from einthoven.process_hardening import protect_process; protect_process(); {shown}")
    at_zero = in_child(
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])); "
        f"from einthoven.process_hardening import protect_process; protect_process(); {shown}"
    )

    assert lowered == f"{min(CORE_LIMIT_BYTES, hard) if hard >= 0 else CORE_LIMIT_BYTES} {hard}"
    assert at_zero == f"0 {hard}"


def test_a_platform_without_limits_is_told_of() -> None:
    code = "import sys; sys.modules['resource'] = None; sys.modules['ctypes'] = None; "
    tried = "from einthoven.process_hardening import protect_process as p; print(p(), p(hide_from_debuggers=True))"
    assert in_child(code + tried) == "False False"
    assert in_child(f"import sys; sys.platform = 'win32'; {tried}") == "True False"


def test_it_may_be_called_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        assert protect_process()
        assert protect_process()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.skipif(not LINUX, reason="core dumps of other systems lie elsewhere")
def test_opening_a_store_ends_core_dumps_unless_told_not_to(tmp_path: Path) -> None:
    if not dumps_here(tmp_path):
        pytest.skip("this machine dumps no core of any process")
    opening = (
        "from einthoven.keys import StaticKeyProvider; from einthoven.store_sqlcipher import SqlCipherStore; "
        "store = SqlCipherStore.open('x.db', StaticKeyProvider(bytes(range(32))), core_dumps={dumps}); "
    )
    dumped = {}
    for dumps in (False, True):
        folder = tmp_path / str(dumps)
        folder.mkdir()
        status, _ = aborted(RAISED + opening.format(dumps=dumps), folder)
        dumped[dumps] = os.WCOREDUMP(status)

    assert dumped == {False: False, True: True}
