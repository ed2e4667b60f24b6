"""What becomes of a check, and how it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


class Broken(Exception):
    """A promise that was not kept; the message states expected and actual."""


def expect(kept: bool, expected: str, actual: object) -> None:
    """Goes on where a promise is kept.

    Raises:
        Broken: it is not.
    """
    if not kept:
        raise Broken(f"expected {expected}, got {actual}")


@dataclass(frozen=True)
class Finding:
    """What became of one check."""

    check: str  # its name, such as "size_is_kept"
    promise: str  # the sentence that a back-end promises
    problem: str = ""  # expected and actual; "" where the promise was kept
    seconds: float = 0.0
    unchecked: str = ""  # why it was not checked; "" where it was


def find(name: str, sentence: str, check: Callable[[], None]) -> Finding:
    """What becomes of one check, whatever it raises."""
    began = time.perf_counter()
    problem = ""
    try:
        check()
    except Broken as broken:
        problem = str(broken)
    except Exception as error:
        problem = f"it must not raise here, and raised {type(error).__name__}: {error}"
    return Finding(name, sentence, problem, time.perf_counter() - began)


@dataclass(frozen=True)
class Report:
    """What became of all checks."""

    backend: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The promises that were not kept."""
        return tuple(finding for finding in self.findings if finding.problem)

    def text(self) -> str:
        """One line for each check, for people."""
        lines = [self.summary()]
        for finding in self.findings:
            mark = "BROKEN" if finding.problem else "-     " if finding.unchecked else "ok    "
            lines.append(f"  {mark} {finding.check}: {finding.promise}")
            if finding.problem:
                lines.append(f"         {finding.problem}")
            if finding.unchecked:
                lines.append(f"         not checked: {finding.unchecked}")
        return "\n".join(lines)

    def summary(self) -> str:
        """How many promises were kept, as a sentence."""
        unchecked = sum(bool(finding.unchecked) for finding in self.findings)
        checked = len(self.findings) - unchecked
        said = f"{self.backend}: {checked - len(self.broken)} of {checked} promises kept"
        return f"{said}, {unchecked} not checked" if unchecked else said
