"""``python -m einthoven_bench``."""

from einthoven_bench.cli import main

main()
