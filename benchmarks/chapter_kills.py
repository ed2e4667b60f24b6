"""Fifty kills of a chapter: Ctrl-C and SIGKILL of `panelhue colorize` at random moments, and what the same command
makes of it afterwards.

A chapter of the made-up series is colourised into a CBZ, once undisturbed with and once without --grow. Then again and
again from the beginning, each time into a series of its own: at a random moment between the first thing that the
command writes and its end, the command gets SIGINT or SIGKILL by turns; then the same command runs to its end. It must
end with the bytes of the undisturbed run (and, with --grow, with the same references in the pool), leave nothing
half-written, and repeat no page that it had finished.

Whether a page is repeated is judged by the colouriser's own log, which has one line for every page that it has
coloured. A page counts as repeated if it was recorded as finished before the kill and the server coloured it again
after, or if the server coloured it twice in one go. A page that was under way at the kill may be begun again; how many
the server had finished by then, without the command having recorded them, is counted beside.

Seeded: the same seed draws the same moments, as parts of the undisturbed run's time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, write_results
from benchmarks.servers import Pair, both
from examples.made_up_series import write_series
from panelhue import ColorizerClient, ReferenceFile, RetrievalClient
from panelhue.jobs import workspace_of
from panelhue.journal import read_record

CHAPTER = 2
STEP = 0.002  # seconds between two looks at what cannot be waited for
LONGEST = 300.0  # seconds that one run may take


@dataclass(frozen=True)
class Bench:
    """What all runs have in common."""

    servers: Pair
    log: Path  # of the colouriser, JSON lines
    book: Path
    truth: Path  # the pool's pictures
    out: Path
    backend: str

    def command(self, series: str, target: Path, grow: bool) -> list[str]:
        """The command of a run."""
        return [
            *(sys.executable, "-m", "panelhue", "colorize", str(self.book), "--series", series),
            *("--chapter", str(CHAPTER), "-o", str(target), "--backend", self.backend, "--no-sheet"),
            *("--retrieval", self.servers.retrieval.address, "--colorizer", self.servers.colorizer.address),
            *(("--grow",) if grow else ()),
        ]

    def pages_since(self, offset: int) -> list[str]:
        """Keys of the pages that the colouriser has coloured since its log had that length."""
        with self.log.open("rb") as file:
            file.seek(offset)
            lines = [json.loads(line) for line in file.read().splitlines() if line.startswith(b"{")]
        return [line["page"] for line in lines if line.get("event") == "page"]

    def calm(self) -> int:
        """Waits until the colouriser has nothing to do; the length of its log then."""
        with ColorizerClient(self.servers.colorizer.address) as client:
            until = time.monotonic() + LONGEST
            while client.info().queue_length:
                if time.monotonic() > until:
                    raise RuntimeError("the colouriser does not come to rest")
                time.sleep(STEP)
        return self.log.stat().st_size

    def fresh(self, series: str) -> None:
        """A series that holds the given colour and nothing else."""
        with RetrievalClient(self.servers.retrieval.address) as client:
            client.create_series(series)
            files = [ReferenceFile(path.name, path, chapter=1000) for path in sorted(self.truth.iterdir())]
            if any(answer.failure for answer in client.add_references(series, files)):
                raise RuntimeError("the made-up series has a page that the pool does not take")

    def pool(self, series: str) -> list[tuple[object, ...]]:
        """Everything that matters of the references of a series."""
        with RetrievalClient(self.servers.retrieval.address) as client:
            found = client.list_references(series)
            return sorted((one.id, one.chapter, one.page, one.tags, str(one.provenance)) for one in found)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed."""

    data: bytes
    pool: list[tuple[object, ...]]
    pages: int
    seconds: float  # from the first thing that it writes to its end


@dataclass
class Totals:
    """What all moments came to."""

    problems: list[str] = field(default_factory=list)
    identical: int = 0
    repeated_pages: int = 0
    lost_in_flight: int = 0  # pages that the server had finished, and the command had not recorded
    most_in_flight: int = 0
    ended_before: int = 0  # runs that were over before their signal came
    finished_at_kill: list[int] = field(default_factory=list)


def begun(bench: Bench, series: str, target: Path, grow: bool) -> subprocess.Popen[bytes]:
    """A run that has begun to write."""
    command = bench.command(series, target, grow)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    mark = workspace_of(target).state / "journal.jsonl"
    until = time.monotonic() + LONGEST
    while not mark.exists() and process.poll() is None:
        if time.monotonic() > until:
            raise RuntimeError("the command has not begun to write")
        time.sleep(STEP)
    return process


def undisturbed(bench: Bench, grow: bool) -> Undisturbed:
    """A run that nobody kills."""
    series, target = f"whole-{int(grow)}", bench.out / f"whole-{int(grow)}.cbz"
    bench.fresh(series)
    offset = bench.calm()
    process = begun(bench, series, target, grow)
    since = time.monotonic()
    ended(process, 0)
    return Undisturbed(
        target.read_bytes(), bench.pool(series), len(bench.pages_since(offset)), time.monotonic() - since
    )


def ended(process: subprocess.Popen[bytes], wanted: int) -> None:
    """Waits for the end of a run.

    Raises:
        RuntimeError: it has another exit code.
    """
    _, said = process.communicate(timeout=LONGEST)
    if process.returncode != wanted:
        raise RuntimeError(f"expected exit code {wanted}, got {process.returncode}: {said.decode()[-2000:]}")


