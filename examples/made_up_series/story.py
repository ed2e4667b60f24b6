"""The script of the series: chapters, pages, panels and lines, in a shorthand that `page_script` reads.

A panel is "shot | figures | line | line"; a figure is "name:action:mood", or "light" for the runaway light; a line is
"name> words", "name! shout", "name~ thought", "= caption" or "* sound". A panel may start with its own "scene,weather"
before the shot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

SERIES = "Saltlight"
WRITER = "Panelhue's generator"


@dataclass(frozen=True)
class Line:
    """Words on a panel."""

    kind: str  # "say", "shout", "think", "caption" or "sound"
    words: str
    speaker: str = ""  # a character, for the first three kinds


@dataclass(frozen=True)
class Shot:
    """A panel as written, before anything is placed."""

    framing: str  # "wide", "full", "medium" or "close"
    scene: str
    weather: str
    figures: tuple[tuple[str, str, str], ...]  # name, action, mood
    lines: tuple[Line, ...]
    light: bool  # the runaway light is there, too


CHAPTERS: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...]], ...] = (
    (
        "The Lamp Goes Out",
        (
            ("street", "day", (
                "wide | wren:walk:happy pip:run:laugh | = Lowtide, a village at the edge of the map.",
                "medium | wren:wave:happy | wren> Good morning, Lowtide!",
                "medium | pip:point:shock wren:stand:calm | pip> Wren! Look at the lighthouse!",
                "seaside,day wide | wren:down:sad pip:stand:shock | wren> The lamp... | pip> It's gone out!",
            )),
            ("workshop", "lamp", (
                "full | oona:hips:calm tock:stand:sleepy | oona> Tock, wake up. We have visitors.",
                "close | tock:stand:shock | * CLANK! | tock> I was not asleep.",
                "medium | wren:reach:sad oona:think:calm | wren> Oona, who took the light? "
                "| oona> Nobody took it. It left.",
                "close | wren:stand:shock | wren! It LEFT?!",
                "wide | oona:point:calm wren:stand:calm pip:think:sly tock:stand:happy "
                "| oona> A light goes where it is missed the most. | pip> So we follow it!",
            )),
            ("seaside", "dusk", (
                "wide | mosk:stand:sly | = That evening, on the beach.",
                "medium | mosk:wave:sly wren:stand:shock | mosk> You smell of lamp oil. | wren> You can talk?",
                "close | mosk:stand:laugh | mosk> Only to people with good scarves.",
                "medium | mosk:point:happy pip:cheer:laugh | mosk> Your light ran to the wood. | pip! Then so do we!",
            )),
            ("forest", "day", (
                "full | fig:wave:happy wren:walk:happy | fig> Mind your boots! I live here.",
                "close | fig:hips:angry | fig! Left foot! LEFT!",
                "medium | wren:down:sad fig:stand:calm | wren> Sorry! We seek a light. | fig> Small? Bright? Rude?",
                "medium | pip:think:calm mosk:stand:sleepy | pip~ That does sound like it.",
                "wide | wren:run:laugh pip:run:laugh mosk:run:happy fig:run:happy | fig> Under the hill! Come along!",
            )),
        ),
    ),
    (
        "Under the Hill",
        (
            ("cave", "dark", (
                "wide | wren:walk:calm fig:walk:happy | = Under the hill it is never quite dark.",
                "medium | pip:stand:shock mosk:stand:sly | pip> Did that crystal blink? "
                "| mosk> Only the purple ones do.",
                "close | wren:think:calm | wren~ It hums like the old lamp.",
                "full | tock:walk:happy pip:cheer:laugh | tock> My knees echo. Lovely! | * CLUNK",
            )),
            ("cave", "dark", (
                "close | mosk:point:shock | mosk> Shh. There it is.",
                "wide | wren:reach:calm pip:stand:shock fig:stand:shock light | wren> Hello, little light.",
                "medium | wren:stand:happy tock:stand:calm light | wren> Why did you go? "
                "| tock> It is shy. I was, too.",
                "medium | fig:cheer:laugh mosk:hips:sly | fig> It likes you! | mosk> It likes the scarf.",
                "close | wren:stand:shock | * WHOOSH! | wren! Wait!",
            )),
            ("forest", "dusk", (
                "wide | pip:run:shock wren:run:angry | pip> It went up the chimney of the hill!",
                "medium | oona:wave:happy fig:stand:shock | oona> Tea, anyone? | fig> How did you get here?",
                "close | oona:stand:sly | oona> I took the stairs.",
                "medium | wren:think:sad oona:stand:calm | wren> I nearly had it. | oona> A light is not had, dear.",
                "full | mosk:stand:sleepy tock:down:calm | mosk> Supper first. Wisdom later.",
            )),
            ("rooftop", "rain", (
                "wide | tock:point:shock wren:stand:shock | = By midnight, over the town. "
                "| tock> Up there! By the chimney!",
                "close | pip:stand:laugh | pip> Good thing I dressed for it!",
                "medium | mosk:down:angry pip:stand:happy | mosk> I hate rain. | pip> There's room in my hood.",
                "medium | wren:reach:happy tock:stand:happy light | wren> Don't be afraid. "
                "| tock> I will hold the ladder.",
                "full | wren:cheer:laugh tock:cheer:laugh mosk:stand:shock light | * FWOOM! | wren! It came to me!",
            )),
        ),
    ),
    (
        "Rain on Tin",
        (
            ("workshop", "morning", (
                "wide | tock:down:sad oona:reach:calm wren:stand:sad | = The morning after. "
                "| oona> He has water in his gears.",
                "close | tock:stand:sad | tock> I held the ladder.",
                "medium | wren:stand:sad pip:think:calm | wren> You did. You were brave. | pip> And very squeaky.",
                "medium | fig:point:happy oona:hips:happy | fig> Moss oil fixes squeaks. | oona> Then lead the way.",
            )),
            ("forest", "morning", (
                "wide | fig:walk:happy pip:walk:happy wren:walk:calm | fig> Only the blue moss. Never the green.",
                "medium | pip:reach:happy fig:stand:shock | pip> This one? | fig! That is my uncle!",
                "close | pip:stand:shock | pip> Sorry, sir.",
                "full | mosk:wave:laugh wren:cheer:laugh | mosk> I sat in some. Does that help?",
            )),
            ("street", "rain", (
                "wide | wren:run:happy mosk:run:angry pip:run:laugh | * SPLASH | mosk> Rain again? Rain AGAIN?",
                "medium | oona:wave:calm pip:stand:happy | oona> You found it? | pip> Mosk found it. Sitting down.",
                "close | mosk:stand:sly | mosk> You are welcome.",
                "medium | wren:stand:happy oona:stand:happy | wren> Is the light all right? "
                "| oona> It is asleep in the teapot.",
            )),
            ("workshop", "day", (
                "cave,dark wide | fig:point:happy wren:walk:calm mosk:walk:sly | fig> The deep end! More moss! "
                "| mosk> More wet. Splendid.",
                "close | tock:stand:sleepy | = One drop. Two drops.",
                "medium | fig:stand:shock wren:down:sad | fig> Is he... | wren> Give him a moment.",
                "full | tock:cheer:laugh pip:cheer:laugh | * DING! | tock! I feel SEVENTY again!",
                "medium | oona:hips:laugh mosk:stand:happy | oona> Now then. To the lighthouse. | mosk> After lunch.",
            )),
        ),
    ),
    (
        "A Borrowed Star",
        (
            ("seaside", "night", (
                "wide | wren:walk:happy oona:walk:happy | = They carried the teapot down to the sea.",
                "medium | wren:stand:calm mosk:think:calm | wren> What if it leaves again? "
                "| mosk> Then we go for a walk again.",
                "close | fig:stand:happy | fig> I liked the walk.",
                "full | pip:point:laugh tock:stand:happy light | pip> Look, it's waking up! | * TING",
            )),
            ("street", "dusk", (
                "wide | pip:run:laugh mosk:run:laugh fig:run:happy | pip! Everybody come and see!",
                "medium | oona:stand:happy tock:wave:happy | tock> I have polished my rust. | oona> Very handsome.",
                "close | wren:think:calm | wren~ It should be all of us.",
                "medium | wren:wave:happy fig:cheer:laugh | wren> Together, on three! | fig> I can count to two!",
            )),
            ("rooftop", "day", (
                "wide | mosk:stand:sleepy pip:walk:happy | = Meanwhile, a very good roof.",
                "medium | mosk:stand:sly pip:think:calm | pip> Are you a cat? | mosk> Are you a duck?",
                "close | pip:stand:laugh | pip> Some days!",
                "full | wren:wave:angry mosk:stand:shock pip:stand:shock | wren! Down! Both of you! It's time!",
            )),
            ("seaside", "dusk", (
                "wide | wren:cheer:laugh pip:cheer:laugh tock:cheer:happy oona:wave:happy fig:cheer:laugh "
                "| = And the lamp came home. | * FWOOM!",
                "medium | wren:stand:happy oona:stand:happy light | oona> It looks content. "
                "| wren> It was only lonely.",
                "close | mosk:stand:happy | mosk> Who isn't?",
                "medium | tock:stand:happy pip:cheer:laugh | tock> Same time tomorrow? | pip! Same time tomorrow!",
            )),
        ),
    ),
)  # fmt: skip

PAGES = 4  # written for each chapter
NEXT_WEATHER: Mapping[str, str] = MappingProxyType(  # the cave's "dark" stays as it is
    {"day": "dusk", "dusk": "morning", "morning": "rain", "rain": "night", "night": "day", "lamp": "day"}
)


def chapter_title(chapter: int) -> str:
    """The title of a chapter, counted from 1; titles come round again with a number after the last one."""
    turn, index = divmod(chapter - 1, len(CHAPTERS))
    return CHAPTERS[index][0] + (f", part {turn + 1}" if turn else "")


def page_script(chapter: int, number: int) -> tuple[Shot, ...]:
    """The panels of a page.

    Pages past the written ones take up the scripts of the following chapters, and a script that comes round again
    comes under other weather.
    """
    later, page = divmod(number - 1, PAGES)
    repeats, index = divmod(chapter - 1 + later, len(CHAPTERS))
    scene, weather, panels = CHAPTERS[index][1][page]
    shots = tuple(_shot(text, scene, weather) for text in panels)
    for _ in range((repeats + (later > 0)) % (len(NEXT_WEATHER) + 1)):
        shots = tuple(replace(shot, weather=NEXT_WEATHER.get(shot.weather, shot.weather)) for shot in shots)
    return shots


def _shot(text: str, scene: str, weather: str) -> Shot:
    head, figures, *lines = (part.strip() for part in text.split("|"))
    if " " in head:
        place, head = head.split()
        scene, weather = place.split(",")
    cast = [figure.split(":") for figure in figures.split() if figure != "light"]
    placed = tuple((name, action, mood) for name, action, mood in cast)
    return Shot(head, scene, weather, placed, tuple(map(_line, lines)), "light" in figures.split())


def _line(text: str) -> Line:
    if text[0] in "=*":
        return Line("caption" if text[0] == "=" else "sound", text[1:].strip())
    speaker, words = text.split(" ", 1)
    return Line({">": "say", "!": "shout", "~": "think"}[speaker[-1]], words.strip(), speaker[:-1])
