"""The diffusion run: whose draws are whose, what a seed promises, guidance, batches, cancelling, cached embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from colorizer.backends.colorflow import sampling, text
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.sampling import Draws, Text, published_draws, shared_draws, stack_published
from colorizer.backends.colorflow.sd import SDDenoiser
from serving.errors import CorruptData, FailedState, InvalidInput, ShapeMismatch

LATENT = (8, 12)  # of a canvas of 64 x 96 pixels
STEPS = 3
BATCH_TOLERANCE = 2e-5  # of the latents' largest value, float32 on the CPU: other batch sizes sum in another order
SEEDS = st.integers(-(2**63), 2**64 - 1)


def _rows(draws: Draws) -> list[torch.Tensor]:
    refined = [] if draws.refined is None else [draws.refined]
    return [draws.noise, *draws.posterior, *refined]


@given(st.lists(SEEDS, min_size=1, max_size=4), st.integers(1, 2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_pages_shared_draws_do_not_depend_on_its_batch_mates(seeds: list[int], pictures: int, refine: bool) -> None:
    refined = (6, 9) if refine else None
    together = _rows(shared_draws(seeds, LATENT, refined, pictures=pictures))
    for place, seed in enumerate(seeds):
        alone = _rows(shared_draws([seed], LATENT, refined, pictures=pictures))
        assert len(alone) == len(together) == 1 + pictures + refine
        assert all(torch.equal(one[0], all_[place]) for one, all_ in zip(alone, together, strict=True))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_published_draws_come_in_the_published_order(seed: int, stream_seed: int) -> None:
    draws = published_draws(seed, LATENT, (6, 9), stream_seed=stream_seed)
    assert draws.refined is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed)  # the global stream, which the published code uses
        assert torch.equal(draws.posterior[0], torch.randn(2, 4, *LATENT))
        assert torch.equal(draws.posterior[1], torch.randn(2, 4, *LATENT))
        assert torch.equal(draws.refined, torch.randn(1, 4, 6, 9))
    assert torch.equal(draws.noise, torch.randn(1, 4, *LATENT, generator=torch.Generator().manual_seed(seed)))


def test_with_one_seed_the_published_noise_is_the_first_posterior_of_the_negative_half() -> None:
    draws = published_draws(5, LATENT, None)
    assert torch.equal(draws.noise, draws.posterior[0][:1])
    assert draws.refined is None


def test_stacked_published_draws_hold_the_negative_rows_of_all_pages_first() -> None:
    pages = [published_draws(seed, LATENT, (6, 9)) for seed in (1, 2, 3)]
    both = stack_published(pages)
    for place, page in enumerate(pages):
        assert torch.equal(both.noise[place], page.noise[0])
        assert torch.equal(both.posterior[1][place], page.posterior[1][0])
        assert torch.equal(both.posterior[1][3 + place], page.posterior[1][1])


def _tiny_unet(**more: Any) -> Any:
    shape: dict[str, Any] = {
        "block_out_channels": (8, 16, 16, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 12,
    }
    kind: Any = UNet2DConditionModel
    return kind(**shape, **more)


@pytest.fixture(scope="module")
def denoiser() -> SDDenoiser:
    return _denoiser()


def _denoiser(reuse_guider_every: int = 1) -> SDDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = _tiny_unet().eval().requires_grad_(False)
        config = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "attention_head_dim": 2}
        guider = ColorGuiderSD(config).eval().requires_grad_(False)
    return SDDenoiser(unet, guider, reuse_guider_every=reuse_guider_every)


@pytest.fixture(scope="module")
def vae() -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    shape: dict[str, Any] = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1, **blocks}
    kind: Any = AutoencoderKL
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = kind(**shape)
    return net.eval().requires_grad_(False)


def _words() -> Text:
    generator = torch.Generator().manual_seed(2)
    return Text(torch.randn(1, 7, 12, generator=generator), torch.randn(1, 7, 12, generator=generator))


def _canvases(seeds: Sequence[int]) -> torch.Tensor:
    return torch.cat([torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in seeds])


def _run(
    denoiser: SDDenoiser, vae: Any, seeds: Sequence[int], guidance: float, words: Text | None = None
) -> torch.Tensor:
    scheduler = sampling.unipc()
    steps = sampling.timesteps_for(scheduler, STEPS)
    draws = shared_draws(seeds, LATENT, None)
    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases(seeds), draws.posterior)
        run = denoiser.begin(condition, len(seeds), guidance, steps, words or _words())
        return sampling.sample(run, scheduler, draws.noise, steps, lambda done, of: None)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_same_seeds_in_the_same_batch_shape_give_equal_bits(
    denoiser: SDDenoiser, vae: Any, guidance: float
) -> None:
    assert torch.equal(_run(denoiser, vae, [3, 4], guidance), _run(denoiser, vae, [3, 4], guidance))


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_a_page_comes_out_alike_alone_and_in_a_batch(denoiser: SDDenoiser, vae: Any, guidance: float) -> None:
    together = _run(denoiser, vae, [3, 4, 5], guidance)
    for place, seed in enumerate([3, 4, 5]):
        alone = _run(denoiser, vae, [seed], guidance)
        assert (alone[0] - together[place]).abs().max() <= BATCH_TOLERANCE * alone.abs().max()
    assert (together[0] - together[1]).abs().max() > 0.1


def test_one_posterior_for_both_halves_is_the_published_way_with_equal_halves(denoiser: SDDenoiser, vae: Any) -> None:
    draws = shared_draws([3, 4], LATENT, None)
    steps = sampling.timesteps_for(sampling.unipc(), STEPS)
    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases([3, 4]), draws.posterior)
        once = denoiser.begin(condition, 2, 7.5, steps, _words()).noise(draws.noise, 1)
        twice = denoiser.begin(condition.repeat(2, 1, 1, 1), 2, 7.5, steps, _words()).noise(draws.noise, 1)
    assert (once - twice).abs().max() <= 1e-5 * once.abs().max()


def test_without_guidance_the_negative_prompt_has_no_part(denoiser: SDDenoiser, vae: Any) -> None:
    words = _words()
    other = Text(words.positive, words.negative + 1)
    assert torch.equal(_run(denoiser, vae, [3], 1.0, words), _run(denoiser, vae, [3], 1.0, other))
    assert not torch.equal(_run(denoiser, vae, [3], 2.0, words), _run(denoiser, vae, [3], 2.0, other))


def test_guidance_moves_away_from_the_negative_half(denoiser: SDDenoiser, vae: Any) -> None:
    words, draws = _words(), shared_draws([3], LATENT, None)
    steps = sampling.timesteps_for(sampling.unipc(), STEPS)
    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases([3]), draws.posterior)
        positive, negative, guided = (
            denoiser.begin(condition, 1, scale, steps, prompts).noise(draws.noise, 0)
            for scale, prompts in ((1.0, words), (1.0, Text(words.negative, words.positive)), (3.0, words))
        )
    assert torch.allclose(guided, negative + 3 * (positive - negative), atol=1e-5)


def test_a_guider_reused_at_every_step_is_exact_and_less_often_is_not(vae: Any) -> None:
    exact, sparse = _denoiser(), _denoiser(reuse_guider_every=2)
    draws = shared_draws([3], LATENT, None)
    steps = sampling.timesteps_for(sampling.unipc(), STEPS)
    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases([3]), draws.posterior)
        runs = [one.begin(condition, 1, 7.5, steps, _words()) for one in (exact, sparse)]
        pairs = [[run.noise(draws.noise * (1 + index), index) for run in runs] for index in range(3)]
    assert [torch.equal(*pair) for pair in pairs] == [True, False, True]


def test_the_condition_holds_references_mask_and_page_apart(vae: Any) -> None:
    canvas, draws = _canvases([3, 4]), shared_draws([3, 4], LATENT, None)
    inner, outer = canvas.clone(), canvas.clone()
    inner[..., 16:48, 24:72] = 0.5
    outer[..., :16, :] = 0.5
    with torch.inference_mode():
        found, new_page, new_references = (
            sampling.encode_condition(vae, one, draws.posterior) for one in (canvas, inner, outer)
        )
    assert found.shape == (2, 9, *LATENT)
    assert torch.equal(found[:, :5], new_page[:, :5])
    assert not torch.equal(found[:, 5:], new_page[:, 5:])
    assert torch.equal(found[:, 4:], new_references[:, 4:])
    assert not torch.equal(found[:, :4], new_references[:, :4])
    assert found[:, 4, 2:6, 3:9].abs().max() == 0
    assert found[:, 4].sum() == 2 * (8 * 12 - 4 * 6)


def test_a_condition_of_five_channels_is_the_whole_canvas_and_the_mask(vae: Any) -> None:
    draws = shared_draws([3], LATENT, None, pictures=1)
    with torch.inference_mode():
        found = sampling.encode_condition(vae, _canvases([3]), draws.posterior)
    assert found.shape == (1, 5, *LATENT)


def test_a_canvas_whose_page_would_cut_a_latent_pixel_is_refused(vae: Any) -> None:
    with pytest.raises(InvalidInput, match="multiples of 32 pixels, got 96 x 65"):
        sampling.encode_condition(vae, torch.zeros(1, 3, 65, 96), shared_draws([3], LATENT, None).posterior)


def test_posterior_noise_for_other_pages_is_refused(vae: Any) -> None:
    with pytest.raises(ShapeMismatch, match="multiple of 2 pages, got 3"):
        sampling.encode_condition(vae, _canvases([3, 4]), shared_draws([3, 4, 5], LATENT, None).posterior)


def test_a_pages_condition_is_the_same_to_the_bit_in_any_batch(vae: Any) -> None:
    with torch.inference_mode():
        together = sampling.encode_condition(vae, _canvases([3, 4]), shared_draws([3, 4], LATENT, None).posterior)
        alone = sampling.encode_condition(vae, _canvases([4]), shared_draws([4], LATENT, None).posterior)
    assert torch.equal(together[1:], alone)


def test_progress_counts_every_step_and_may_cancel(denoiser: SDDenoiser, vae: Any) -> None:
    scheduler = sampling.unipc()
    steps = sampling.timesteps_for(scheduler, STEPS)
    draws = shared_draws([3], LATENT, None)
    seen: list[tuple[int, int]] = []

    def until_two(done: int, of: int) -> None:
        seen.append((done, of))
        if done == 2:
            raise InterruptedError

    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases([3]), draws.posterior)
        run = denoiser.begin(condition, 1, 1.0, steps, _words())
        with pytest.raises(InterruptedError):
            sampling.sample(run, scheduler, draws.noise, steps, until_two)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_a_scheduler_that_was_cancelled_serves_the_next_run_unharmed(denoiser: SDDenoiser, vae: Any) -> None:
    scheduler = sampling.unipc()
    steps = sampling.timesteps_for(scheduler, STEPS)
    draws = shared_draws([3], LATENT, None)

    def cancel(done: int, of: int) -> None:
        if done == 1:
            raise InterruptedError

    with torch.inference_mode():
        condition = sampling.encode_condition(vae, _canvases([3]), draws.posterior)
        run = denoiser.begin(condition, 1, 1.0, steps, _words())
        with pytest.raises(InterruptedError):
            sampling.sample(run, scheduler, draws.noise, steps, cancel)
        found = sampling.sample(run, scheduler, draws.noise, steps, lambda done, of: None)
    assert torch.equal(found, _run(denoiser, vae, [3], 1.0))


def test_pictures_are_decoded_into_bytes(vae: Any) -> None:
    with torch.inference_mode():
        pictures = sampling.decode(vae, torch.zeros(2, 4, *LATENT))
    assert pictures.shape == (2, 3, 64, 96)
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert sampling.to_uint8(torch.tensor([0.0, 0.4999, 1.0]).view(1, 3, 1, 1)).tolist() == [[[[0, 127, 255]]]]


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {steps}"):
        sampling.timesteps_for(sampling.unipc(), steps)


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_every_possible_number_of_steps_has_falling_timesteps(steps: int) -> None:
    for scheduler in (sampling.unipc(), sampling.dpm_solver()):
        timesteps = sampling.timesteps_for(scheduler, steps)
        assert timesteps.shape == (steps,)
        assert timesteps[0] == 999
        assert bool((timesteps.diff() <= 0).all())


@pytest.mark.parametrize(("rows", "pages", "guidance"), [(1, 2, 7.5), (3, 2, 7.5), (4, 2, 1.0), (2, 4, 7.5)])
def test_a_condition_of_another_batch_is_refused(denoiser: SDDenoiser, rows: int, pages: int, guidance: float) -> None:
    steps = sampling.timesteps_for(sampling.unipc(), STEPS)
    with pytest.raises(ShapeMismatch, match=f"got {rows}"):
        denoiser.begin(torch.zeros(rows, 9, *LATENT), pages, guidance, steps, _words())


def test_a_condition_of_another_guider_is_refused(denoiser: SDDenoiser) -> None:
    steps = sampling.timesteps_for(sampling.unipc(), STEPS)
    with pytest.raises(ShapeMismatch, match="9 channels, got 5"):
        denoiser.begin(torch.zeros(1, 5, *LATENT), 1, 1.0, steps, _words())


def test_a_unet_of_another_kind_is_refused(denoiser: SDDenoiser) -> None:
    with pytest.raises(InvalidInput, match="class_embed_type"):
        SDDenoiser(_tiny_unet(class_embed_type="timestep"), denoiser.guider)


@pytest.fixture(scope="module")
def pixart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as PixArt's, with a tiny T5 and a tokenizer of three words."""
    folder = tmp_path_factory.mktemp("pixart")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "manga": 3, "page": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    kind: Any = PreTrainedTokenizerFast
    fast = kind(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = T5EncoderModel(T5Config(vocab_size=5, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2))
    model.save_pretrained(folder / "text_encoder")
    return folder


def test_pixart_prompts_have_120_tokens_and_masks_of_those_that_count(pixart_folder: Path, tmp_path: Path) -> None:
    found = text.text_for("pixart", tmp_path, encoder=pixart_folder)
    assert found.positive.shape == found.negative.shape == (1, text.PIXART_TOKENS, 8)
    assert found.positive_mask is not None
    assert found.negative_mask is not None
    assert found.positive_mask.sum() == 2  # the word and the end
    assert found.negative_mask.sum() == 1  # the end alone
    alone = text.text_for("pixart", tmp_path)
    assert torch.equal(alone.positive, found.positive)
    assert alone.negative_mask is not None
    assert torch.equal(alone.negative_mask, found.negative_mask)


def test_the_plain_words_of_a_pixart_prompt_are_put_in_lower_case(pixart_folder: Path) -> None:
    shouted = text.encode_pixart(pixart_folder, text.Prompts(" MANGA "))
    assert torch.equal(shouted.positive, text.encode_pixart(pixart_folder).positive)


def test_each_encoder_and_prompt_has_a_cache_file_of_its_own(pixart_folder: Path, tmp_path: Path) -> None:
    for prompts in (text.PUBLISHED, text.Prompts("page"), text.PUBLISHED):
        text.text_for("pixart", tmp_path, prompts, encoder=pixart_folder)
    assert len(list(tmp_path.iterdir())) == 2
    text.text_for("pixart", tmp_path, encoder=pixart_folder, digest="another encoder")
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(FailedState, match="must hold one file"):  # which encoder's is meant cannot be told
        text.text_for("pixart", tmp_path)


def test_a_cache_without_the_prompt_is_an_error_that_names_it(pixart_folder: Path, tmp_path: Path) -> None:
    text.text_for("pixart", tmp_path, encoder=pixart_folder)
    (file,) = tmp_path.iterdir()
    with pytest.raises(FailedState, match="'page'"):
        text.text_for("pixart", tmp_path, text.Prompts("page"))
    with pytest.raises(FailedState, match="'page'"):
        text.load_text(file, "pixart", text.Prompts("page"))
    with pytest.raises(FailedState, match="found no file"):
        text.load_text(tmp_path / "none.safetensors", "pixart")


def test_a_damaged_cache_file_is_an_error(pixart_folder: Path, tmp_path: Path) -> None:
    text.text_for("pixart", tmp_path, encoder=pixart_folder)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CorruptData):
        text.load_text(file, "pixart")


def test_a_prompt_that_is_too_long_is_refused(pixart_folder: Path) -> None:
    with pytest.raises(InvalidInput, match="at most 120 tokens, got 201"):
        text.encode_pixart(pixart_folder, text.Prompts("manga " * 200))


def test_the_empty_prompt_alone_serves_a_run_without_guidance() -> None:
    words = _words()
    assert text.empty_only(words).positive is words.negative
