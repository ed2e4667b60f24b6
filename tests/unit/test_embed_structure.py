"""What the weight-free embedder must see through, and what it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.degrade import line_art, scan, screentone
from retrieval.embed import EmbedderSettings, create_embedder
from retrieval.embed.structure import DIM, _windows
from serving.errors import InvalidInput
from tests.contract.test_embedders import draw_page

PAGES = 8
EMBEDDER = create_embedder("structure")


@pytest.fixture(scope="module")
def pages() -> list[np.ndarray]:
    return [draw_page(seed, 420, 600) for seed in range(PAGES)]


@pytest.fixture(scope="module")
def pool(pages: list[np.ndarray]) -> np.ndarray:
    return EMBEDDER.embed_references(pages).reshape(-1, DIM)


def recalled(queries: list[np.ndarray], pool: np.ndarray, top: int = 3) -> float:
    rows = EMBEDDER.embed_pages(queries).reshape(-1, DIM)
    best = np.argsort(-rows @ pool.T, axis=1)[:, :top] // 5
    return float((best == np.repeat(np.arange(len(queries)), 4)[:, None]).any(1).mean())


@pytest.mark.parametrize(("degrade", "bar"), [(screentone, 1.0), (scan, 1.0), (line_art, 0.9)])
def test_a_degraded_page_finds_its_colour_page(degrade, bar: float, pages: list[np.ndarray], pool: np.ndarray):
    assert recalled([degrade(page, number) for number, page in enumerate(pages)], pool) >= bar


def test_a_monotone_change_of_tone_leaves_a_page_findable(pages: list[np.ndarray], pool: np.ndarray):
    darker = [(255 * (page / 255.0) ** 2.2 * 0.8).astype(np.uint8) for page in pages]
    assert recalled(darker, pool, top=1) == 1


def test_a_page_of_half_the_size_finds_its_colour_page(pages: list[np.ndarray], pool: np.ndarray):
    assert recalled([page[::2, ::2] for page in pages], pool, top=1) == 1


def test_a_page_is_closer_to_one_of_its_own_tones_than_to_its_negative(pages: list[np.ndarray]):
    page, negative, lighter = EMBEDDER.embed([pages[0], 255 - pages[0], (pages[0] // 2 + 120).astype(np.uint8)])
    assert page @ lighter > page @ negative


def test_a_very_long_strip_gives_unit_rows():
    strip = np.tile(draw_page(0, 90, 100), (60, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(EMBEDDER.embed_references([strip]), axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("setting", [{"model": "ViT-B-32"}, {"pretrained": "openai"}, {"weights": Path("w.pt")}])
def test_settings_that_only_weights_could_use_are_refused(setting: dict):
    with pytest.raises(InvalidInput, match=f"takes no {next(iter(setting))}"):
        create_embedder("structure", EmbedderSettings(**setting))


@pytest.mark.parametrize("span", [(0.0, 40.0), (3.7, 25.2), (39.0, 39.9)])
def test_the_cells_of_a_span_weigh_nothing_outside_it(span: tuple[float, float]):
    weights = _windows(40, span, 5)
    centres = np.arange(40) + 0.5
    assert not weights[:, (centres < span[0]) | (centres > span[1])].any()
