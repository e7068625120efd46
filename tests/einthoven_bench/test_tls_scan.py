"""What counts as a finding of the TLS scanner."""

from __future__ import annotations

from typing import Any

import pytest

from einthoven_bench.tls_scan import PROTOCOLS, SUITE, WEAKNESSES, findings


def accepted(*names: str) -> dict[str, Any]:
    return {"result": {"accepted_cipher_suites": [{"cipher_suite": {"name": name}} for name in names]}}


def scanned(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: accepted() for name in PROTOCOLS}
    found["tls_1_3_cipher_suites"] = accepted(SUITE)
    found |= {name: {"result": dict.fromkeys(members, False)} for name, members in WEAKNESSES.items()}
    found["robot"] = {"result": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}}
    return {"server_scan_results": [{"scan_status": "COMPLETED", "scan_result": found | changed}]}


def test_a_server_of_one_suite_has_no_finding() -> None:
    assert findings(scanned()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tls_1_2_cipher_suites": accepted("TLS_RSA_WITH_RC4_128_MD5")}, "tls_1_2"),
        ({"tls_1_3_cipher_suites": accepted(SUITE, "TLS_AES_128_GCM_SHA256")}, "AES_128"),
        ({"tls_1_3_cipher_suites": accepted()}, "tls_1_3"),
        ({"heartbleed": {"result": {"is_vulnerable_to_heartbleed": True}}}, "heartbleed"),
        ({"heartbleed": {"result": None}}, "heartbleed: not checked"),
        ({"ssl_3_0_cipher_suites": {"result": None}}, "ssl_3_0_cipher_suites: not checked"),
        ({"robot": {"result": {"robot_result": "VULNERABLE_STRONG_ORACLE"}}}, "robot"),
    ],
)
def test_what_is_weak_or_was_not_looked_at_is_a_finding(changed: dict[str, Any], said: str) -> None:
    (found,) = findings(scanned(**changed))
    assert said in found


def test_a_scan_of_nothing_is_one() -> None:
    assert findings({"server_scan_results": []}) == ["nothing was scanned"]
    assert findings({"server_scan_results": [{"scan_status": "ERROR", "scan_result": None}]}) == ["not scanned: ERROR"]
