"""A back-end put to all the promises, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from colorizer.backend import BackendSpec
from colorizer.conformance.findings import Finding, Report, find
from colorizer.conformance.promises import CHECKS, Bench

_SIZE = (96, 72)  # width, height of an ordinary test page, pixels


def check_names() -> tuple[str, ...]:
    """Names of all checks, in the order in which they are made."""
    return tuple(CHECKS)


def check_backend(
    spec: BackendSpec,
    settings: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    leave_out: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Report:
    """Puts a back-end to all checks.

    A back-end that raises where it should not has broken the promise that was being checked; the others are checked
    all the same.

    Args:
        spec: card and loader.
        settings: what it is loaded with; {"device": "cpu"} when None.
        only: names of checks; None: all.
        leave_out: checks that make no sense for it, by name, with the reason.
        parameters: of every page, such as a smaller size for a heavy back-end.

    Cost: some thirty pages of 96 x 72 pixels, or of the card's smallest side where that is larger.
    """
    settings = settings or {"device": "cpu"}
    side = spec.card.min_side
    bench = Bench(spec.card, lambda: spec.load(settings), (max(_SIZE[0], side), max(_SIZE[1], side)), parameters or {})
    findings = []
    for name, (sentence, check) in CHECKS.items():
        if only is not None and name not in only:
            continue
        if leave_out and name in leave_out:
            findings.append(Finding(name, sentence, unchecked=leave_out[name]))
        else:
            findings.append(find(name, sentence, partial(check, bench)))
    for backend in bench.held.values():
        with suppress(Exception):  # close has its own check
            backend.close()
    return Report(spec.card.name, tuple(findings))
