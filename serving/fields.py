"""Collects what is wrong with a request, so that a caller hears of every field at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serving.errors import InvalidInput, Violation


class Fields:
    """The violations found so far. Call the checks, then `done`."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def require(self, condition: bool, field: str, description: str) -> bool:
        """Whether `condition` holds; if not, `field` is noted with `description` (expected and actual)."""
        if not condition:
            self._violations.append(Violation(field, description))
        return condition

    def text(self, value: str, field: str, *, max_bytes: int, required: bool = False) -> str:
        """`value`, at most `max_bytes` bytes of UTF-8, and not empty if `required`."""
        size = len(value.encode())
        if required and not size:
            self.require(False, field, "must be set")
        self.require(size <= max_bytes, field, f"must have at most {max_bytes} bytes, got {size}")
        return value

    def count(self, value: int, field: str, *, default: int, minimum: int, maximum: int) -> int:
        """`value`, or `default` where it is 0; from `minimum` to `maximum`."""
        if value == 0:
            return default
        self.require(minimum <= value <= maximum, field, f"must be {minimum} to {maximum}, got {value}")
        return value

    def matches(self, value: str, field: str, *, pattern: str, says: str) -> str:
        """`value`, which must match `pattern` as a whole; `says` describes the pattern to people."""
        shown = value if len(value) <= 80 else value[:77] + "…"
        self.require(re.fullmatch(pattern, value) is not None, field, f"must be {says}, got {shown!r}")
        return value

    def at_most(self, values: Sequence[object], field: str, maximum: int) -> None:
        """Notes `field` if it holds more than `maximum` entries."""
        self.require(len(values) <= maximum, field, f"must have at most {maximum} entries, got {len(values)}")

    def done(self) -> None:
        """Ends the checks.

        Raises:
            InvalidInput: with every violation, if there is one.
        """
        if self._violations:
            first = self._violations[0]
            more = f" (and {len(self._violations) - 1} more)" if len(self._violations) > 1 else ""
            raise InvalidInput(
                f"{first.field}: {first.description}{more}", reason="INVALID_REQUEST", violations=self._violations
            )
