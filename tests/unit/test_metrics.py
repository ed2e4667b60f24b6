from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.metrics import ciede2000, colourfulness, psnr, score, ssim


def flat(*rgb: int) -> np.ndarray:
    return np.full((32, 40, 3), rgb, np.uint8)


def test_psnr_of_a_known_error():
    assert psnr(flat(100, 100, 100), flat(110, 110, 110)) == pytest.approx(20 * math.log10(255 / 10))


def test_equal_pictures_are_perfect():
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    scores = score(noise, noise)
    assert (scores.psnr, scores.ssim, scores.ciede) == (math.inf, pytest.approx(1), 0)


def test_ciede2000_tells_a_visible_from_an_invisible_change():
    assert ciede2000(flat(200, 30, 30), flat(201, 30, 30)) < 1
    assert ciede2000(flat(200, 30, 30), flat(30, 200, 30)) > 50


def test_grey_has_no_colourfulness():
    assert colourfulness(flat(90, 90, 90)) == pytest.approx(0, abs=1e-12)


def test_colourfulness_of_two_flat_colours_by_hand():
    picture = np.concatenate([flat(255, 0, 0), flat(0, 255, 0)])
    spread, mean = 255.0, (0.0, 127.5)  # rg is +-255, yb is 127.5 throughout
    assert colourfulness(picture) == pytest.approx(spread + 0.3 * math.hypot(*mean))


def test_ssim_falls_with_noise():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    noisy = np.clip(truth + rng.normal(0, 40, truth.shape), 0, 255).astype(np.uint8)
    assert 0 < ssim(truth, noisy) < 0.95


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="must have shape"):
        score(flat(0, 0, 0), flat(0, 0, 0)[:16])
