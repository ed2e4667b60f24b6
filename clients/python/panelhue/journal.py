"""What a colourise run has done, kept beside its output so that a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any

from panelhue import types as t
from panelhue.errors import UsageError

FOLDER = ".panelhue"
NAME = "journal.jsonl"
LOCK = "lock"
BUSY = "OUTPUT_BUSY"  # reason of the error where another run or a review is at work
VERSION = 1
NOT_IN_FINGERPRINT = ("request_id", "page_timeout", "preview_every", "preview_side")  # they change no picture


@dataclass(frozen=True)
class UsedHit:
    """A reference patch that a page was given."""

    corner: str
    rank: int
    score: float
    reference_id: str
    box: tuple[int, int, int, int]
    chapter: int | None
    page: int | None
    depth: int
    used: bool | None


@dataclass(frozen=True)
class Done:
    """A finished page."""

    page: str  # path within the book
    number: int
    chapter: int | None
    input_sha256: str
    options: str  # the fingerprint
    output: str  # path within the folder of finished pages
    output_sha256: str
    backend: str
    backend_version: str
    seed: int
    depth: int
    already_colour: bool
    generation: int
    seconds: float  # from the page's last byte to the answer, as the server says
    confidence: float | None
    weights_licence: str
    hits: tuple[UsedHit, ...] = field(default=())
    notes: tuple[str, ...] = ()  # what was left out or guessed when the page was decoded
    wish: str = ""  # the key of the wish that it was made after; empty: of none

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the references that gave colour, the best first; all that were given if the back-end does not tell."""
        told = [hit for hit in self.hits if hit.used] or [hit for hit in self.hits if hit.used is None]
        return tuple(dict.fromkeys(hit.reference_id for hit in sorted(told, key=lambda hit: -hit.score)))[:256]


