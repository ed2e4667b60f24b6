"""A run in a folder: it goes on where it stopped, whatever stopped it."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch

from serving.errors import Cancelled, Conflict, FailedState, InvalidInput
from training.options import Options
from training.runs import Run, device_of, read_curve

CONFIG = {"recipe": "test", "seed": 0, "sizes": (1, 2)}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def options(tmp_path, **changes) -> Options:
    return Options(data=tmp_path, out=tmp_path / "out", **changes)


def walk(run: Run, total: torch.Tensor, until: int | None = None, at=lambda step: None) -> torch.Tensor:
    """Adds each step's random numbers up, which shows any step that was done twice or left out."""
    kept = run.load() or {"total": total}
    for step in run.loop(lambda: kept):
        kept["total"] = kept["total"] + torch.randn(4, generator=run.generator(step)) + run.rng(step).random()
        run.log(total=float(kept["total"].sum()))
        at(step)
        if step + 1 == until:
            raise RuntimeError("the machine fails")
    return kept["total"]


def whole(tmp_path, steps=10) -> torch.Tensor:
    with Run(options(tmp_path / "whole", steps=steps), CONFIG) as run:
        return walk(run, torch.zeros(4))


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    with Run(options(tmp_path, steps=10), CONFIG) as run, pytest.raises(Cancelled, match="--resume"):
        walk(run, torch.zeros(4), at=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 3 else None)
    with Run(options(tmp_path, steps=10), CONFIG) as run:
        torch.testing.assert_close(walk(run, torch.zeros(4)), whole(tmp_path), rtol=0, atol=0)


def test_a_run_that_crashed_ends_as_one_that_did_not(tmp_path):
    clock = Clock()

    def tick(_step):
        clock.now += 120  # every third step is due

    with Run(options(tmp_path, steps=10), CONFIG, clock=clock) as run, pytest.raises(RuntimeError):
        walk(run, torch.zeros(4), until=8, at=tick)
    with Run(options(tmp_path, steps=10), CONFIG, clock=clock) as run:
        assert torch.equal(walk(run, torch.zeros(4)), whole(tmp_path))
        assert [line["step"] for line in read_curve(run.folder / "curve.jsonl")] == list(range(1, 11))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_that_is_under_way(tmp_path, number):
    seen = []

    def at(step):
        os.kill(os.getpid(), number)
        seen.append(step)

    with Run(options(tmp_path, steps=10), CONFIG) as run:
        with pytest.raises(Cancelled) as caught:
            walk(run, torch.zeros(4), at=at)
        assert (seen, caught.value.reason, run.step) == ([0], "TRAINING_STOPPED", 1)
        assert run.load() is not None


def test_signals_are_what_they_were_after_a_run(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with Run(options(tmp_path, steps=1), CONFIG):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_does_not_wait(tmp_path):
    def at(_step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with Run(options(tmp_path, steps=10), CONFIG) as run, pytest.raises(KeyboardInterrupt):
        walk(run, torch.zeros(4), at=at)


def test_another_configuration_is_refused_by_its_keys(tmp_path):
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        walk(run, torch.zeros(4))
    with pytest.raises(FailedState, match=r"rate was None, now 0\.1; seed was 0, now 1;") as caught:
        Run(options(tmp_path, steps=1), CONFIG | {"seed": 1, "rate": 0.1})
    assert caught.value.metadata == {"keys": "rate,seed"}


def test_a_refused_run_leaves_the_folder_free(tmp_path):
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        walk(run, torch.zeros(4))
    with pytest.raises(FailedState):
        Run(options(tmp_path, steps=1), {})
    with Run(options(tmp_path, steps=1), CONFIG):
        pass


def test_resuming_nothing_is_refused(tmp_path):
    with pytest.raises(FailedState) as caught:
        Run(options(tmp_path, steps=1, start="resume"), CONFIG)
    assert caught.value.reason == "NOTHING_TO_RESUME"


def test_a_fresh_run_puts_the_old_one_aside(tmp_path):
    for _ in range(3):
        with Run(options(tmp_path, steps=2, start="fresh"), CONFIG) as run:
            assert run.load() is None
            walk(run, torch.zeros(4))
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".lock",
        "before-1",
        "before-2",
        "checkpoints",
        "config.json",
        "curve.jsonl",
    ]
    assert (run.folder / "before-1" / "checkpoints" / "2.pt").exists()


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with Run(options(tmp_path, steps=1), CONFIG), pytest.raises(Conflict):
        Run(options(tmp_path, steps=1), CONFIG)


def saved(tmp_path, steps=(1, 2, 3)) -> Run:
    with Run(options(tmp_path, steps=10), CONFIG) as run:
        for step in steps:
            run.step = step
            run.save({"at": step})
    return run


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run = saved(tmp_path)
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names == ["2.json", "2.pt", "3.json", "3.pt"]


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "empty note", "unfinished"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, harm):
    folder = saved(tmp_path).folder / "checkpoints"
    file, note = folder / "3.pt", folder / "3.json"
    data = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif harm == "gone":
        file.unlink()
    elif harm == "empty note":
        note.write_text("")
    else:
        note.unlink()
    with Run(options(tmp_path, steps=10), CONFIG) as run:
        assert run.load() == {"at": 2}
        assert run.step == 2


