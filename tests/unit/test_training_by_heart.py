"""ColorFlow's guider and LoRA, on small networks, learn two canvases that are shown again and again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit import colorflow_lessons as lessons
from training.colorflow import guider_recipe


@pytest.mark.parametrize("style", lessons.STYLES)
def test_guider_and_lora_learn_two_canvases_by_heart(tmp_path, style):
    options = lessons.options(lessons.books(tmp_path), tmp_path / "out", steps=50)
    guider_recipe.train(options, replace(lessons.settings(lessons.bases(tmp_path), style), repeat=2))
    found = lessons.losses(options.out)
    assert np.mean(found[-4:]) < 0.15 * np.mean(found[:4])