@dataclass(frozen=True)
class Wish:
    """What a person wants of one page, whatever the other pages are made with."""

    page: str
    hints: tuple[t.Hint, ...] = ()
    seed: int | None = None  # None: the run's
    turn: int = 1  # counts the wishes of the page, so that the same wish again is another one

    @property
    def key(self) -> str:
        """Names it; the page is done once it was made after the wish of this key."""
        facts = [self.turn, self.seed, [asdict(hint) for hint in self.hints]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """What a person said of a finished page."""

    page: str
    output_sha256: str  # of the picture that was judged; another one is not judged yet
    approved: bool


def hits_of(references: Iterable[t.Hit]) -> tuple[UsedHit, ...]:
    """What is kept of a result's hits."""
    return tuple(
        UsedHit(
            corner=hit.corner.name.lower(),
            rank=hit.rank,
            score=round(hit.score, 6),
            reference_id=hit.reference_id,
            box=(hit.box.x0, hit.box.y0, hit.box.x1, hit.box.y1),
            chapter=hit.chapter,
            page=hit.page,
            depth=hit.provenance.depth,
            used=hit.used,
        )
        for hit in references
    )


def fingerprint(options: t.ColorizeOptions) -> str:
    """A short text that changes with every option that may change a picture."""
    facts = {name: value for name, value in asdict(options).items() if name not in NOT_IN_FINGERPRINT}
    facts["parameters"] = dict(options.parameters)
    text = json.dumps(facts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} has no plain form")


class Record:
    """What a journal says."""

    def __init__(self) -> None:
        self.done: dict[str, Done] = {}  # by page
        self.promoted: dict[str, str] = {}  # series and page to reference id
        self.names: set[str] = set()  # outputs that a run of ours was to write
        self.packed: str | None = None  # SHA-256 of the CBZ or PDF that was made last, or was about to be
        self.archives: set[str] = set()  # of every one that was
        self.contents = ""  # digest of what it was made of
        self.split: bool | None = None  # None: double pages were kept; else split, and read from right to left or not
        self.wishes: dict[str, Wish] = {}  # by page
        self.verdicts: dict[str, Verdict] = {}  # by page
        self.about: dict[str, str] = {}  # what the last run was about: "series", "book"

    def verdict(self, done: Done) -> bool | None:
        """Whether a person approved a finished page or rejected it; None: this picture was not judged."""
        found = self.verdicts.get(done.page)
        return found.approved if found is not None and found.output_sha256 == done.output_sha256 else None

    def _take(self, entry: Mapping[str, Any]) -> None:
        kind = entry["event"]
        if kind == "finished":
            done = dict(entry["page"])
            done["hits"] = tuple(UsedHit(**{**hit, "box": tuple(hit["box"])}) for hit in done["hits"])
            done["notes"] = tuple(done.get("notes", ()))
            self.done[done["page"]] = Done(**done)
        elif kind == "promoted":
            self.promoted[entry["page"]] = entry["reference_id"]
        elif kind == "withdrawn":
            self.promoted.pop(entry["page"], None)
        elif kind == "run":
            self.names.update(entry["names"])
        elif kind == "packed":
            self.packed, self.contents = entry["sha256"], entry.get("contents", "")
            self.archives.add(entry["sha256"])
        elif kind == "split":
            self.split = entry["right_to_left"]
        elif kind == "wish":
            wish = dict(entry["wish"])
            hints = tuple(t.Hint(**hint) for hint in wish.pop("hints"))
            self.wishes[wish["page"]] = Wish(**wish, hints=hints)
        elif kind == "wish dropped":
            self.wishes.pop(entry["page"], None)
        elif kind == "verdict":
            self.verdicts[entry["verdict"]["page"]] = Verdict(**entry["verdict"])
        elif kind == "about":
            self.about = dict(entry["about"])

    def _take_lines(self, data: bytes) -> None:
        for line in data.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged line costs its own page, no more
                self._take(json.loads(line))


class Journal(Record):
    """Lines of JSON, each synced before it counts. A context manager that keeps other runs out.

    Args:
        folder: where it lies; made if need be.

    Raises:
        UsageError: OUTPUT_BUSY, another run or a review is at work here.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._made = [one for one in (folder, *folder.parents) if not one.exists()]
        self._lock = _locked(folder)
        self._file = (folder / NAME).open("a+b")
        self._load()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self._file.close()
        if kind is not None and self._made and not self._used():
            self._vanish()
        self._lock.close()

    def _used(self) -> bool:
        """Whether anything was done that a later run goes on with."""
        pages = self.folder.parent if self.folder.name == FOLDER else self.folder / "pages"
        said = self.done or self.wishes or self.verdicts or self.promoted or self.packed
        return bool(said) or any((pages / name).exists() for name in self.names)

    def _vanish(self) -> None:
        """Leaves nothing of a run that failed before its first page, such as one over a series that is not there."""
        with contextlib.suppress(OSError):  # somebody has put something there meanwhile
            (self.folder / NAME).unlink()
            (self.folder / LOCK).unlink()
            for one in self._made:
                one.rmdir()

    def _load(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.truncate(whole)  # a line that a kill cut short
        self._take_lines(data[:whole])

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"v": VERSION, **entry}, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(json.loads(json.dumps(entry)))

    def run(self, names: Iterable[str]) -> None:
        """Says which outputs this run may write."""
        self._write({"event": "run", "names": sorted(set(names))})

    def tell_about(self, about: Mapping[str, str]) -> None:
        """Says what the run is about, so that a review or a person can find its series and its book again."""
        if dict(about) != self.about:
            self._write({"event": "about", "about": dict(about)})

    def finish(self, done: Done) -> None:
        """Says that a page is written; call it once the page is synced."""
        page = asdict(done)
        if not done.wish:
            del page["wish"]
        self._write({"event": "finished", "page": page})

    def promote(self, page: str, reference_id: str) -> None:
        """Says that a page is in the pool."""
        self._write({"event": "promoted", "page": page, "reference_id": reference_id})

    def withdraw(self, page: str) -> None:
        """Says that a page is no longer in the pool."""
        self._write({"event": "withdrawn", "page": page})

    def pack(self, sha256: str, contents: str = "") -> None:
        """Says that the CBZ or PDF takes its place now, and what it was made of; call it just before it does."""
        self._write({"event": "packed", "sha256": sha256, "contents": contents})

    def read_as(self, split: bool | None) -> None:
        """Says how double pages are read, for whoever reads the book again."""
        if split != self.split:
            self._write({"event": "split", "right_to_left": split})

    def wish(self, page: str, hints: Iterable[t.Hint] = (), seed: int | None = None) -> None:
        """Says that a page shall be made again, with these hints and this seed; that stays until it is done."""
        before = self.wishes.get(page)
        wish = Wish(page, tuple(hints), seed, before.turn + 1 if before is not None else 1)
        self._write({"event": "wish", "wish": asdict(wish)})

    def drop_wish(self, page: str) -> None:
        """Says that a page shall be as the run makes it."""
        if page in self.wishes:
            self._write({"event": "wish dropped", "page": page})

    def judge(self, done: Done, *, approved: bool) -> None:
        """Says what a person said of a finished page."""
        verdict = Verdict(done.page, done.output_sha256, approved)
        self._write({"event": "verdict", "verdict": asdict(verdict)})


def _locked(folder: Path) -> IO[str]:
    """The folder's lock, held; the folder is made if need be.

    Raises:
        UsageError: OUTPUT_BUSY.
        OSError: such as on a file system without locks.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("w")
        except FileNotFoundError:
            if folder.is_dir():
                raise
            continue  # a run that failed has just removed what it had made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / LOCK)):
                return lock
        except BlockingIOError as error:
            lock.close()
            raise UsageError(_busy(folder), reason=BUSY) from error
        except FileNotFoundError:  # likewise
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def _busy(folder: Path) -> str:
    output = folder.parent if folder.name == FOLDER else folder.parent.parent / folder.name
    return f"another run, or a review, is at work on {output}"


def busy_with(folder: Path) -> str:
    """Who has a run's journal, a sentence; empty: nobody, just now."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), (folder / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _busy(folder)
    return ""


def read_run(folder: Path) -> tuple[dict[str, Done], bool | None]:
    """The finished pages of a run by name, in the order in which they were first finished, and how it was read.

    Returns:
        Pages, none where no run has been; and `Journal.split`.
    """
    if not (folder / NAME).is_file():
        return {}, None
    with Journal(folder) as journal:
        return dict(journal.done), journal.split


def read_record(folder: Path) -> Record:
    """What a run's journal says, without keeping other runs out and without writing; empty where no run has been."""
    record = Record()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        data = (folder / NAME).read_bytes()
        record._take_lines(data[: data.rfind(b"\n") + 1])
    return record
