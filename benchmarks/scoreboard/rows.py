"""The rows of the board: what colours the pages, with or without retrieval, with or without growth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRUTH, GREY, TRANSFER = "truth", "grey", "colour_transfer"


@dataclass(frozen=True)
class Row:
    """One way of colouring."""

    method: str  # TRUTH, GREY, TRANSFER or a back-end's name
    retrieval: bool = False  # the page's context comes from the chapter's references
    growth: bool = False  # each finished page joins the references as generated before the next one is coloured

    @property
    def name(self) -> str:
        """As it stands in the results."""
        if self.method in (TRUTH, GREY, TRANSFER):
            return self.method
        return f"{self.method}+growth" if self.growth else self.method if self.retrieval else f"{self.method}-alone"

    @property
    def said(self) -> str:
        """For people."""
        plain = {
            TRUTH: "the true page",
            GREY: "the black-and-white page as it is",
            TRANSFER: "colour transfer from the best hit",
        }
        if self.method in plain:
            return plain[self.method]
        return f"{self.method}, " + (
            "retrieval and growth" if self.growth else "retrieval" if self.retrieval else "no references"
        )


def board_rows(backends: Iterable[str], *, growth: bool = True) -> tuple[Row, ...]:
    """All rows of a board in the order of its table, without the truth's."""
    rows = [Row(GREY), Row(TRANSFER, retrieval=True)]
    for name in backends:
        rows += [Row(name), Row(name, retrieval=True)]
        if growth:
            rows.append(Row(name, retrieval=True, growth=True))
    return tuple(rows)
