"""`panelhue colorize --dry-run`: what would be done. Nothing is written, nothing is sent to be coloured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from panelhue import jobs
from panelhue.chapters import chapter_text
from panelhue.cli.book_run import Redo, Request, card_of, ready, rejected_pages
from panelhue.cli.common import complain, escaped, out, print_json, table
from panelhue.cli.hints import page_named
from panelhue.colorizer_client import WINDOW
from panelhue.journal import FOLDER, Record, read_record
from panelhue.planning import Ready


@dataclass(frozen=True)
class ChapterOutlook:
    """What would be done to a chapter."""

    chapter: int | None  # thousandths
    pages: int
    kept: tuple[str, ...]
    to_do: tuple[str, ...]
    unreadable: dict[str, str]  # page to why
    references: int  # that may answer
    references_by_depth: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outlook:
    """What would be done to a book."""

    book: str
    output: str
    in_the_way: tuple[str, ...]  # files that no run of ours has written
    backend: str
    available: bool
    series: str
    chapters: tuple[ChapterOutlook, ...]
    pages: int
    kept: int
    to_do: int
    # From a page's last byte to its answer, WINDOW of them under way; median of those that this back-end finished here.
    seconds_a_page: float | None  # None: there are none
    estimated_seconds: float | None
    pages_in_queue: int  # of others, which come first


def outlook(request: Request) -> Outlook:
    """What a request comes to.

    Raises:
        PanelhueError: as the run itself would, but for outputs that are in the way.
    """
    with ready(request) as all_of_it:
        place, record = all_of_it.place, read_record(all_of_it.place.state)
        card = card_of(all_of_it.colorizer, all_of_it.options.backend)
        chapters = tuple(_chapters(all_of_it, record, request.redo))
        to_do = sum(len(one.to_do) for one in chapters)
        pace = _pace(request.target, card.name)
        return Outlook(
            book=str(request.book),
            output=str(request.target),
            in_the_way=() if request.overwrite else tuple(jobs.taken(place, record, all_of_it.names.values())),
            backend=card.name,
            available=card.available,
            series=request.series,
            chapters=chapters,
            pages=sum(one.pages for one in chapters),
            kept=sum(len(one.kept) for one in chapters),
            to_do=to_do,
            seconds_a_page=pace,
            estimated_seconds=None if pace is None else pace * (max(1.0, to_do / WINDOW) if to_do else 0.0),
            pages_in_queue=all_of_it.colorizer.info().queue_length,
        )


def _chapters(all_of_it: Ready, record: Record, redo: Redo) -> Iterator[ChapterOutlook]:
    again = _again(all_of_it, record, redo) if redo else None
    for plan in all_of_it.plans(again):
        kept, pending, failed = jobs.sorted_pages(plan, all_of_it.place, record)
        forced = [one.page for one in kept if again is not None]
        depths = _references(all_of_it, plan)
        yield ChapterOutlook(
            chapter=plan.chapter,
            pages=len(plan.pages),
            kept=tuple(one.page for one in kept if again is None),
            to_do=(*forced, *(page.name for page in pending)),
            unreadable={one.key: one.failure.message for one in failed},
            references=sum(depths.values()),
            references_by_depth=dict(sorted(depths.items())),
        )


def _again(all_of_it: Ready, record: Record, redo: Redo) -> frozenset[str]:
    names = {page_named(all_of_it.book, text).name for text in redo.pages}
    return frozenset(names | rejected_pages(all_of_it.book, record) if redo.rejected else names)


def _references(all_of_it: Ready, plan: jobs.Plan) -> Counter[int]:
    context = plan.client_context or plan.options.series
    if context is None:
        return Counter()
    found = all_of_it.retrieval.list_references(context.series, bound=context.bound)
    return Counter(one.provenance.depth for one in found)


def _pace(target: Path, backend: str) -> float | None:
    """Seconds a page, as the runs beside this one had it."""
    folders = [jobs.workspace_of(target).state, *target.parent.glob(f"{FOLDER}/*"), *target.parent.glob(f"*/{FOLDER}")]
    seconds = [
        one.seconds
        for folder in dict.fromkeys(folders[:32])
        for one in read_record(folder).done.values()
        if one.backend == backend and not one.already_colour
    ]
    return median(seconds) if seconds else None


def show_dry_run(request: Request, json: bool) -> None:
    """Prints what would be done."""
    found = outlook(request)
    if json:
        print_json(found)
        return
    rows = table("chapter", "pages#", "to do#", "finished#", "references that may answer")
    for one in found.chapters:
        depths = ", ".join(f"{count} at depth {depth}" for depth, count in one.references_by_depth.items())
        text = f"{one.references}" + (f" ({depths})" if depths else "")
        cells = (chapter_text(one.chapter), one.pages, len(one.to_do), len(one.kept), text)
        rows.add_row(*map(escaped, cells))
    out().print(rows)
    out().print(f"would be written: {escaped(found.output)}, by the back-end {escaped(found.backend)}", soft_wrap=True)
    out().print(_time(found), soft_wrap=True)
    for one in found.chapters:
        for page, why in one.unreadable.items():
            complain(f"{page}: {why}")
    if found.series and not any(one.references for one in found.chapters):
        complain(f"no reference of {found.series} may answer, so the pages would stay grey; see `panelhue ingest`")
    if found.in_the_way:
        complain(f"in the way: {', '.join(found.in_the_way[:3])}; say --overwrite, or another --output")
    if not found.available:
        complain(f"the back-end {found.backend} cannot be used; see `panelhue backends`")


def _time(found: Outlook) -> str:
    waiting = f"; {found.pages_in_queue} pages of others come first" if found.pages_in_queue else ""
    if not found.to_do:
        return f"nothing is left to do{waiting}"
    if found.estimated_seconds is None or found.seconds_a_page is None:
        return f"how long it takes is not known: {found.backend} has finished no page here yet; try --preview{waiting}"
    minutes, seconds = divmod(round(found.estimated_seconds), 60)
    pace = f"{found.to_do} pages of {found.seconds_a_page:.2f} s, {WINDOW} at a time, as pages took before"
    return f"about {minutes} min {seconds} s ({pace}){waiting}"
