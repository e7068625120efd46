"""TLS 1.3 with AES-256-GCM and nothing else.

It deliberately offers no fall-back: where OpenSSL can't be held to the one suite, the context is not made.

``ssl.SSLContext.set_ciphers`` does not reach TLS 1.3, and ``set_ciphersuites`` came with Python 3.15. Before, the one
call that is missing, ``SSL_CTX_set_ciphersuites``, is made on the context's own pointer: the first member of CPython's
``PySSLContext`` since 3.2. What it did is read back through ``get_ciphers`` and checked, so that a layout or library
other than expected is an error and not a weaker suite.

Invariants:
    1. A context made here negotiates TLS 1.3 with ``TLS_AES_256_GCM_SHA384``, or fails the handshake.
"""

from __future__ import annotations

import _ssl
import ctypes
import platform
import ssl
from pathlib import Path
from typing import Final

from einthoven_server.errors import StartError

SUITE: Final = "TLS_AES_256_GCM_SHA384"


def restrict_suites(context: ssl.SSLContext, suites: str = SUITE) -> None:
    """Offer and accept only ``suites`` (colon-separated) in TLS 1.3.

    Raises:
        StartError: This Python can't be held to them.
    """
    set_ciphersuites = getattr(context, "set_ciphersuites", None)
    if set_ciphersuites is not None:
        set_ciphersuites(suites)
    elif platform.python_implementation() == "CPython":
        _set_through_openssl(context, suites)
    offered = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.3"}
    if offered != set(suites.split(":")):
        raise StartError("this Python can't be held to AES-256-GCM in TLS 1.3", "use CPython with its ssl module")


def _set_through_openssl(context: ssl.SSLContext, suites: str) -> None:
    try:
        # Through the extension module, so that it is the OpenSSL this context lives in and no other of the process.
        set_ciphersuites = ctypes.CDLL(_ssl.__file__).SSL_CTX_set_ciphersuites
    except (AttributeError, OSError):
        return  # linked so that the symbol is hidden; the caller's check says so
    set_ciphersuites.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    set_ciphersuites.restype = ctypes.c_int
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    set_ciphersuites(pointer, suites.encode("ascii"))


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for listening.

    Raises:
        StartError: Certificate and key do not belong together, or the suite can't be had.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    restrict_suites(context)
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise StartError(
            f"can't use {certificate.name} with {key.name}", "remove both; they are issued again at the next start"
        ) from error
    return context


def client_context(ca_pem: str) -> ssl.SSLContext:
    """A context for connecting to a server of this authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    restrict_suites(context)
    context.load_verify_locations(cadata=ca_pem)
    return context


def outbound_context(ca_pem: str | None = None) -> ssl.SSLContext:
    """A context for connecting to services of others: TLS 1.3, or 1.2 with forward secrecy, AES-256-GCM in both.

    Args:
        ca_pem: The authorities to trust; the machine's where ``None``.
    """
    context = ssl.create_default_context(cadata=ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")
    restrict_suites(context)
    return context
