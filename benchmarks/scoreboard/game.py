"""One board played: every row over every page, begun where a run before it was stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.scoreboard.chapters import Board, Chapter, Target
from benchmarks.scoreboard.figures import Page, page_figures, truth_figures
from benchmarks.scoreboard.journal import Journal, code_sha256, picture_sha256, sum_of
from benchmarks.scoreboard.play import Painted, Player, png
from benchmarks.scoreboard.rows import GREY, TRUTH, Row
from benchmarks.scoreboard.towers import file_sha256


@dataclass
class Score:
    """One page under one row."""

    made: str  # the sum of all that it depends on
    picture: Path | None  # None: the black-and-white page or the truth, which are made again
    entry: Mapping[str, Any]

    @property
    def pixels_sha256(self) -> str:
        """Names the picture itself, for what is worked out of its pixels alone."""
        return str(self.entry.get("picture", self.made))


@dataclass
class Scores:
    """All pages of a board that are measured."""

    truth: dict[Page, Score] = field(default_factory=dict)
    rows: dict[tuple[str, str], dict[Page, Score]] = field(default_factory=dict)  # by look and row
    failed: dict[str, str] = field(default_factory=dict)  # "look/row/chapter/page" to the reason


class Game:
    """Plays one board.

    Args:
        board: what is played on.
        looks: of the black-and-white pages.
        rows: what plays, GREY first.
        player: both servers.
        methods: version and weights of every back-end in `rows`, as text.
        journal: figures of before; added to.
        folder: for coloured pages, below pages/.
        scoring: works figures out meanwhile.
        console: for what is going on.
    """

    def __init__(
        self,
        board: Board,
        looks: Sequence[str],
        rows: Sequence[Row],
        player: Player,
        methods: Mapping[str, str],
        journal: Journal,
        folder: Path,
        scoring: Executor,
        console: Console,
    ) -> None:
        self._board, self._looks, self._rows, self._player = board, looks, rows, player
        self._methods, self._journal, self._folder = methods, journal, folder
        self._scoring, self._console = scoring, console

    def play(self) -> Scores:
        """Every row over every page; what a run before has measured is not done again."""
        scores = Scores()
        for chapter in self._board.chapters:
            for target in chapter.targets:
                made = self._truth_sum(target)
                if self._journal.get(made) is None:
                    self._journal.put(made, truth_figures(target.truth))
                scores.truth[chapter.name, target.name] = Score(made, None, self._journal.get(made) or {})
            for look in self._looks:
                for row in self._rows:
                    self._play(chapter, look, row, scores)
        return scores

    def _play(self, chapter: Chapter, look: str, row: Row, scores: Scores) -> None:
        made = self._sums(chapter, look, row)
        missing = [t for t in chapter.targets if not self._is_done(chapter, look, row, t, made[t.name])]
        if missing:
            self._console.print(f"{self._board.name} {chapter.name}, {look}, {row.said}: {len(missing)} pages")
        failed = self._measure(chapter, look, row, missing, made) if missing else {}
        for name, reason in failed.items():
            scores.failed[f"{look}/{row.name}/{chapter.name}/{name}"] = reason
            self._console.print(f"[yellow]{name} failed: {reason}")
        table = scores.rows.setdefault((look, row.name), {})
        for target in chapter.targets:
            entry = self._journal.get(made[target.name])
            if entry is not None and target.name not in failed:
                file = None if row.method == GREY else self._file(chapter, look, row, target)
                table[chapter.name, target.name] = Score(made[target.name], file, entry)

    def _measure(
        self, chapter: Chapter, look: str, row: Row, missing: Sequence[Target], made: Mapping[str, str]
    ) -> dict[str, str]:
        """Colours pages, keeps them and their figures; gives the reasons of those that failed, by name."""
        failed: dict[str, str] = {}
        waiting: list[tuple[Painted, Future[dict[str, Any]]]] = []
        for painted in self._painted(chapter, look, row, missing):
            if painted.failure:
                failed[painted.target.name] = painted.failure
                continue
            if row.method != GREY:
                _write(self._file(chapter, look, row, painted.target), painted.picture)
            figures = self._scoring.submit(page_figures, painted.target.truth, painted.picture)
            waiting.append((painted, figures))
            while waiting[0][1].done() and len(waiting) > 1:
                self._put(made, chapter, row, *waiting.pop(0))
        for one in waiting:
            self._put(made, chapter, row, *one)
        return failed

    def _painted(self, chapter: Chapter, look: str, row: Row, missing: Sequence[Target]) -> Iterator[Painted]:
        if row.method == GREY:
            for target in missing:
                yield Painted(target, png(np.repeat(target.grey_pixels(look)[..., None], 3, axis=2)))
        elif row.growth:
            # A page depends on all before it: what follows the first missing one is coloured again.
            first = chapter.targets.index(missing[0])
            done = [self._done(chapter, look, row, t) for t in chapter.targets[:first]]
            yield from self._player.grow(self._board.name, chapter, look, row, done, chapter.targets[first:])
        else:
            yield from self._player.paint(self._board.name, chapter, look, row, missing)

    def _done(self, chapter: Chapter, look: str, row: Row, target: Target) -> Painted:
        entry = self._journal.get(self._sums(chapter, look, row)[target.name]) or {}
        picture = self._file(chapter, look, row, target).read_bytes()
        return Painted(target, picture, int(entry["depth"]), tuple(entry["parents"]))

    def _put(
        self, made: Mapping[str, str], chapter: Chapter, row: Row, painted: Painted, figures: Future[dict[str, Any]]
    ) -> None:
        entry = {"page": f"{self._board.name}/{chapter.name}/{painted.target.name} {row.name}"} | figures.result()
        if row.method != GREY:
            entry["picture"] = hashlib.sha256(painted.picture).hexdigest()
        if row.growth:
            entry |= {"depth": painted.depth, "parents": list(painted.parents)}
        self._journal.put(made[painted.target.name], entry, anew=True)

    def _is_done(self, chapter: Chapter, look: str, row: Row, target: Target, made: str) -> bool:
        entry = self._journal.get(made)
        if entry is None or row.method == GREY:
            return entry is not None
        file = self._file(chapter, look, row, target)
        return file.is_file() and file_sha256(file) == entry.get("picture")

    def _file(self, chapter: Chapter, look: str, row: Row, target: Target) -> Path:
        return self._folder / "pages" / self._board.name / look / row.name / chapter.name / f"{target.name}.png"

    def _truth_sum(self, target: Target) -> str:
        return sum_of(code_sha256(), TRUTH, picture_sha256(target.truth))

    def _sums(self, chapter: Chapter, look: str, row: Row) -> dict[str, str]:
        """What each page of the chapter depends on under a row, by the page's name."""
        base = [code_sha256(), row.name, self._methods.get(row.method, ""), look]
        if row.retrieval:
            base += [self._player.space_id, *(picture_sha256(p) for p in chapter.references)]
        sums, before = {}, list[str]()
        for target in chapter.targets:
            given = target.given.get(look)
            own = f"{target.seed} {picture_sha256(given) if given else 'made'} {picture_sha256(target.truth)}"
            sums[target.name] = sum_of(*base, *before, own)
            if row.growth:
                before.append(own)
        return sums


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(file)
