"""Runs sslyze, a tool outside the product, against a server of its own, and judges what it found.

It deliberately imports nothing of sslyze (AGPL): it is a command with a JSON file. A finding is what a scanner would
call more than low: another protocol than TLS 1.3, another suite than AES-256-GCM, a known weakness, a handshake that
a check could not finish is said, not passed over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.sync_site import running_site

SUITE: Final = "TLS_AES_256_GCM_SHA384"
PROTOCOLS: Final = (
    "ssl_2_0_cipher_suites",
    "ssl_3_0_cipher_suites",
    "tls_1_0_cipher_suites",
    "tls_1_1_cipher_suites",
    "tls_1_2_cipher_suites",
    "tls_1_3_cipher_suites",
)
WEAKNESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "heartbleed": ("is_vulnerable_to_heartbleed",),
    "openssl_ccs_injection": ("is_vulnerable_to_ccs_injection",),
    "tls_compression": ("supports_compression",),
    "tls_1_3_early_data": ("supports_early_data",),
    "session_renegotiation": ("is_vulnerable_to_client_renegotiation_dos",),
}
"""Checks, and the members that are true where there is a weakness."""
CHECKS: Final = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--heartbleed", "--openssl_ccs", "--compression", "--early_data", "--reneg", "--robot", "--certinfo"),
)
_TIMEOUT_S: Final = 300


def findings(scanned: Mapping[str, Any]) -> list[str]:
    """What is more than low in sslyze's document, and which checks were not done; none of all is an empty list.

    Args:
        scanned: What ``--json_out`` wrote, decoded.
    """
    found: list[str] = []
    for server in scanned["server_scan_results"]:
        result = server["scan_result"]
        if result is None:
            found.append(f"not scanned: {server['scan_status']}")
            continue
        for name in PROTOCOLS:
            found += _of_protocol(name, result[name])
        for name, members in WEAKNESSES.items():
            answer = _result(result[name])
            if answer is None:
                found.append(f"{name}: not checked")
            found += [f"{name}: {member}" for member in members if answer is not None and answer[member]]
        robot = _result(result["robot"])
        if robot is not None and robot["robot_result"].startswith("VULNERABLE"):
            found.append(f"robot: {robot['robot_result']}")
    return found or ([] if scanned["server_scan_results"] else ["nothing was scanned"])


def _of_protocol(name: str, attempt: Mapping[str, Any]) -> list[str]:
    answer = _result(attempt)
    if answer is None:
        return [f"{name}: not checked"]
    accepted = [one["cipher_suite"]["name"] for one in answer["accepted_cipher_suites"]]
    if name == "tls_1_3_cipher_suites":
        return [] if accepted == [SUITE] else [f"{name}: accepts {accepted}"]
    return [f"{name}: accepts {accepted}"] if accepted else []


def _result(attempt: Mapping[str, Any]) -> Mapping[str, Any] | None:
    result = attempt["result"]
    return result if isinstance(result, dict) else None


def scan(sslyze: str) -> Mapping[str, Any]:
    """Scan a server that was started for it; sslyze's document.

    Raises:
        MeasurementFailed: The tool did not run.
        DemoError: The server does not start.
    """
    with tempfile.TemporaryDirectory() as made, running_site(Path(made)) as site:
        (ca_file,) = Path(made).glob("*/server/data/ca.pem")
        out = Path(made) / "scan.json"
        target = site.url.removeprefix("https://")
        arguments = [sslyze, "--json_out", str(out), "--quiet", "--mozilla_config", "disable", *CHECKS]
        ended = subprocess.run(  # noqa: S603  # a tool that whoever runs this named
            [*arguments, "--certinfo_ca_file", str(ca_file), target],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if not out.exists():
            raise MeasurementFailed(f"sslyze ended with {ended.returncode}", ended.stderr[-500:] or "see its help", 1)
        found: Mapping[str, Any] = json.loads(out.read_bytes())
        return found


def main() -> int:
    """Print what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sslyze", default="sslyze", help="the command")
    parser.add_argument("--json", type=Path, default=None, help="keep sslyze's own document there")
    given = parser.parse_args()
    scanned = scan(given.sslyze)
    if given.json is not None:
        given.json.write_text(json.dumps(scanned, indent=1), encoding="utf-8")
    found = findings(scanned)
    print(json.dumps({"sslyze": scanned["sslyze_version"], "findings": found}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
