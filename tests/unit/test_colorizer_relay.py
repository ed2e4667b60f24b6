"""A page's task as the messages of a stream to another server."""

from __future__ import annotations

from colorizer.relay import options_of
from colorizer.tasks import Options, PageTask
from colorizer.types import Swatch


def test_another_server_is_told_each_name_of_a_palette_once():
    """A series that an earlier version made may have two colours of one name, which a server refuses in a request."""
    palette = (Swatch("hair", (1, 2, 3)), Swatch("sky", (4, 5, 6)), Swatch("hair", (7, 8, 9)))
    task = PageTask(backend="b", data=b"", hits=(), pictures={}, hints=(), palette=palette, seed=0, options=Options())
    assert [(one.name, one.rgb) for one in options_of(task).palette] == [("hair", 0x010203), ("sky", 0x040506)]
