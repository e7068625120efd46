"""`python -m einthoven_bench.fuzzing`: fuzz, print one JSON document, end with 1 where a 5xx came back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from einthoven.errors import EinthovenError
from einthoven_bench.errors import BenchError
from einthoven_bench.fuzzing.running import Fuzzed, FuzzOptions, fuzz
from einthoven_bench.machine import machine

DEFAULTS = FuzzOptions()


def as_document(found: Fuzzed) -> dict[str, object]:
    """What is printed."""
    rss = found.rss_mib
    return {
        "machine": machine(),
        "requests": found.tally.requests,
        "operations": len(found.tally.answers),
        "by_status": {str(status): n for status, n in sorted(found.tally.by_status.items())},
        "by_operation": found.tally.answers,
        "server_errors": found.tally.failures,
        "unanswered": found.tally.unanswered,
        "rss_mib": {"first": rss[0], "after_a_fifth": rss[len(rss) // 5], "last": rss[-1], "max": max(rss)},
        "log": list(found.errors),
    }


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=DEFAULTS.examples, help="cases of an operation and phase")
    parser.add_argument("--seconds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--phases", default=DEFAULTS.phases)
    parser.add_argument("--checks", default=DEFAULTS.checks)
    parser.add_argument("--only", default=None, help="regular expression of paths")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--verbose", action="store_true", help="what the tool said, too")
    given = vars(parser.parse_args())
    verbose = given.pop("verbose")
    try:
        found = fuzz(FuzzOptions(**given))
    except (BenchError, EinthovenError) as error:
        sys.stderr.write(f"fuzzing: {error}\n")
        return 2
    if verbose:
        sys.stderr.write(found.said)
    print(json.dumps(as_document(found)))
    return 1 if found.tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