def test_nothing_but_damage_is_an_error(tmp_path):
    folder = saved(tmp_path).folder / "checkpoints"
    for path in folder.glob("*.pt"):
        path.write_bytes(b"")
    with Run(options(tmp_path, steps=10), CONFIG) as run, pytest.raises(FailedState, match="damaged"):
        run.load()


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path):
    saved(tmp_path)
    with Run(options(tmp_path, steps=10), CONFIG) as run:
        run.step = 4
        with pytest.raises(Exception, match="pickle"):
            run.save({"at": lambda: None})
        assert run.load() == {"at": 3}


def test_a_step_that_is_saved_is_not_written_again(tmp_path):
    saved(tmp_path, steps=(1,))
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        run.load()
        run.save({"at": lambda: None})  # would fail, and take the only checkpoint with it
        assert run.load() == {"at": 1}


def test_a_damaged_checkpoint_of_the_step_is_written_again(tmp_path):
    file = saved(tmp_path, steps=(1,)).folder / "checkpoints" / "1.pt"
    file.write_bytes(b"")
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        run.step = 1
        run.save({"at": 1})
        assert run.load() == {"at": 1}


def test_a_damaged_checkpoint_takes_no_sound_one_s_place(tmp_path):
    folder = saved(tmp_path, steps=(10, 20)).folder / "checkpoints"
    (folder / "20.pt").write_bytes(b"")
    with Run(options(tmp_path, steps=30), CONFIG) as run:
        assert run.load() == {"at": 10}
        run.step = 15
        run.save({"at": 15})
    assert sorted(path.name for path in folder.iterdir()) == ["10.json", "10.pt", "15.json", "15.pt"]


def test_minutes_count_over_resumes(tmp_path):
    clock = Clock()

    def tick(step):
        clock.now += 30
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with Run(options(tmp_path, minutes=5), CONFIG, clock=clock) as run, pytest.raises(Cancelled):
        walk(run, torch.zeros(4), at=tick)
    clock.now += 1e6  # the machine was off
    with Run(options(tmp_path, minutes=5), CONFIG, clock=clock) as run:
        walk(run, torch.zeros(4), at=tick)
    assert (run.step, run.seconds) == (10, 300)


def test_a_finished_run_does_no_more_steps(tmp_path):
    whole(tmp_path, 3)
    with Run(options(tmp_path / "whole", steps=3), CONFIG) as run:
        walk(run, torch.zeros(4))
    assert len(read_curve(run.folder / "curve.jsonl")) == 3


def test_more_steps_may_be_asked_of_a_finished_run(tmp_path):
    whole(tmp_path, 3)
    with Run(options(tmp_path / "whole", steps=5), CONFIG) as run:
        walk(run, torch.zeros(4))
    assert run.step == 5


@pytest.mark.parametrize(("asked", "own", "done"), [({}, 4, 4), ({"steps": 2}, 4, 2)])
def test_the_recipe_s_own_steps_count_where_none_are_asked_for(tmp_path, asked, own, done):
    with Run(options(tmp_path, **asked), CONFIG, steps=own) as run:
        walk(run, torch.zeros(4))
    assert run.step == done


@pytest.mark.parametrize("asked", [{}, {"steps": 0}, {"minutes": 0.0}, {"minutes": float("nan")}])
def test_limits_that_make_no_sense_are_refused(tmp_path, asked):
    with pytest.raises(InvalidInput):
        Run(options(tmp_path, **asked), CONFIG)


def test_a_torn_last_line_of_the_curve_is_left_out(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_curve(path) == [{"step": 1, "loss": 2.0}]


def test_a_torn_line_amid_the_curve_is_an_error(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1, "lo\n{"step": 2, "loss": 1.0}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        read_curve(path)


def test_whoever_watches_is_told_each_logged_step(tmp_path):
    seen = []
    with Run(options(tmp_path, steps=2, report=seen.append), CONFIG) as run:
        walk(run, torch.zeros(4))
    assert [(one.step, one.steps, list(one.values)) for one in seen] == [(1, 2, ["total"]), (2, 2, ["total"])]


def test_the_share_done_grows_from_none_to_all(tmp_path):
    shares = []
    with Run(options(tmp_path, steps=4), CONFIG) as run:
        walk(run, torch.zeros(4), at=lambda _step: shares.append(run.share))
        assert [*shares, run.share] == [0, 0.25, 0.5, 0.75, 1]


def test_steps_draw_different_numbers_in_different_streams(tmp_path):
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        drawn = {float(run.rng(step, stream).random()) for step in range(3) for stream in range(2)}
    assert len(drawn) == 6


def test_the_configuration_is_written_as_it_was_asked(tmp_path):
    with Run(options(tmp_path, steps=1), CONFIG) as run:
        assert json.loads((run.folder / "config.json").read_text()) == CONFIG | {"sizes": [1, 2]}


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InvalidInput, match="teapot"):
        device_of("teapot")


def test_the_cpu_is_always_there():
    assert device_of("cpu") == torch.device("cpu")
    assert np.isin(device_of("auto").type, ["cpu", "cuda"])
