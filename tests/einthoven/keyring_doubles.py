"""Real backends of the package ``keyring`` that keep their entries in this process."""

from __future__ import annotations

from keyring.backend import KeyringBackend
from keyring.backends import chainer
from keyring.compat import properties
from keyring.errors import PasswordDeleteError


class ProcessKeyring(KeyringBackend):
    """Keeps entries in a dictionary, and refuses to delete what is not there, as the platforms' own do."""

    priority = 5  # type: ignore[assignment]  # a property of the class in keyring, a plain number in its backends

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.failing: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if (service, username) not in self.entries:
            raise PasswordDeleteError("not found")
        del self.entries[service, username]

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


class UnloadedKeyring(ProcessKeyring):
    """One that finds out late that its service is not there, as Secret Service does."""

    @properties.classproperty
    def priority(self) -> float:
        raise RuntimeError("no session bus")


class NotRecommendedKeyring(ProcessKeyring):
    """One whose makers say that it is not to be used."""

    priority = 0.5  # type: ignore[assignment]


class Chain(chainer.ChainerBackend):
    """keyring's chain over given backends."""

    backends: list[KeyringBackend] = []  # type: ignore[assignment]  # noqa: RUF012 - set for each chain

    def __init__(self, *backends: KeyringBackend) -> None:
        super().__init__()
        type(self).backends = list(backends)
