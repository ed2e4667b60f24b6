"""A training run in a folder: its configuration, its curve, its checkpoints, and how it stops and goes on.

    OUT/
      config.json            what was asked; a run is only resumed with the same
      curve.jsonl            one JSON object per logged step
      checkpoints/           the last two: N.pt, and N.json beside it with step, seconds and sha256, written last
      before-1/ …            what was there when --fresh was said

A checkpoint counts only with its JSON, so a kill between any two writes leaves the one before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch

from serving.errors import Cancelled, Conflict, FailedState, InvalidInput
from training.options import Options, Report

CONFIG, CURVE, CHECKPOINTS = "config.json", "curve.jsonl", "checkpoints"
KEPT = 2  # checkpoints; the older one is for when the newer turns out damaged
SAVE_MINUTES = 5.0  # between checkpoints
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

State = Mapping[str, Any]  # tensors, numbers, texts, and lists and dicts of them: what torch loads without pickles


class Run:
    """One run, as a context manager that holds its folder.

        with Run(options, config, steps=1000) as run:
            if (state := run.load()) is not None:
                model.load_state_dict(state["model"])
            for step in run.loop(lambda: {"model": model.state_dict()}):
                loss = …                                # drawn from run.rng(step) and run.generator(step) alone
                run.log(loss=float(loss))

    Args:
        options: folder, minutes, steps, and whether to resume.
        config: all that changes the result, as JSON: the recipe's name, seed, sizes, rates, `stories.digest`.
        steps: of the recipe, where `options` states neither steps nor minutes; None: there has to be one of them.
        clock: seconds, for tests.

    Raises:
        FailedState: CONFIG_DIFFERS (the message names every key), or NOTHING_TO_RESUME.
        Conflict: RUN_IN_USE: another process trains in this folder.
        InvalidInput: neither steps nor minutes are stated, or one of them is not above 0.
    """

    def __init__(
        self,
        options: Options,
        config: Mapping[str, Any],
        *,
        steps: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = options.out
        self._options, self._clock = options, clock
        self._steps = options.steps if options.steps is not None or options.minutes is not None else steps
        self._budget = None if options.minutes is None else float(options.minutes) * 60
        _check_limits(self._steps, self._budget)
        self.step, self.seconds = 0, 0.0  # done so far, over all resumes; seconds of training
        self._since = self._saved_at = clock()
        self._asked: int | None = None  # the signal that asked to stop
        self._before: dict[int, Any] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self._settle(json.loads(json.dumps(dict(config))))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Run:
        for number in _SIGNALS:
            with contextlib.suppress(ValueError):  # signals belong to the main thread; elsewhere there are none to take
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._lock.close()

    def rng(self, step: int, stream: int = 0) -> np.random.Generator:
        """Random numbers of one step, the same whether or not the run was resumed before it.

        Args:
            step: from `loop`.
            stream: for a second, independent source in one step.
        """
        return np.random.default_rng([self._options.seed, step, stream])

    def generator(self, step: int, stream: int = 0) -> torch.Generator:
        """As `rng`, for torch, on the CPU."""
        return torch.Generator().manual_seed(int(self.rng(step, 1000 + stream).integers(2**62)))

    def load(self) -> dict[str, Any] | None:
        """The newest sound checkpoint's state, on the CPU; None where the run begins.

        Sets `step` and `seconds`, and cuts the curve back to that step. A damaged checkpoint is passed over for the one
        before it.

        Raises:
            FailedState: NO_SOUND_CHECKPOINT: there are some, and all are damaged.
        """
        found = _notes(self.folder / CHECKPOINTS)
        for step, note in found:
            state = _read(self.folder / CHECKPOINTS / f"{step}.pt", note["sha256"])
            if state is not None:
                self.step, self.seconds = step, float(note["seconds"])
                self._since = self._saved_at = self._clock()
                _cut(self.folder / CURVE, step)
                return state
        if found:
            message = f"all {len(found)} checkpoints in {self.folder / CHECKPOINTS} are damaged; --fresh begins anew"
            raise FailedState(message, reason="NO_SOUND_CHECKPOINT")
        _cut(self.folder / CURVE, 0)
        return None

    def loop(self, state: Callable[[], State]) -> Iterator[int]:
        """The steps still to do: 0, 1, 2 … of a new run, later ones of a resumed one.

        Saves when a checkpoint is due, at the end, and when SIGINT or SIGTERM asks to stop.

        Args:
            state: what to save; called between steps.

        Raises:
            Cancelled: TRAINING_STOPPED, after a signal; the checkpoint is written, and the message says how to go on.
        """
        self._since = self._clock()
        while not self._over():
            yield self.step
            self.step += 1
            if self._asked is not None and not self._over():
                self.save(state())
                message = f"stopped after step {self.step}, which is saved; the same command with --resume goes on"
                raise Cancelled(message, reason="TRAINING_STOPPED", metadata={"step": str(self.step)})
            if self.due():
                self.save(state())
        self.save(state())

    def log(self, **values: float | int) -> None:
        """Appends a line to the curve, and tells whoever watches.

        Args:
            values: of the step that `loop` is at.
        """
        done, seconds = self.step + 1, self._elapsed()
        line = json.dumps({"step": done, "seconds": round(seconds, 2), **values})
        with (self.folder / CURVE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._options.report(Report(done, self._steps, seconds, self._budget, values))

    @property
    def share(self) -> float:
        """How much of the run is done, in [0, 1]: of its steps or of its time, whichever is further. For schedules.

        By time it differs from run to run; a result that is to be repeated to the bit states steps.
        """
        shares = [self.step / self._steps] if self._steps else []
        shares += [self._elapsed() / self._budget] if self._budget else []
        return min(1.0, max(shares))

    def due(self, minutes: float = SAVE_MINUTES) -> bool:
        """True if the last checkpoint is older than that."""
        return self._clock() - self._saved_at >= minutes * 60

    def save(self, state: State) -> None:
        """Writes a checkpoint of the current step; nothing half-written can be taken for one. Keeps the last two.

        A sound one of this step stays as it is: writing it anew could only lose it.

        Raises:
            OSError: the disk is full; the checkpoints before are as they were.
        """
        folder = self.folder / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.step}.pt"
        if (note := dict(_notes(folder)).get(self.step)) and _is_sound(path, note["sha256"]):
            self._saved_at = self._clock()
            return
        (folder / f"{self.step}.json").unlink(missing_ok=True)
        with replacing(path) as part:
            torch.save(dict(state), part)
            digest = _sha256(part)
        said = {"step": self.step, "seconds": self._elapsed(), "sha256": digest}
        with replacing(folder / f"{self.step}.json") as part:
            part.write_text(json.dumps(said), "utf-8")
        self._saved_at = self._clock()
        _drop_old(folder, self.step)

    def _elapsed(self) -> float:
        now = self._clock()
        self.seconds += now - self._since
        self._since = now
        return self.seconds

    def _over(self) -> bool:
        by_steps = self._steps is not None and self.step >= self._steps
        return by_steps or (self._budget is not None and self._elapsed() >= self._budget)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._asked is not None:  # a second one does not wait for the step to end
            raise KeyboardInterrupt
        self._asked = number

    def _settle(self, config: dict[str, Any]) -> None:
        """Puts an old run aside, refuses one that differs, or writes down what is asked."""
        path = self.folder / CONFIG
        if self._options.start == "fresh":
            _put_aside(self.folder)
        if path.exists():
            _compare(path, config)
            return
        if self._options.start == "resume":
            raise FailedState(f"there is no run to resume in {self.folder}", reason="NOTHING_TO_RESUME")
        with replacing(path) as part:
            part.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", "utf-8")


def read_curve(path: Path) -> list[dict[str, float | int]]:
    """The lines of a `curve.jsonl`, oldest first; a last line that a kill cut short is left out.

    Raises:
        InvalidInput: another line is no JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_text("utf-8").split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):  # no newline after it: it was being written
                break
            raise InvalidInput(f"{path}, line {number}, must be a JSON object, got {line[:60]!r}") from error
    return found


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        InvalidInput: NO_SUCH_DEVICE: torch does not know it, or has none of its kind.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInput(f"there is no device {name!r} here: {error}", reason="NO_SUCH_DEVICE") from error
    return device


