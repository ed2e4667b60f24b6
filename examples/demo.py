"""From grey chapters to colour chapters: two servers, a pool that grows, and the error against the truth.

    python -m examples.demo

Draws a made-up series, adds the true colours of chapter 1 to a pool, and colourises the later chapters one after the
other with `panelhue colorize --grow`, so that each chapter can learn from the one before. Nothing is downloaded, and
torch is not imported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from examples.colour_error import mean_ciede2000, psnr
from examples.made_up_series import write_series
from panelhue.chapters import chapter_text

SERIES = "made-up"
START_SECONDS = 120.0


@dataclass(frozen=True)
class PageError:
    """How far one page is from the truth."""

    chapter: int
    grey_ciede: float  # mean CIEDE2000 of the grey page
    ciede: float  # of the result
    gain: float  # PSNR of the result over that of the grey page, dB
    seconds: float


def panelhue(*arguments: str | Path, environment: Mapping[str, str]) -> str:
    """What a `panelhue` command prints; its progress goes to our own standard error."""
    command = [sys.executable, "-m", "panelhue", *map(str, arguments)]
    return subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Both servers on free ports; gives the environment in which commands find them."""
    ready, log = folder / "servers.json", folder / "servers.log"
    ready.unlink(missing_ok=True)
    ports = ("--retrieval-listen", "127.0.0.1:0", "--colorizer-listen", "127.0.0.1:0")
    places = ("--data", str(folder / "data"), "--ready-file", str(ready))
    command = [sys.executable, "-m", "panelhue", "up", *places, *ports]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        try:
            until = time.monotonic() + START_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the servers did not start; see {log}:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            found = json.loads(ready.read_text())
            yield {**os.environ, "PANELHUE_RETRIEVAL": found["retrieval"], "PANELHUE_COLORIZER": found["colorizer"]}
        finally:
            process.send_signal(signal.SIGINT)


def pixels(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as sRGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def measured(series: Path, colour: Path, chapter: int, results: Sequence[Mapping[str, object]]) -> Iterator[PageError]:
    """The errors of a chapter's pages."""
    for result in results:
        name = f"ch{chapter:02d}/{result['output']}"
        truth, grey, made = (pixels(folder / name) for folder in (series / "truth", series / "grey", colour))
        yield PageError(
            chapter=chapter,
            grey_ciede=mean_ciede2000(grey, truth),
            ciede=mean_ciede2000(made, truth),
            gain=psnr(made, truth) - psnr(grey, truth),
            seconds=float(str(result["seconds"])),
        )


def run(out: Path, chapters: int, pages: int, width: int) -> list[PageError]:
    """The whole demo; gives the errors of all pages."""
    for name in ("series", "colour", "data"):  # of an earlier demo
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    print(f"drawing {chapters} chapters of {pages} pages …", flush=True)
    write_series(out / "series", chapters, pages, width=width, height=round(width * 1.4125))
    errors: list[PageError] = []
    with servers(out) as environment:
        truth = out / "series" / "truth" / "ch01"
        print(panelhue("ingest", truth, "--series", SERIES, "--create", environment=environment), flush=True)
        for chapter in range(2, chapters + 1):
            grey, colour = out / "series" / "grey" / f"ch{chapter:02d}", out / "colour" / f"ch{chapter:02d}"
            where = ("--series", SERIES, "--chapter", str(chapter), "-o", colour)
            report = json.loads(panelhue("colorize", grey, *where, "--grow", "--json", environment=environment))
            errors += measured(out / "series", out / "colour", chapter, report["results"])
            print(f"chapter {chapter}: {report['finished']} pages, contact sheet {report['sheets'][0]}", flush=True)
        print(panelhue("series", "show", SERIES, environment=environment), flush=True)
    return errors


def summary(errors: Sequence[PageError]) -> Iterator[str]:
    """The figures, a line per chapter and one for all."""
    yield "chapter   pages   s/page   CIEDE2000 grey → result   PSNR gain"
    groups = {
        chapter_text(1000 * chapter): [e for e in errors if e.chapter == chapter]
        for chapter in {e.chapter for e in errors}
    }
    for name, group in [*sorted(groups.items()), ("all", list(errors))]:
        seconds, grey, made, gain = (
            np.mean([getattr(error, field) for error in group]) for field in ("seconds", "grey_ciede", "ciede", "gain")
        )
        yield f"{name:>7}   {len(group):5}   {seconds:6.2f}   {grey:14.2f} → {made:6.2f}   {gain:+6.2f} dB"


def main() -> None:
    """Parses the arguments, runs the demo, prints the figures."""
    parser = argparse.ArgumentParser(description="Draws a made-up series and colourises it through both servers.")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="what an earlier demo left there goes (default: %(default)s)"
    )
    parser.add_argument(
        "--chapters", type=int, default=4, help="the first one is given in colour (default: %(default)s)"
    )
    parser.add_argument("--pages", type=int, default=4, help="in each chapter (default: %(default)s)")
    parser.add_argument("--width", type=int, default=640, help="of a page, pixels (default: %(default)s)")
    arguments = parser.parse_args()
    start = time.monotonic()
    errors = run(arguments.out, max(2, arguments.chapters), arguments.pages, arguments.width)
    print("\n".join(summary(errors)))
    print(f"\nresult: {arguments.out / 'colour'} (look at contact-sheet.html in each chapter)")
    print(f"in all {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
