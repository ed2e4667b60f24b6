"""The command: python -m benchmarks.scoreboard --comics DIR | --bench DIR …; docs/SCOREBOARD.md explains it."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comics import read_comic
from benchmarks.degrade import DEGRADATIONS
from benchmarks.report import RESULTS, write_results
from benchmarks.scoreboard.bench import PAGES, REFERENCES, read_bench, write_bench
from benchmarks.scoreboard.chapters import Board, from_comic
from benchmarks.scoreboard.game import Game
from benchmarks.scoreboard.journal import ROOT, Journal
from benchmarks.scoreboard.late import Late, Networks, Weights, load
from benchmarks.scoreboard.page import Shown, write_page
from benchmarks.scoreboard.play import Player, running
from benchmarks.scoreboard.rows import board_rows
from benchmarks.scoreboard.standings import measure_late, results
from benchmarks.scoreboard.tables import show
from panelhue.types import Backend

BACKENDS = ("exemplar", "incontext")
COLORFLOW = "colorflow"
PLAIN_WIDTH = 160  # columns of the table where no terminal says how many it has
NO_COLORFLOW = "its weights were not given (--colorflow-models, --accept-colorflow-licence)"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser("python -m benchmarks.scoreboard", description=__doc__)
    made.add_argument("--comics", type=Path, action="append", default=[], help="a comic, one sub-folder per chapter")
    made.add_argument("--bench", type=Path, action="append", default=[], help="a folder in ColorFlow-Bench's layout")
    made.add_argument("--chapters", nargs="+", help="names of the chapters to play; default: all")
    made.add_argument("--pages", type=int, help="the first so many targets of each chapter; default: all")
    made.add_argument("--references", type=int, help="the first so many references of each chapter; default: all")
    made.add_argument("--inputs", nargs="+", default=["grey", "screentone"], help="looks: grey, screentone, line …")
    made.add_argument("--backends", default=",".join(BACKENDS), help="names, with commas; default %(default)s")
    made.add_argument("--growth", action=argparse.BooleanOptionalAction, default=True, help="rows with growth")
    made.add_argument("--embedder", default="", help="of the pools; default: the server's")
    made.add_argument("--colorflow-models", type=Path, help="folder of the published weights; adds rows of colorflow")
    made.add_argument("--accept-colorflow-licence", action="store_true", help="they are for non-commercial use")
    made.add_argument("--clip", type=Path, help="CLIP image tower for CLIP-IS: .onnx, or weights for open_clip")
    made.add_argument("--clip-model", default=Weights.clip_model, help="open_clip's name of it; default %(default)s")
    made.add_argument("--inception", type=Path, help="FID's Inception: .onnx or TorchScript")
    made.add_argument("--aesthetic-clip", type=Path, help="CLIP ViT-L/14 for the aesthetic score")
    made.add_argument("--aesthetic-clip-model", default=Weights.aesthetic_clip_model, help="default %(default)s")
    made.add_argument("--aesthetic-head", type=Path, help="LAION's linear head on it")
    made.add_argument("--workers", type=int, default=2, help="worker processes of the colouriser; default 2")
    made.add_argument("--shown", type=int, default=3, help="best and worst pages per row in the report; default 3")
    made.add_argument("--out", type=Path, default=ROOT / "build" / "scoreboard", help="journal, pages and the report")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of scoreboard.json")
    made.add_argument("--write-bench", type=Path, help="write the comics in ColorFlow-Bench's layout here and stop")
    return made


def read_boards(args: argparse.Namespace) -> list[Board]:
    """What the arguments name, cut to what is played.

    Raises:
        ValueError: a folder holds nothing of the kind, a name is there twice, or a look is unknown.
    """
    boards = [from_comic(read_comic(folder.resolve())) for folder in args.comics]
    boards += [read_bench(folder.resolve()) for folder in args.bench]
    if not boards:
        raise ValueError("name a comic (--comics DIR) or a bench (--bench DIR)")
    names = [board.name for board in boards]
    if len(set(names)) < len(names):
        raise ValueError(f"boards must have different names, got {', '.join(names)}")
    for board in boards:
        if unknown := [look for look in args.inputs if look not in board.looks | DEGRADATIONS.keys()]:
            known = ", ".join(sorted(board.looks | DEGRADATIONS.keys()))
            raise ValueError(f"{board.name}: expected inputs among {known}, got {', '.join(unknown)}")
    return [board.cut(chapters=args.chapters, pages=args.pages, references=args.references) for board in boards]


def present(
    wanted: Sequence[str], cards: Mapping[str, Backend], *, colorflow: bool
) -> tuple[list[str], dict[str, str]]:
    """Which of the back-ends can play, and why the others can't.

    Args:
        wanted: names; `colorflow` plays or is left out even if it is not among them.
        cards: of the server's back-ends.
        colorflow: whether its weights were given.
    """
    names = list(dict.fromkeys([*wanted, COLORFLOW]))
    left_out = {}
    for name in names:
        if name == COLORFLOW and not colorflow:
            left_out[name] = NO_COLORFLOW
        elif name not in cards:
            left_out[name] = f"no such back-end is installed; there are {', '.join(cards)}"
        elif not cards[name].available:
            left_out[name] = cards[name].unavailable_reason
    return [name for name in names if name not in left_out], left_out


def play(args: argparse.Namespace, boards: Sequence[Board], networks: Networks, console: Console) -> dict[str, Any]:
    """All figures; pages that a run before has measured are not coloured again."""
    journal = Journal(args.out / "journal.jsonl")
    weights = args.colorflow_models if args.accept_colorflow_licence else None
    said: dict[str, Any] = {"metrics": networks.said(), "boards": {}}
    shown: list[Shown] = []
    late = Late(networks, journal, args.out / "features")
    spawn = multiprocessing.get_context("spawn")  # a fork would copy gRPC's threads
    with (
        tempfile.TemporaryDirectory() as data,
        running(Path(data), workers=args.workers, colorflow=weights) as servers,
        Player(servers, args.embedder) as player,
        ProcessPoolExecutor(1, mp_context=spawn) as scoring,
    ):
        cards = player.backends()
        names, said["left_out_rows"] = present(args.backends.split(","), cards, colorflow=weights is not None)
        rows = board_rows(names, growth=args.growth)
        said["rows"] = {row.name: row.said for row in rows}
        methods = {name: f"{cards[name].version} {dict(cards[name].weights_sha256)}" for name in names}
        said["servers"] = {
            "embedder": player.embedder,
            "embedding_space": player.space_id,
            "backends": {
                n: {"version": cards[n].version, "weights_sha256": dict(cards[n].weights_sha256)} for n in names
            },
        }
        for board in boards:
            game = Game(board, args.inputs, rows, player, methods, journal, args.out, scoring, console)
            scores = game.play()
            measure_late(board, scores, late, networks)
            said["boards"][board.name] = results(board, scores, args.inputs, rows, late, networks)
            shown.append(Shown(board, scores))
        said["rejected_references"] = player.rejected
    console.print(f"report: {write_page(args.out / 'scoreboard.html', said, shown, rows, count=args.shown)}")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the boards that the arguments name; returns the exit status, 2 for arguments that make no sense."""
    command = parser()
    args = command.parse_args(arguments)
    console = Console(stderr=True)
    try:
        boards = read_boards(args)
        if args.write_bench:
            for board in boards:
                licence, names = _licences(args.comics, board)
                folder = args.write_bench if len(boards) == 1 else args.write_bench / board.name
                limits = {"pages": args.pages or PAGES, "references": args.references or REFERENCES}
                print(write_bench(board, folder, args.inputs, **limits, licence=licence, attribution=names))
            return 0
    except (ValueError, FileExistsError) as error:
        command.error(str(error))
    networks = load(
        Weights(
            args.clip,
            args.clip_model,
            args.inception,
            args.aesthetic_clip,
            args.aesthetic_clip_model,
            args.aesthetic_head,
        )
    )
    said = play(args, boards, networks, console)
    console = Console()
    show(console if console.is_terminal else Console(width=PLAIN_WIDTH), said)
    print(write_results("scoreboard", said, folder=args.results))
    return 0


def _licences(comics: Sequence[Path], board: Board) -> tuple[str, list[str]]:
    """Licences and names of a comic's pictures, from a manifest.json in or above its folder."""
    for folder in comics:
        for base in (folder, folder.parent):
            if folder.name == board.name and (base / "manifest.json").is_file():
                entries = json.loads((base / "manifest.json").read_text(encoding="utf-8"))
                own = [e for e in entries if board.name in Path(str(e["file"])).parts]
                pairs = {(str(e.get("licence", "")), str(e.get("attribution", ""))) for e in own}
                return "; ".join(sorted({p[0] for p in pairs})), sorted({p[1] for p in pairs})
    return "", []