def _check_limits(steps: int | None, budget: float | None) -> None:
    if steps is None and budget is None:
        raise InvalidInput("state steps or minutes: this recipe has no number of its own")
    if steps is not None and steps < 1:
        raise InvalidInput(f"steps must be at least 1, got {steps}")
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InvalidInput(f"minutes must be above 0, got {budget / 60:g}")


def _locked(folder: Path) -> Any:
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Conflict(f"another process trains in {folder}", reason="RUN_IN_USE") from error
    return lock


def _put_aside(folder: Path) -> None:
    """Moves everything of an old run into a folder of its own; nothing is deleted."""
    if not (folder / CONFIG).exists():
        return
    aside = next(folder / f"before-{n}" for n in range(1, 10**6) if not (folder / f"before-{n}").exists())
    aside.mkdir()
    for path in sorted(folder.iterdir(), key=lambda one: one.name == CONFIG):  # it last: it says that there is a run
        if path.name != ".lock" and not path.name.startswith("before-"):
            path.rename(aside / path.name)


def _compare(path: Path, config: Mapping[str, Any]) -> None:
    try:
        old = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FailedState(f"{path} is damaged ({error}); --fresh begins anew", reason="CONFIG_DIFFERS") from error
    keys = sorted(key for key in old.keys() | config.keys() if old.get(key) != config.get(key))
    if keys:
        said = "; ".join(f"{key} was {old.get(key)!r}, now {config.get(key)!r}" for key in keys)
        message = f"the run in {path.parent} was begun with other settings: {said}; --fresh begins anew"
        raise FailedState(message, reason="CONFIG_DIFFERS", metadata={"keys": ",".join(keys)})


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place, on the disk, when the block ends well."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _notes(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """Checkpoints that were finished, newest first."""
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            note = json.loads(path.read_text("utf-8"))
            found.append((int(path.stem), {"sha256": str(note["sha256"]), "seconds": float(note["seconds"])}))
    return sorted(found, key=lambda one: one[0], reverse=True)


def _is_sound(path: Path, digest: str) -> bool:
    return path.exists() and _sha256(path) == digest


def _read(path: Path, digest: str) -> dict[str, Any] | None:
    if not _is_sound(path, digest):
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _drop_old(folder: Path, newest: int) -> None:
    """Keeps the last checkpoints up to that step; later ones were passed over as damaged."""
    keep = set([step for step, _ in _notes(folder) if step <= newest][:KEPT])
    for path in folder.iterdir():
        if not path.stem.isdecimal() or int(path.stem) not in keep:
            path.unlink(missing_ok=True)


def _cut(path: Path, step: int) -> None:
    """Takes lines after that step away: they are of work that was lost and will be done again."""
    if not path.exists():
        return
    lines = [json.dumps(line) + "\n" for line in read_curve(path) if line["step"] <= step]
    with replacing(path) as part:
        part.write_text("".join(lines), "utf-8")
