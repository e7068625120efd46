"""Where a key service is: parsed from ``--key-service URL``, and from then on the only place that is spoken to. Pure.

It deliberately resolves no name and takes no part of an address from an answer.

Invariants:
    1. A host is the provider's own by its whole name, or on this machine; what goes on behind it
       (``amazonaws.com.attacker.com``) is neither. Vault is self-hosted: its host is what the operator says.
    2. No user, password, fragment or unknown option; no plain HTTP but to this machine, and only if asked for.
    3. A name of a key holds nothing that could leave its place in a path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from einthoven_server.errors import KeyUnavailable

AWS: Final = "aws-kms"
GCP: Final = "gcp-kms"
AZURE: Final = "azure-key-vault"
VAULT: Final = "vault-transit"

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOSTS: Final = {
    AWS: re.compile(
        r"kms(-fips)?\.[a-z0-9-]{4,32}\.amazonaws\.com(\.cn)?|[a-z0-9-]+\.kms\.[a-z0-9-]{4,32}\.vpce\.amazonaws\.com"
    ),
    GCP: re.compile(r"cloudkms\.googleapis\.com"),
    AZURE: re.compile(r"[a-z0-9-]{1,64}\.(vault\.azure\.(net|cn)|vault\.usgovcloudapi\.net|managedhsm\.azure\.net)"),
    VAULT: re.compile(r"[a-z0-9.-]{1,253}|[0-9a-f:]{2,39}"),
}
_PATHS: Final = {
    AWS: re.compile(r"/(?P<key>[A-Za-z0-9:/_-]{1,512})"),
    GCP: re.compile(
        r"/(?P<key>projects/[a-z0-9:.-]{1,64}/locations/[a-z0-9-]{1,64}/keyRings/[A-Za-z0-9_-]{1,63}"
        r"/cryptoKeys/[A-Za-z0-9_-]{1,63})"
    ),
    AZURE: re.compile(r"/(?P<key>[A-Za-z0-9-]{1,127})"),
    VAULT: re.compile(r"/(?P<mount>[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,4})/(?P<key>[A-Za-z0-9_-]{1,128})"),
}
_OPTIONS: Final = {
    AWS: {"ca_file", "insecure_loopback", "region"},
    GCP: {"ca_file", "insecure_loopback", "login"},
    AZURE: {"ca_file", "insecure_loopback", "login", "alg"},
    VAULT: {"ca_file", "insecure_loopback"},
}
_LOGINS: Final = {
    GCP: ("https://oauth2.googleapis.com", re.compile(r"oauth2\.googleapis\.com")),
    AZURE: (
        "https://login.microsoftonline.com",
        re.compile(r"login\.microsoftonline\.(com|us)|login\.partner\.microsoftonline\.cn"),
    ),
}
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}")


class Endpoint(NamedTuple):
    """A key of a key service.

    Attributes:
        kind: Which of the services.
        origin: Scheme, host and port; no path.
        key: Name of the key.
        mount: Vault's mount.
        region: AWS's region.
        login: Origin of where its tokens come from, ``""`` where there are none.
        algorithm: Azure's algorithm.
        ca_file: PEM of the authorities to trust; the machine's where ``None``.
    """

    kind: str
    origin: str
    key: str
    mount: str = ""
    region: str = ""
    login: str = ""
    algorithm: str = "RSA-OAEP-256"
    ca_file: Path | None = None


def parse_endpoint(url: str) -> Endpoint:
    """Read ``KIND://HOST[:PORT]/KEY?option=value``.

    Raises:
        KeyUnavailable: It is not what a key service's URL may be.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError as error:
        raise _refused("is no URL") from error
    kind, host = parts.scheme, parts.hostname or ""
    if kind not in _HOSTS:
        raise _refused(f"begins with none of {', '.join(f'{known}://' for known in _HOSTS)}")
    if not url.isascii() or not url.isprintable() or parts.username is not None or parts.fragment:
        raise _refused("holds a user, a fragment, or what is no address")
    if set(options) - _OPTIONS[kind]:
        raise _refused("has an option that is not known")
    if host not in _LOOPBACK and not _HOSTS[kind].fullmatch(host):
        raise _refused(f"names a host that is not of {kind}")
    path = _PATHS[kind].fullmatch(parts.path)
    if path is None:
        raise _refused("names no key")
    named = path.groupdict()
    ca_file = options.get("ca_file")
    return Endpoint(
        kind=kind,
        origin=_origin(host, port, plain=_plain(options, host)),
        key=named["key"],
        mount=named.get("mount") or "",
        region=_region(options, host) if kind == AWS else "",
        login=_login(kind, options),
        algorithm=_algorithm(options),
        ca_file=None if ca_file is None else Path(ca_file),
    )


def _plain(options: dict[str, str], host: str) -> bool:
    plain = options.get("insecure_loopback", "0")
    if plain not in {"0", "1"} or (plain == "1" and host not in _LOOPBACK):
        raise _refused("asks for plain HTTP to another machine")
    return plain == "1"


def _origin(host: str, port: int | None, *, plain: bool) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"{'http' if plain else 'https'}://{bracketed}" + ("" if port is None else f":{port}")


def _region(options: dict[str, str], host: str) -> str:
    labels = host.split(".")
    found = options.get("region") or next((label for label in labels if _REGION.fullmatch(label)), "")
    if not _REGION.fullmatch(found):
        raise _refused("names no region")
    return found


def _login(kind: str, options: dict[str, str]) -> str:
    if kind not in _LOGINS:
        return ""
    usual, allowed = _LOGINS[kind]
    parts: SplitResult = urlsplit(options.get("login", usual))
    host = parts.hostname or ""
    plain = parts.scheme == "http" and host in _LOOPBACK and options.get("insecure_loopback") == "1"
    if (parts.scheme != "https" and not plain) or parts.username is not None or parts.path or parts.query:
        raise _refused("names a login that is no https address")
    if host not in _LOOPBACK and not allowed.fullmatch(host):
        raise _refused(f"names a login that is not of {kind}")
    return _origin(host, parts.port, plain=plain)


def _algorithm(options: dict[str, str]) -> str:
    algorithm = options.get("alg", "RSA-OAEP-256")
    if algorithm not in {"RSA-OAEP-256", "A256KW"}:
        raise _refused("names an algorithm that is not known")
    return algorithm


def _refused(what: str) -> KeyUnavailable:
    # Not its words: an operator may have put a secret there.
    return KeyUnavailable(f"--key-service {what}", "see docs/key-services.md")
