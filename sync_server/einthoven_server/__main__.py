"""``python -m einthoven_server``: the command without its entry point."""

from __future__ import annotations

from einthoven_server.cli import main

if __name__ == "__main__":
    main()
