"""The recipe of ColorFlow's guider and LoRA on small networks: where it starts, and that it resumes."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from colorizer.backends.colorflow import lora, styles
from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.weights import Folder
from serving.errors import Cancelled, FailedState
from tests.unit import colorflow_lessons as lessons
from tests.unit import picture_books
from training.colorflow import guider_recipe, start
from training.colorflow.course import Draws, Learner
from training.colorflow.passes import Part, predicted


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("guider")


@pytest.fixture(scope="module")
def books(folder):
    return lessons.books(folder)


@pytest.fixture(scope="module")
def base(folder):
    return lessons.bases(folder)


@pytest.fixture
def options(books, tmp_path):
    return lessons.options(books, tmp_path / "out")


@pytest.fixture
def settings(base):
    return lessons.settings(base)


def test_a_stopped_run_ends_in_the_weights_of_one_that_was_not(options, settings, base, tmp_path):
    """On the way the base is moved to another place, which is no other configuration."""

    def stop(report):
        if report.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Cancelled, match="--resume"):
        guider_recipe.train(replace(options, report=stop), settings)
    assert [path.name for path in (options.out / "checkpoints").glob("*.pt")] == ["2.pt"]
    moved = shutil.copytree(base, tmp_path / "moved")
    guider_recipe.train(replace(options, start="resume"), replace(settings, base=moved))
    whole = replace(options, out=tmp_path / "whole")
    guider_recipe.train(whole, settings)
    lessons.assert_same_weights(options.out, whole.out)
    assert lessons.losses(options.out) == lessons.losses(whole.out)


def test_a_run_on_other_data_is_not_resumed(options, settings, tmp_path):
    guider_recipe.train(replace(options, steps=1), settings)
    other = picture_books.make(tmp_path / "train", stories=2, pages=2, side=48)
    with pytest.raises(FailedState, match="data was"):
        guider_recipe.train(replace(options, data=other), settings)


@pytest.mark.parametrize("style", lessons.STYLES)
def test_before_the_first_step_the_base_predicts_what_it_did(settings, style):
    settings = replace(settings, style=style)
    kind = settings.look.backbone
    at_first = lessons.course(settings)
    about, latents = lessons.sample(settings)
    words = at_first.words[0]
    with torch.no_grad():
        found = predicted(kind, at_first.nets, latents, 500, about, words)
        bare = Folder.open(settings.base, styles=[style]).backbone(styles.STYLES[style], adapter="none")
        for parameter in at_first.nets["guider"].parameters():
            parameter.zero_()
        nets = torch.nn.ModuleDict({"backbone": bare, "guider": at_first.nets["guider"]})
        torch.testing.assert_close(found, predicted(kind, nets, latents, 500, about, words))


@pytest.mark.parametrize(
    ("style", "name", "source"),
    [
        ("gray", "conv_in_condition.weight", "conv_in.weight"),
        ("shading", "pos_embed.proj.weight", "pos_embed.proj.weight"),
    ],
)
def test_the_guider_begins_with_the_base_s_weights(settings, base, style, name, source):
    folder = Folder.open(base, styles=[style])
    backbone = folder.backbone(styles.STYLES[style], adapter="none")
    found, own = start.guider(replace(settings, style=style), folder, backbone).state_dict(), backbone.state_dict()
    torch.testing.assert_close(found[name][:, :8], own[source].repeat(1, 2, 1, 1))
    assert (found[name][:, 8:] == 0).all()
    shared = found.keys() & own.keys() - {name}
    assert len(shared) > 20
    assert all(torch.equal(found[key], own[key]) for key in shared)
    assert {key: tuple(value.shape) for key, value in found.items()} == dict(
        folder.needed(part_named(f"{style}/guider"))
    )


@pytest.mark.parametrize("rank", [1, 7])
def test_a_lora_may_have_any_rank(settings, base, rank):
    folder = Folder.open(base, styles=["gray"])
    network = start.backbone(replace(settings, rank=rank), folder, torch.Generator().manual_seed(0))
    bare = folder.backbone(styles.STYLES["gray"], adapter="none")
    wanted = lora.expected_keys(bare, lora.UNET_SUFFIXES, rank)
    assert {name: tuple(one.shape) for name, one in start.adapter(network).items()} == wanted
    assert all(one.requires_grad == (".lora_" in name) for name, one in network.named_parameters())


@pytest.mark.parametrize("style", lessons.STYLES)
def test_a_quarter_teaches_both_networks(settings, style):
    settings = replace(settings, style=style)
    at_first = lessons.course(settings)
    about, latents = lessons.sample(settings, Part(3))
    found = predicted(settings.look.backbone, at_first.nets, latents, 500, about, at_first.words[0])
    found.square().mean().backward()
    touched = [name for name, one in at_first.learner.trained.items() if one.grad is not None and one.grad.any()]
    assert {name.split(".")[0] for name in touched} == {"guider", "lora"}


def test_half_precision_leaves_weights_in_full(options, settings):
    guider_recipe.train(replace(options, steps=2), replace(settings, precision="bfloat16"))
    assert {value.dtype for value in lessons.trained(options.out, 2).values()} == {torch.float32}
    assert np.isfinite(lessons.losses(options.out)).all()


def test_a_loss_that_is_no_number_stops_the_run(options, settings):
    with pytest.raises(FailedState) as caught:
        guider_recipe.train(replace(options, steps=30), replace(settings, rate=1e30, warm_up=0))
    assert caught.value.reason == "TRAINING_DIVERGED"


def test_training_goes_on_from_a_published_folder(options, settings, base):
    settings = replace(settings, begin="published", accept_licence=True, rank=0, rate=1e-9)
    guider_recipe.train(replace(options, steps=1), settings)
    state = lessons.trained(options.out, 1)
    published = Folder.open(base, styles=["gray"]).network(part_named("gray/guider"))
    for name, value in published.named_parameters():
        torch.testing.assert_close(state[f"guider.{name}"], value, rtol=0, atol=1e-6)


def test_a_base_without_text_encoder_needs_the_prompts(options, settings, base, tmp_path):
    bare = shutil.copytree(base, tmp_path / "bare")
    shutil.rmtree(bare / "stable-diffusion-v1-5" / "text_encoder")
    with pytest.raises(FailedState) as caught:
        guider_recipe.train(options, replace(settings, base=bare, prompts=tmp_path / "none"))
    assert caught.value.reason == "TEXT_NOT_CACHED"


def test_a_base_that_is_not_there_is_named(options, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FailedState, match="stable-diffusion"):
        guider_recipe.train(options, replace(settings, base=tmp_path))


@pytest.mark.parametrize("loss", [torch.log, torch.sqrt], ids=["no number", "a number without a slope"])
def test_a_step_that_diverges_changes_nothing(settings, loss):
    weight = torch.nn.Parameter(torch.zeros(1))
    learner = Learner({"weight": weight}, lambda _sample, _draws: loss(weight).sum(), settings, torch.device("cpu"))
    draws = Draws(np.random.default_rng(0), torch.Generator())
    with pytest.raises(FailedState) as caught:
        learner.learn([("", draws)], 0.1)
    assert caught.value.reason == "TRAINING_DIVERGED"
    assert weight.item() == 0
    assert not learner.state()["optimiser"]["state"]
