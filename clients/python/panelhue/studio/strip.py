"""All pages of the chapter on a desk, small, with how far each is; and how far the whole is. As HTML."""

from __future__ import annotations

from html import escape

from panelhue.studio.desk import Desk, DeskPage, PageState, Verdict
from panelhue.studio.wall import empty
from panelhue.studio.words import counted

WORDS = {
    PageState.WAITING: "waiting",
    PageState.WORKING: "being coloured",
    PageState.FINISHED: "finished",
    PageState.FAILED: "failed",
}
SIGNS = {  # drawn, as no font is sure to have them
    "waiting": "M5 12h.1M12 12h.1M19 12h.1",
    "being coloured": "M12 4a8 8 0 1 1-8 8",
    "finished": "M12 8a4 4 0 1 0 .1 0z",
    "failed": "M12 4v10M12 19v.2",
    "approved": "M4 13l5 5L20 6",
    "rejected": "M6 6l12 12M18 6L6 18",
}


def page_url(desk: Desk, page: DeskPage, side: str) -> str:
    """Where a page's picture is; `side` is "grey", "colour", "grey-small" or "colour-small"."""
    return f"ph-studio/desk/{desk.token}/{page.place}/{side}?v={desk.laid}-{page.version}"


def strip_html(desk: Desk) -> str:
    """The pages in their order; the selected one is marked."""
    if not desk.pages:
        return empty("No chapter yet", "Drop a chapter above: pictures, or a book such as a CBZ.")
    items = "".join(_item(desk, page) for page in desk.pages)
    return f'<ol class="ph-strip" aria-label="Pages of the chapter">{items}</ol>'


def _item(desk: Desk, page: DeskPage) -> str:
    word = WORDS[page.state]
    if page.verdict is not Verdict.NONE and page.state is PageState.FINISHED:
        word = page.verdict.value
    current = ' aria-current="true"' if page.place == desk.selected else ""
    small = page_url(desk, page, "colour-small" if page.result is not None else "grey-small")
    label = f"Page {page.place + 1}, {page.label}: {word}"
    return (
        f'<li><button type="button" class="ph-{word.split()[0]}" data-pick="{page.place}"{current}'
        f' aria-label="{escape(label)}"><img loading="lazy" decoding="async" src="{small}" alt="">'
        f'<span aria-hidden="true">{page.place + 1} <svg viewBox="0 0 24 24" stroke-linecap="round">'
        f'<path d="{SIGNS[word]}"/></svg></span></button></li>'
    )


def progress_html(desk: Desk, seconds: float | None = None) -> str:
    """How far the chapter is.

    Args:
        desk: with the chapter.
        seconds: since the run began; None: none is under way.
    """
    pages = desk.pages
    if not pages:
        return ""
    finished = sum(page.state is PageState.FINISHED for page in pages)
    failed = sum(page.state is PageState.FAILED for page in pages)
    approved = sum(page.verdict is Verdict.APPROVED for page in pages)
    words = [f"{finished} of {counted(len(pages), 'page')} finished"]
    words += [f"{approved} approved"] if approved else []
    words += [f"{failed} failed"] if failed else []
    if seconds is not None:
        words += [_step(page) for page in pages if page.state is PageState.WORKING][:1]
        words.append(f"{seconds:.0f} s")
    parts = [page.step / page.steps for page in pages if page.state is PageState.WORKING and page.steps]
    bar = f'<progress max="{len(pages)}" value="{finished + failed + sum(parts):.2f}" aria-label="Progress"></progress>'
    return (
        f'<div class="ph-progress" data-running="{int(seconds is not None)}"><p><b>{escape(desk.title)}</b> '
        f'<span role="status">{escape(" · ".join(words))}</span></p>{bar}</div>'
    )


def _step(page: DeskPage) -> str:
    steps = f", step {page.step} of {page.steps}" if page.steps > 1 else ""
    return f"page {page.place + 1} is being coloured{steps}"
