"""The command: python -m examples.made_up_series --chapters 3 --pages 4 --out FOLDER."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.made_up_series.files import write_series


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a series as the arguments say; returns the exit status, 2 for an argument that is out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.made_up_series", description="Draw a made-up comic series."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write truth/ and grey/ into")
    parser.add_argument("--chapters", type=int, default=3, help="how many chapters (default: 3)")
    parser.add_argument("--pages", type=int, default=4, help="pages in each chapter (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="changes places, layouts and poses (default: 0)")
    parser.add_argument("--width", type=int, default=800, help="width of a page in pixels (default: 800)")
    parser.add_argument("--height", type=int, help="height of a page in pixels (default: 1.4125 times the width)")
    parser.add_argument("--cbz", action="store_true", help="also write grey chapters from the second on as .cbz")
    chosen = parser.parse_args(arguments)
    height = chosen.height if chosen.height is not None else round(chosen.width * 1.4125)
    try:
        write_series(
            chosen.out,
            chosen.chapters,
            chosen.pages,
            seed=chosen.seed,
            width=chosen.width,
            height=height,
            cbz=chosen.cbz,
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"{chosen.chapters * chosen.pages} pages in {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
