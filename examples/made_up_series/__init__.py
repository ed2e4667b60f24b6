"""A made-up comic series, drawn by a program: recurring characters, known true colours, no one else's art.

`draw_page` gives one page in colour and in grey with points whose true colour is known; `draw_series` gives them all;
`write_series` writes them to a folder; `screentone` prints a page in dots. `CHARACTERS` holds the true colours.
"""

from examples.made_up_series.cast import CHARACTERS
from examples.made_up_series.files import write_series
from examples.made_up_series.page import Page, Probe, draw_page, draw_series
from examples.made_up_series.tones import screentone

__all__ = ["CHARACTERS", "Page", "Probe", "draw_page", "draw_series", "screentone", "write_series"]
