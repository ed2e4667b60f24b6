"""The palette of a series as a form, and what the form sends back."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from panelhue import types as t
from panelhue.errors import UsageError
from panelhue.palettes import MOST, checked, colour_of

LONGEST = 256  # bytes of a name, as the server takes them


def palette_html(palette: Sequence[t.Swatch], series: str) -> str:
    """A form of all colours, with an empty row at its end."""
    if not series:
        return ""
    rows = "".join(_row(one.name, f"#{one.rgb:06x}") for one in palette)
    return (
        f'<form class="ph-palette" data-series="{escape(series)}" data-count="{len(palette)}">'
        f'<ul>{rows}{_row("", "#cc3322")}</ul><div class="ph-buttons">'
        '<button type="button" class="ph-button" data-more>Add a row</button>'
        '<button type="submit" class="ph-button ph-main">Save the palette</button></div></form>'
    )


def _row(name: str, colour: str) -> str:
    said = f"of {escape(name)}" if name else "of a new entry"
    return (
        f'<li><input type="color" value="{colour}" aria-label="Colour {said}">'
        f'<input type="text" value="{escape(name)}" maxlength="120" placeholder="such as: Mira\'s hair"'
        f' aria-label="Name {said}"><button type="button" class="ph-link" data-less'
        f' aria-label="Remove the colour {said}">remove</button></li>'
    )


def swatches_of(colours: object) -> tuple[t.Swatch, ...]:
    """The palette that the form sent; rows without a name are left out.

    Raises:
        UsageError: it is no list of names and colours, a name is too long or there twice, or there are too many.
    """
    if not isinstance(colours, list) or len(colours) > MOST + 64:
        raise UsageError(f"a palette is a list of at most {MOST} colours")
    made = []
    for one in colours:
        name, rgb = (one.get("name"), one.get("rgb")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(rgb, str):
            raise UsageError("each colour has a name and a #rrggbb")
        if not (name := name.strip()):
            continue
        if len(name.encode()) > LONGEST:
            raise UsageError(f'a colour\'s name has at most {LONGEST} bytes, got "{name[:40]}…"')
        made.append(t.Swatch(name, colour_of(rgb)))
    return checked(made)
