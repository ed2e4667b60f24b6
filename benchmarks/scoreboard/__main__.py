"""Runs the command: python -m benchmarks.scoreboard --help."""

from __future__ import annotations

import signal
import sys

from benchmarks.scoreboard.command import main

if __name__ == "__main__":
    # Told to end, it still stops the servers that it has started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main())
