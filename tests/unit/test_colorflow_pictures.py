"""The pictures around the published networks: fit, canvas, lines and screen tone at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from torch.nn import functional

from colorizer.backends.colorflow import screen
from colorizer.backends.colorflow.canvas import (
    TILES,
    centre_box,
    compose,
    crop_centre,
    fill,
    page_mask,
    split,
    split_pixels,
)
from colorizer.backends.colorflow.fit import (
    fit,
    page_patches,
    reference_patches,
    refined_size,
)
from colorizer.backends.colorflow.lines import LineNet, extract_lines, shade
from colorizer.backends.colorflow.screen import ToneDecoder, ToneEncoder, screen_tone, screened_page, tone_of
from serving.errors import InvalidInput
from serving.geometry import corner_boxes

NORM_TOLERANCE = 1e-5
RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)
SIDES = st.integers(1, 900)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (48, 48)) -> Image.Image:
    return Image.new("RGB", size, colour)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def tile(canvas: Image.Image, row: int, column: int) -> np.ndarray:
    height, width = canvas.height // 4, canvas.width // 4
    return np.asarray(canvas)[row * height : (row + 1) * height, column * width : (column + 1) * width]


def colours(canvas: Image.Image) -> dict[tuple[int, int], tuple[int, ...]]:
    """The colour in the middle of each tile around the page."""
    middle = canvas.height // 8, canvas.width // 8
    return {place: tuple(tile(canvas, *place)[middle].tolist()) for corner in TILES for place in corner}


# fit


@given(
    size=st.tuples(st.integers(16, 300), st.integers(16, 300)), target=st.sampled_from([(64, 64), (51, 80), (80, 51)])
)
def test_fit_gives_the_wanted_size_in_rgb(size: tuple[int, int], target: tuple[int, int]):
    fitted = fit(Image.new("L", size, 7), target)
    assert (fitted.size, fitted.mode) == (target, "RGB")
    assert set(fitted.tobytes()) == {7}


def test_the_published_refinement_sizes_are_one_and_a_half_times_the_page():
    assert [refined_size(size) for size in ((640, 640), (512, 800), (51, 80))] == [(960, 960), (768, 1200), (76, 120)]


def test_a_palette_picture_and_a_transparent_one_are_fitted_as_published():
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    assert len(set(fit(ramp.quantize(8, dither=Image.Dither.NONE), (100, 25)).tobytes())) <= 8  # nearest neighbour
    assert set(fit(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), (32, 32)).tobytes()) == {0}  # alpha dropped


@pytest.mark.parametrize("cut", [page_patches, reference_patches])
def test_a_picture_too_small_for_patches_is_refused(cut):
    with pytest.raises(InvalidInput, match="at least 4 x 4 pixels, got 3 x 40"):
        cut(noise(3, 40))


@given(size=st.tuples(st.integers(16, 300), st.integers(16, 300)))
def test_the_patches_of_a_page_are_the_corners_that_retrieval_embeds(size: tuple[int, int]):
    page = Image.new("RGB", size)
    assert [patch.size for patch in page_patches(page)] == [(box.width, box.height) for box in corner_boxes(*size)]


def test_a_crop_that_leaves_nothing_is_black_or_refused_as_published():
    assert set(fit(Image.new("RGB", (1, 9), "white"), (80, 51)).tobytes()) == {0}
    with pytest.raises(InvalidInput, match="leaves nothing"):
        fit(Image.new("RGB", (900, 1), "white"), (51, 80))


# canvas


def test_each_patch_has_its_own_tile():
    assert len({place for corner in TILES for place in corner}) == 12
    assert not {(1, 1), (1, 2), (2, 1), (2, 2)} & {place for corner in TILES for place in corner}


def test_the_best_patch_touches_the_side_of_the_page():
    ranked = [[plain(RED), plain(GREEN), plain(BLUE)]] * 4
    seen = colours(compose(plain(GREY, (64, 64)), ranked))
    assert {place for place, colour in seen.items() if colour == RED} == {(1, 0), (2, 0), (1, 3), (2, 3)}
    assert {place for place, colour in seen.items() if colour == BLUE} == {(0, 0), (0, 3), (3, 0), (3, 3)}


def test_a_patch_has_a_white_margin_of_one_pixel():
    corner = tile(compose(plain(GREY, (64, 64)), [[plain(RED)]] * 4), 0, 0)
    assert (corner[1:-1, 1:-1] == RED).all()
    assert (corner[[0, -1]] == 255).all()
    assert (corner[:, [0, -1]] == 255).all()


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (51, 83), (16, 100)])
def test_the_page_is_found_again_in_the_middle(size: tuple[int, int]):
    page = noise(*size)
    canvas = compose(page, [[plain(RED)]] * 4)
    assert canvas.size == (2 * size[0], 2 * size[1])
    assert crop_centre(canvas).tobytes() == page.tobytes()


def test_without_any_patch_the_surroundings_stay_white():
    page = plain(GREY, (64, 64))
    canvas = compose(page, [[], [], [], []])
    expected = Image.new("RGB", (128, 128), "white")
    expected.paste(page, (32, 32))
    assert canvas.tobytes() == expected.tobytes()


def test_a_corner_with_two_patches_repeats_its_best():
    assert fill([["a", "b"], ["c"], ["d", "e", "f", "g"], ["h", "i", "j"]]) == [
        ["a", "b", "a"],
        ["c", "c", "c"],
        ["d", "e", "f"],
        ["h", "i", "j"],
    ]


def test_a_corner_without_patches_takes_the_best_of_the_others():
    assert fill([[], ["b1", "b2"], [], ["d1", "d2", "d3"]])[0] == ["b1", "d1", "b2"]
    assert fill([["only"], [], [], []]) == [["only"] * 3] * 4


@given(st.lists(st.lists(st.integers()), min_size=4, max_size=4))
def test_filling_gives_three_patches_to_every_corner_or_to_none(ranked: list[list[int]]):
    filled = fill(ranked)
    assert [len(corner) for corner in filled] == ([3] * 4 if any(ranked) else [0] * 4)
    assert all(filled[i][: len(own)] == own[:3] for i, own in enumerate(ranked))


def test_a_patch_of_another_shape_is_cropped_and_not_squeezed():
    striped = Image.new("RGB", (300, 100), RED)
    striped.paste(GREEN, (100, 0, 200, 100))
    assert set(colours(compose(plain(GREY, (64, 64)), [[striped]] * 4)).values()) == {GREEN}
    corner = tile(compose(plain(GREY, (64, 64)), [[striped]] * 4), 0, 0)
    assert not (corner == RED).all(axis=-1).any()


def test_a_patch_of_a_published_size_is_squeezed_whole():
    edged = Image.new("RGB", (12, 75), GREEN)  # 16 x 100 pixels, 3/4 of it; the tile holds 6 x 48
    edged.paste(RED, (0, 0, 3, 75))
    corner = tile(compose(plain(GREY, (16, 100)), [[edged]] * 4), 0, 0)
    np.testing.assert_array_equal(corner[1:-1, 1:-1], np.asarray(edged.resize((6, 48), Image.Resampling.BICUBIC)))


def test_patches_of_any_mode_are_taken():
    grey = Image.new("L", (48, 48), 90)
    assert set(colours(compose(grey.resize((64, 64)), [[grey]] * 4)).values()) == {GREY}


def test_composing_leaves_its_inputs_unchanged():
    page, patch = noise(64, 64), noise(100, 40)
    before = page.tobytes(), patch.tobytes()
    compose(page, [[patch]] * 4)
    assert (page.tobytes(), patch.tobytes()) == before


def test_lists_for_another_number_of_corners_are_refused():
    with pytest.raises(InvalidInput, match="each of 4 corners, got lists for 3"):
        compose(plain(GREY, (64, 64)), [[plain(RED)]] * 3)


def test_a_page_too_small_for_tiles_is_refused():
    with pytest.raises(InvalidInput, match="at least 16 x 16 pixels, got 15 x 64"):
        compose(plain(GREY, (15, 64)), [[]] * 4)


@given(width=st.integers(2, 200), height=st.integers(2, 200))
def test_the_two_parts_of_a_canvas_add_up_to_it(width: int, height: int):
    canvas = noise(width, height)
    references, page = (np.asarray(part).astype(int) for part in split(canvas))
    np.testing.assert_array_equal(references + page, np.asarray(canvas))
    box = centre_box(width, height)
    assert not references[box.y0 : box.y1, box.x0 : box.x1].any()
    assert page.any(axis=-1).sum() <= (width // 2) * (height // 2)


def test_the_parts_of_a_batch_are_those_of_its_pictures():
    canvas = noise(64, 96)
    pixels = torch.tensor(np.asarray(canvas)).permute(2, 0, 1)[None] / 127.5 - 1
    before = pixels.clone()
    for part, picture in zip(split_pixels(pixels), split(canvas), strict=True):
        torch.testing.assert_close(part, torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None] / 127.5 - 1)
    assert torch.equal(pixels, before)


@given(h=st.integers(1, 60), w=st.integers(1, 60))
def test_a_quarter_of_the_mask_is_page(h: int, w: int):
    mask = page_mask(4 * h, 4 * w)
    assert mask.shape == (1, 1, 4 * h, 4 * w)
    assert mask.sum() == 12 * h * w
    assert not mask[..., h : 3 * h, w : 3 * w].any()


@pytest.mark.parametrize("size", [(17, 12), (12, 18), (0, 4), (-4, 4)])
def test_a_latent_that_cuts_the_page_is_refused(size: tuple[int, int]):
    with pytest.raises(InvalidInput, match="multiples of 4"):
        page_mask(*size)


# lines


@pytest.fixture(scope="module")
def line_net() -> LineNet:
    torch.manual_seed(0)
    return LineNet()


def test_lines_are_drawn_on_a_page_extended_by_nearly_black(line_net: LineNet):
    grey = np.random.default_rng(1).integers(0, 256, (17, 30), np.uint8)
    extended = np.pad(grey, ((0, 15), (0, 2)), constant_values=1)
    np.testing.assert_array_equal(extract_lines(line_net, grey), extract_lines(line_net, extended)[:17, :30])


def test_lines_stay_within_pixels_where_the_network_does_not(line_net: LineNet):
    grey = np.random.default_rng(1).integers(0, 256, (16, 32), np.uint8)
    bias = line_net.conv15[0][2].bias
    for shift, expected in ((1e6, 255), (-1e6, 0)):
        with torch.no_grad():
            bias += shift
            assert (extract_lines(line_net, grey) == expected).all()
            bias -= shift


def test_shading_follows_the_published_rule():
    grey = np.array([[0, 76, 77, 144, 145, 100, 100, 76]], np.uint8)
    lines = np.array([[255, 255, 255, 255, 255, 125, 126, 3]], np.uint8)
    assert shade(grey, lines).tolist() == [[0, 0, 125, 125, 255, 125, 125, 0]]


def test_shading_leaves_its_inputs_unchanged():
    grey, lines = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    shade(grey, lines)
    assert (lines == 255).all()


# screen tone


@pytest.fixture(scope="module")
def tone_nets() -> tuple[ToneEncoder, ToneDecoder]:
    torch.manual_seed(0)
    encoder, decoder = ToneEncoder(2), ToneDecoder(2)
    for name, parameter in decoder.named_parameters():
        if "noiseblock" in name:
            parameter.fill_(0.3)
    return encoder, decoder


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_tone_without_a_generator_is_the_same_each_time(tone_nets: tuple[ToneEncoder, ToneDecoder]):
    page = np.asarray(noise(40, 30))
    torch.manual_seed(1)
    first = screen_tone(*tone_nets, page)
    torch.manual_seed(2)
    np.testing.assert_array_equal(screen_tone(*tone_nets, page), first)


def test_tone_depends_on_its_generator_alone(tone_nets: tuple[ToneEncoder, ToneDecoder]):
    page = np.asarray(noise(40, 30))
    first, again, other = (screen_tone(*tone_nets, page, generator=seeded(number)) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_drawing_tone_leaves_the_global_random_numbers_alone(tone_nets: tuple[ToneEncoder, ToneDecoder]):
    state = torch.get_rng_state()
    screen_tone(*tone_nets, np.asarray(noise(40, 30)), generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (257, 30)])
def test_a_page_of_any_size_keeps_it(tone_nets: tuple[ToneEncoder, ToneDecoder], size: tuple[int, int]):
    assert screened_page(*tone_nets, np.asarray(noise(*size))).shape == size[::-1]


def test_black_stays_black_in_the_tone(tone_nets: tuple[ToneEncoder, ToneDecoder]):
    page = np.asarray(noise(64, 64)).copy()
    page[:20] = 0
    assert not screen_tone(*tone_nets, page)[:20].any()


def test_pages_of_one_batch_do_not_mix(tone_nets: tuple[ToneEncoder, ToneDecoder]):
    picture = torch.rand(2, 4, 256, 256, generator=seeded(3)) * 2 - 1
    together = tone_of(*tone_nets, picture[:, :1], picture[:, 1:])
    alone = tone_of(*tone_nets, picture[1:, :1], picture[1:, 1:])
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=NORM_TOLERANCE)


def test_a_spectral_weight_is_folded_when_it_is_loaded():
    encoder = ToneEncoder(2)
    state = encoder.state_dict()
    layer = "model.model.1."
    state[layer + "weight_orig"] = torch.randn(2, 4, 3, 3, generator=seeded(4))
    encoder.load_state_dict(state)
    sigma = state[layer + "weight_u"] @ state[layer + "weight_orig"].reshape(2, 36) @ state[layer + "weight_v"]
    weight = encoder.get_submodule(layer.removesuffix(".")).weight
    torch.testing.assert_close(weight, state[layer + "weight_orig"] / sigma)


def test_an_encoder_made_without_memory_draws_like_one_made_with_it():
    made = ToneEncoder(2)
    with torch.device("meta"):
        bare = ToneEncoder(2)
    bare.load_state_dict(made.state_dict(), assign=True)
    picture = torch.rand(1, 4, 256, 256, generator=seeded(5))
    with torch.inference_mode():
        assert torch.equal(bare(picture), made(picture))


def test_the_weight_in_use_is_no_part_of_the_state_dict():
    assert not [
        key for key in ToneEncoder(2).state_dict() if key.startswith("model.model.1.") and key.endswith("weight")
    ]


def test_the_networks_are_frozen(line_net: LineNet, tone_nets: tuple[ToneEncoder, ToneDecoder]):
    for net in (line_net, *tone_nets):
        assert not net.training
        assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_norm_for_gpus_is_that_for_processors(shift: float):
    x = torch.randn(2, 3, 40, 50, generator=seeded(6)) + shift
    expected = functional.layer_norm(x, x.shape[1:])
    for norm in (screen._spread_norm, screen._norm):
        torch.testing.assert_close(norm(x), expected, rtol=0, atol=NORM_TOLERANCE)


def test_a_patch_too_thin_to_crop_is_squeezed_as_it_is() -> None:
    page = Image.new("RGB", (64, 80), "grey")
    thin = Image.new("RGB", (1, 1), "red")
    canvas = compose(page, [[thin], [], [], []])
    assert canvas.getpixel((5, 25)) == (255, 0, 0)
