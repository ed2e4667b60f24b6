"""Becomes a command that ends when the process that started it does: `python -I -S launch.py PARENT COMMAND …`.

It runs as a program of its own and imports nothing of Panelhue: code between fork and exec in a process with threads,
as gRPC's are, may hang, and the wish to die with the parent outlives exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

NOT_FOUND = 127  # exit status where the command cannot be run, as shells have it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> int:
    """Replaces this process by the command; returns only where that fails."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        return 0  # it died before the line above
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, as the server was told
    except OSError as error:
        print(f"cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
    return NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
