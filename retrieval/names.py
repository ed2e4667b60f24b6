"""Names that become names of folders."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from serving.errors import InvalidInput

NAME = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,63}")


def check_name(name: str, what: str) -> str:
    """The name, if it is one that a series may have.

    Raises:
        InvalidInput: INVALID_NAME.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{what} must be 1 to 64 of a-z, 0-9, '_', '.' and '-', a letter or digit first, got {name[:80]!r}",
            reason="INVALID_NAME",
        )
    return name


def name_of_time(now_ns: int) -> str:
    """A name made of a time, such as 20250131t235959.123456z; names of later times sort behind it."""
    return datetime.fromtimestamp(now_ns // 1000 / 1e6, UTC).strftime("%Y%m%dt%H%M%S.%fz")
