"""The promises of a back-end, and what becomes of one that is put to them.

    report = check_backend(SPEC)
    assert not report.broken, report.text()

The pictures are made up here, small and seeded; a back-end without weights is through in seconds. `promises` says what
is demanded, `check` and `findings` how it is run and told.
"""

from colorizer.conformance.check import check_backend, check_names
from colorizer.conformance.findings import Broken, Finding, Report, expect, find
from colorizer.conformance.pictures import coloured, drawing, drawn_context

__all__ = [
    "Broken",
    "Finding",
    "Report",
    "check_backend",
    "check_names",
    "coloured",
    "drawing",
    "drawn_context",
    "expect",
    "find",
]
