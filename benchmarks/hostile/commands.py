"""Runs `panelhue` commands, each in a process of its own that is forked from one which has imported everything.

It is the same command as in a shell but for its imports, which would take most of the time of a thousand runs. Orders
come as lines of JSON on standard input, and answers go as lines of JSON to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any


def main() -> None:
    """Answers orders until there are none."""
    import grpc  # noqa: F401 - now, so that no command has to
    import natsort  # noqa: F401
    import PIL.Image  # noqa: F401
    import rich.progress  # noqa: F401

    import panelhue.cli.colorize
    import panelhue.cli.ingest
    import panelhue.jobs
    import panelhue.retrieval_client
    import panelhue.sheet_png  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(order)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, order["patience"])
    _, status, used = os.wait4(pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "bytes": used.ru_maxrss * 1024,
    }


def _become(order: dict[str, Any]) -> None:
    """Turns the fork into the command; never returns."""
    code = 1
    try:
        for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.argv = ["panelhue", *(os.fsdecode(one) for one in order["arguments"])]
        os.environ.update(order["environment"])
        os.chdir(order["here"])
        code = _exit_code()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code() -> int:
    import traceback

    from panelhue.cli import app

    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
