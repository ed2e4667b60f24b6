"""Canvases for training: what is on them, where it comes from, what is masked, which noise it gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from colorizer.backends.colorflow.canvas import centre_box, page_mask
from colorizer.backends.colorflow.files import ACCEPTED, REFUSAL
from colorizer.backends.colorflow.fit import fit, page_patches
from colorizer.backends.colorflow.sampling import encode_condition
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder, part_named
from serving.colour import grey_of
from serving.errors import FailedState, InvalidInput
from tests import tiny_colorflow
from tests.unit import picture_books
from training.colorflow.data import Canvases, Pages, Refinements, signed
from training.colorflow.looks import DrawnLooks, NetworkLooks
from training.colorflow.passes import Part, lesson, masked_loss, noised
from training.colorflow.settings import FusionSettings, GuiderSettings, checked, size_of
from training.colorflow.timesteps import share_below, shifted
from training.stories import read_stories

SIZE = (48, 64)  # width, height


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    return read_stories(picture_books.make(tmp_path_factory.mktemp("books") / "train", stories=3, pages=4, side=72))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_colorflow.make(tmp_path_factory.mktemp("base"), text=False).models


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def canvases(stories, style="gray", **more) -> Canvases:
    return Canvases(stories, SIZE, DrawnLooks(STYLES[style]), **more)


@pytest.mark.parametrize("ranking", ["structure", "random"])
def test_references_are_other_pages_of_the_same_story(stories, ranking):
    source = canvases(stories, ranking=ranking)
    home = {picture.path: story.name for story in stories for picture in story.pictures}
    for seed in range(20):
        canvas = source.draw(rng(seed))
        assert {home[picture.path] for picture in canvas.references} == {home[canvas.page.path]}
        assert canvas.page not in canvas.references


def test_no_more_references_compete_than_are_asked_for(stories):
    source = canvases(stories, references=2)
    counts = {len(source.draw(rng(seed)).references) for seed in range(20)}
    assert counts == {1, 2}


def test_both_canvases_differ_in_the_page_alone(stories):
    canvas = canvases(stories).draw(rng())
    box = centre_box(2 * SIZE[0], 2 * SIZE[1])
    same = (canvas.truth == canvas.seen).all(2)
    assert same[: box.y0].all()
    assert same[:, : box.x0].all()
    assert not same[box.y0 : box.y1, box.x0 : box.x1].all()


@pytest.mark.parametrize("style", STYLES)
def test_the_networks_see_no_colour_of_the_page(stories, style):
    box = centre_box(2 * SIZE[0], 2 * SIZE[1])
    seen = canvases(stories, style).draw(rng()).seen[box.y0 : box.y1, box.x0 : box.x1]
    assert (seen[..., :1] == seen).all()


def test_the_tiles_show_patches_of_the_references(stories):
    canvas = canvases(stories[1:2], references=1).draw(rng())
    tile = canvas.truth[: SIZE[1] // 2 - 1, : SIZE[0] // 2 - 1].reshape(-1, 3)
    own = canvas.references[0].load().reshape(-1, 3)
    common = {tuple(pixel) for pixel in own[::7]}
    assert np.mean([tuple(pixel) in common for pixel in tile]) > 0.3


def test_retrieval_puts_each_corner_s_own_patch_first(stories):
    """The page itself is among the references here, which `draw` never does."""
    source = canvases(stories)
    page, other = stories[0].pictures[:2]
    fitted = fit(Image.fromarray(page.load()), SIZE)
    ranked = source._ranked(np.asarray(fitted.convert("L").convert("RGB")), (other, page), rng())
    assert [corner[0].tobytes() for corner in ranked] == [patch.tobytes() for patch in page_patches(fitted)]


def test_random_references_differ_between_draws(stories):
    source = canvases(stories[:1], ranking="random")
    assert len({source.draw(rng(seed)).truth.tobytes() for seed in range(5)}) == 5


def test_the_same_draw_gives_the_same_canvas(stories):
    source = canvases(stories)
    assert source.draw(rng(3)).seen.tobytes() == canvases(stories).draw(rng(3)).seen.tobytes()


def test_every_story_is_drawn_as_often_whatever_its_length(stories):
    short = stories[0].__class__("short", stories[0].pictures[:2])
    pages = Pages([short, *stories[1:]], others=True)
    generator = rng()
    drawn = [pages.draw(generator)[0].attribution for _ in range(600)]
    assert all(abs(drawn.count(f"Book {n}") / 600 - 1 / 3) < 0.08 for n in range(3))


def test_stories_of_one_page_cannot_give_references(stories):
    lone = stories[0].__class__("lone", stories[0].pictures[:1])
    with pytest.raises(InvalidInput, match="two pages"):
        canvases([lone])


def test_grey_and_tone_are_blended_at_random_strengths(stories):
    page = stories[0].pictures[0].load()
    grey = grey_of(page).astype(float)
    away = [np.abs(DrawnLooks(STYLES["gray"])(page, rng(seed)).query - grey).mean() for seed in range(20)]
    assert max(away) > 3 * min(away)


def test_shading_adds_flat_areas_to_the_lines_but_not_to_the_detail(stories):
    guides = DrawnLooks(STYLES["shading"])(stories[0].pictures[0].load(), rng())
    assert (guides.query != guides.detail).any()
    assert (guides.query[guides.query != guides.detail] <= 125).all()


@pytest.mark.parametrize("style", STYLES)
def test_the_back_end_s_own_networks_can_prepare_pages(stories, folder, style):
    looks = NetworkLooks(STYLES[style], Folder.open(folder, styles=[style], text=False), torch.device("cpu"))
    guides = looks(stories[0].pictures[0].load(), rng())
    assert guides.query.shape == guides.detail.shape == (72, 72)


def test_a_refinement_shows_the_page_at_one_and_a_half_times_the_size(stories):
    page = Refinements(stories, SIZE, DrawnLooks(STYLES["gray"])).draw(rng())
    assert page.truth.shape == page.detail.shape == (96, 72, 3)


def test_timesteps_follow_the_shifted_density():
    drawn = shifted(rng().random(200_000), 1.5)
    edges = np.linspace(0, 1000, 21)
    counted = np.histogram(drawn, edges)[0] / len(drawn)
    np.testing.assert_allclose(counted, np.diff(share_below(edges, 1.5)), atol=0.004)


def test_the_shift_trains_the_noisy_half_more_often():
    halves = {mu: (shifted(rng().random(20_000), mu) >= 500).mean() for mu in (0.0, 1.5, 3.0)}
    np.testing.assert_allclose(list(halves.values()), [0.5, 0.818, 0.953], atol=0.01)


def test_timesteps_stay_in_their_range():
    drawn = shifted(np.array([0.0, 1e-12, 0.5, 1 - 1e-12]), 1.5)
    assert drawn.min() >= 0
    assert drawn.max() == 999


@pytest.fixture(scope="module")
def vae(folder):
    return Folder.open(folder, styles=["gray"], text=False).network(part_named("sd/vae"))


def pictures(stories) -> tuple[torch.Tensor, torch.Tensor]:
    canvas = canvases(stories).draw(rng())
    return signed([canvas.truth]), signed([canvas.seen])


def test_the_condition_is_that_of_run_time(stories, vae):
    about = lesson(vae, *pictures(stories), Part(), torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    shape = about.clean.shape
    _, *posterior = (torch.randn(shape, generator=generator) for _ in range(3))
    wanted = encode_condition(vae, pictures(stories)[1], posterior)
    torch.testing.assert_close(about.condition, wanted)


@pytest.mark.parametrize("corner", range(4))
def test_a_quarter_holds_one_corner_of_the_page(stories, vae, corner):
    about = lesson(vae, *pictures(stories), Part(corner), torch.Generator().manual_seed(1))
    assert about.clean.shape == (1, 4, SIZE[1] // 8, SIZE[0] // 8)
    assert about.whole == (SIZE[1] // 4, SIZE[0] // 4)
    assert float(about.page.mean()) == 0.25
    inner = about.page[0, 0, 0 if corner // 2 else -1, 0 if corner % 2 else -1]
    assert float(inner) == 1


def test_the_loss_looks_at_the_page_alone():
    page = 1 - page_mask(8, 8)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = (noise + 10 * (1 - page)).requires_grad_()
    loss = masked_loss(found, noise, page, 0.0)
    assert float(loss.detach()) == 0
    wrong = (noise + 2).requires_grad_()
    masked_loss(wrong, noise, page, 0.0).backward()
    assert (wrong.grad[(page == 0).expand_as(noise)] == 0).all()
    assert (wrong.grad[(page == 1).expand_as(noise)] != 0).all()


@pytest.mark.parametrize(("around", "wanted"), [(0.0, 4.0), (1.0, 1.0)])
def test_the_loss_is_a_mean_over_what_it_looks_at(around, wanted):
    page = 1 - page_mask(8, 8)
    noise = torch.zeros(1, 4, 8, 8)
    assert float(masked_loss(2 * page.expand_as(noise), noise, page, around)) == pytest.approx(wanted)


def test_noise_keeps_the_variance_of_unit_latents():
    clean, noise = (torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    for kept in (0.99, 0.5, 0.01):
        assert float(noised(clean, noise, kept).var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"style": "oil"},
        {"size": (40, 64)},
        {"size": (16, 16)},
        {"batch": 0},
        {"rate": 0.0},
        {"around": 2.0},
        {"quarters": -0.1},
        {"references": 0},
        {"begin": "nothing"},
        {"ranking": "best"},
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InvalidInput):
        checked(GuiderSettings, {"base": tmp_path} | wrong)


@pytest.mark.parametrize("wrong", [{"crop": 100}, {"crop": -24}, {"edges": -1.0}])
def test_settings_of_the_fusion_network_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InvalidInput):
        checked(FusionSettings, {"base": tmp_path} | wrong)


@pytest.mark.parametrize("wanted", [{"begin": "published"}, {"guides": "networks"}])
def test_published_weights_need_their_terms_accepted(tmp_path, wanted):
    assert ACCEPTED in REFUSAL
    with pytest.raises(FailedState, match="non-commercial"):
        checked(GuiderSettings, {"base": tmp_path} | wanted)
    checked(GuiderSettings, {"base": tmp_path, "accept_licence": True} | wanted)


def test_what_is_not_given_keeps_its_default(tmp_path):
    assert checked(GuiderSettings, {"base": tmp_path, "mu": None}) == GuiderSettings(tmp_path)


def test_a_size_is_written_as_width_times_height():
    assert size_of("512x800") == (512, 800)
    with pytest.raises(InvalidInput, match="WxH"):
        size_of("big")
