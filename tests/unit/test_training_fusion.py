"""The recipe of ColorFlow's fusion network on a small one: it learns, resumes, and goes on from a published one."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.weights import Folder
from serving.errors import Cancelled
from tests.unit import colorflow_lessons as lessons
from training.colorflow import fusion_recipe
from training.colorflow.settings import FusionSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fusion")


@pytest.fixture(scope="module")
def base(folder):
    return lessons.bases(folder)


@pytest.fixture(scope="module")
def books(folder):
    return lessons.books(folder)


@pytest.fixture
def options(books, tmp_path):
    return lessons.options(books, tmp_path / "out")


def test_the_fusion_network_learns_two_pages_by_heart(options, base):
    settings = FusionSettings(base, size=lessons.SIDE, rate=1e-2, warm_up=5, repeat=2, crop=0)
    fusion_recipe.train(replace(options, steps=80), settings)
    found = lessons.losses(options.out)
    assert np.mean(found[-4:]) < 0.35 * np.mean(found[:4])


def test_a_stopped_run_ends_in_the_weights_of_one_that_was_not(options, base, tmp_path):
    settings = FusionSettings(base, size=lessons.SIDE, crop=24, batch=2)

    def stop(report):
        if report.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Cancelled):
        fusion_recipe.train(replace(options, report=stop), settings)
    fusion_recipe.train(options, settings)
    whole = replace(options, out=tmp_path / "whole")
    fusion_recipe.train(whole, settings)
    lessons.assert_same_weights(options.out, whole.out)


def test_training_goes_on_from_a_published_network(options, base):
    settings = FusionSettings(base, size=lessons.SIDE, crop=24, begin="published", accept_licence=True, rate=1e-9)
    fusion_recipe.train(replace(options, steps=1), settings)
    published = Folder.open(base, styles=["gray"]).network(part_named("gray/fusion"))
    state = lessons.trained(options.out, 1)
    for name, value in published.named_parameters():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6)