def moment(bench: Bench, number: int, grow: bool, part: float, whole: Undisturbed, totals: Totals) -> None:
    """One kill at a part of the run's time, and the run that goes on after it."""
    series, target = f"killed-{number}", bench.out / f"killed-{number}.cbz"
    kind = signal.SIGKILL if number % 2 else signal.SIGINT
    bench.fresh(series)
    offset = bench.calm()
    process = begun(bench, series, target, grow)
    time.sleep(part * whole.seconds)
    process.send_signal(kind)
    _, said = process.communicate(timeout=LONGEST)
    # At the very end, when the interpreter leaves, SIGINT itself ends it: to a shell that is 130 as well.
    if process.returncode not in (0, *((130, -signal.SIGINT) if kind == signal.SIGINT else (-signal.SIGKILL,))):
        totals.problems.append(f"moment {number}: exit code {process.returncode}: {said.decode()[-500:]}")
    totals.ended_before += process.returncode == 0
    middle = bench.calm()
    recorded = list(read_record(workspace_of(target).state).done)
    if target.exists() and not _sound(target):
        totals.problems.append(f"moment {number}: the archive is half-written")
    first, again = bench.pages_since(offset), begun(bench, series, target, grow)
    ended(again, 0)
    bench.calm()
    _judge(bench, number, target, totals, recorded, first, bench.pages_since(middle))
    same = target.read_bytes() == whole.data and (not grow or bench.pool(series) == whole.pool)
    totals.identical += same
    totals.problems += [] if same else [f"moment {number}: the result differs from the undisturbed one"]


def _judge(
    bench: Bench, number: int, target: Path, totals: Totals, recorded: list[str], first: list[str], second: list[str]
) -> None:
    names = _names(bench.book)
    before, after = [names[int(key)] for key in first], [names[int(key)] for key in second]
    repeated = len(set(recorded) & set(after)) + sum(len(each) - len(set(each)) for each in (before, after))
    lost = len(set(before) - set(recorded))
    totals.repeated_pages += repeated
    totals.lost_in_flight += lost
    totals.most_in_flight = max(totals.most_in_flight, lost)
    totals.finished_at_kill.append(len(recorded))
    if repeated:
        totals.problems.append(f"moment {number}: {repeated} finished pages were coloured again")
    if missing := set(names) - set(recorded) - set(after):
        totals.problems.append(f"moment {number}: {len(missing)} pages came from nowhere")
    if drafts := [path.name for path in target.parent.rglob("*.draft")]:
        totals.problems.append(f"moment {number}: drafts are left: {drafts[:3]}")


def _names(book: Path) -> list[str]:
    return sorted(path.name for path in book.glob("*.png"))


def _sound(target: Path) -> bool:
    try:
        with zipfile.ZipFile(target) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def run(folder: Path, *, moments: int, pages: int, width: int, backend: str, seed: int) -> dict[str, Any]:
    """All moments, half of them with SIGINT and half with SIGKILL, half with --grow and half without."""
    # A shell's background jobs ignore Ctrl-C, and so would the commands. Not by preexec_fn, whose fork gRPC's threads
    # do not survive.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(seed)
    write_series(folder / "comic", 1, pages, width=width, height=round(1.4125 * width))
    totals, began = Totals(), time.monotonic()
    with both(folder, "--set", "log_format=json", workers=None) as servers:
        # Grey pages whose truth is in the pool: what comes out is colourful enough to be taken into it.
        comic = folder / "comic"
        bench = Bench(
            servers, folder / "colorizer-server.log", comic / "grey" / "ch01", comic / "truth" / "ch01",
            folder / "out", backend,
        )  # fmt: skip
        bench.out.mkdir()
        wholes = {grow: undisturbed(bench, grow) for grow in (False, True)}
        for number, part in enumerate(_parts(rng, moments)):
            grow = number % 4 >= 2
            moment(bench, number, grow, part, wholes[grow], totals)
            print(number, f"{part:.3f}", totals.finished_at_kill[-1], *totals.problems[-1:], flush=True)
    return {
        "moments": moments,
        "seed": seed,
        "pages": pages,
        "backend": backend,
        "page_pixels": [width, round(1.4125 * width)],
        "with_sigint": sum(number % 2 == 0 for number in range(moments)),
        "with_sigkill": sum(number % 2 == 1 for number in range(moments)),
        "with_grow": sum(number % 4 >= 2 for number in range(moments)),
        "undisturbed_s": {"without grow": wholes[False].seconds, "with grow": wholes[True].seconds},
        "pool_grew_by": len(wholes[True].pool) - len(wholes[False].pool),
        "identical": totals.identical,
        "finished_pages_coloured_again": totals.repeated_pages,
        "coloured_but_not_recorded_at_the_kill": totals.lost_in_flight,
        "most_of_these_in_one_kill": totals.most_in_flight,
        "over_before_the_signal": totals.ended_before,
        "pages_finished_at_the_kill": totals.finished_at_kill,
        "problems": len(totals.problems),
        "first_problems": totals.problems[:10],
        "seconds": time.monotonic() - began,
    }


def _parts(rng: random.Random, moments: int) -> Sequence[float]:
    return [rng.random() for _ in range(moments)]


def main() -> None:
    """The command; see --help. Exits with 1 if anything was lost, repeated or half-done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="how many; default 50")
    parser.add_argument("--pages", type=int, default=10, help="of the chapter; default 10")
    parser.add_argument("--width", type=int, default=320, help="of a page, pixels; default 320")
    parser.add_argument("--backend", default="exemplar", help="default exemplar")
    parser.add_argument("--seed", type=int, default=6, help="of the moments; default 6")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = {name: getattr(arguments, name) for name in ("moments", "pages", "width", "backend", "seed")}
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder), **given)
    print(results)
    print(write_results("chapter_kills", results, folder=arguments.out))
    raise SystemExit(1 if results["problems"] else 0)


if __name__ == "__main__":
    main()
