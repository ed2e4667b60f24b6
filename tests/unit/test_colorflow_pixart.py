"""A run of the PixArt backbone: batches, guidance, texts, and what it refuses; on networks of a few kilobytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn

from colorizer.backends.colorflow import lora
from colorizer.backends.colorflow.guider_pixart import GuiderConfig, PixArtGuider, positions, resolve_alias
from colorizer.backends.colorflow.pixart import PixArtDenoiser, words
from colorizer.backends.colorflow.sampling import Text
from serving.errors import FailedState, InvalidInput, ShapeMismatch

H, W, STEPS = 8, 12, torch.tensor([999, 500, 250])
SIZES = {"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 4}
CLOSE = 2e-5  # float32, outputs of scale 1 to 5


def _filled(net: Any, seed: int) -> Any:
    """The network with normal weights, as its own initial ones leave much at zero."""
    generator = torch.Generator().manual_seed(seed)
    for value in net.state_dict().values():
        spread = max(1, value[0].numel()) ** -0.5 if value.ndim > 1 else 0.1
        value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def transformer() -> Any:
    return _filled(PixArtTransformer2DModel(**SIZES, cross_attention_dim=12, caption_channels=10), 1)


@pytest.fixture(scope="module")
def guider() -> PixArtGuider:
    found: PixArtGuider = _filled(PixArtGuider(GuiderConfig(**SIZES)), 2)
    return found


@pytest.fixture(scope="module")
def denoiser(transformer: Any, guider: PixArtGuider) -> PixArtDenoiser:
    return PixArtDenoiser(transformer, guider)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _text(positive: int = 3, negative: int = 1) -> Text:
    """Prompts of five tokens, of which so many count."""
    masks = (torch.arange(5)[None] < count for count in (positive, negative))
    return Text(_normal(3, 1, 5, 10), _normal(4, 1, 5, 10), *masks)


def _noise(denoiser: PixArtDenoiser, latents: Tensor, condition: Tensor, guidance: float, text: Text) -> Tensor:
    with torch.inference_mode():
        run = denoiser.begin(condition, latents.shape[0], guidance, STEPS, text)
        return run.noise(latents, 1)


def _stock(denoiser: PixArtDenoiser, latents: Tensor, condition: Tensor, guidance: float, text: Text) -> Tensor:
    """The same by the stock transformer's own forward on doubled rows with masks, and the taps added by hooks."""
    pages = latents.shape[0]
    doubled, size = latents.repeat(2, 1, 1, 1), torch.tensor([[H * 8.0, W * 8.0]]).expand(2 * pages, 2)
    masks = [mask for mask in (text.negative_mask, text.positive_mask) if mask is not None]
    with torch.inference_mode():
        controls = denoiser.guider(torch.cat([doubled, condition], 1), STEPS[1])
        blocks = denoiser.transformer.transformer_blocks
        hooks = [
            block.register_forward_hook(lambda _, __, out, control=control: out + control)
            for block, control in zip(blocks, controls, strict=False)
        ]
        out = denoiser.transformer(
            doubled,
            encoder_hidden_states=torch.cat([text.negative, text.positive]).repeat_interleave(pages, 0),
            encoder_attention_mask=torch.cat(masks).repeat_interleave(pages, 0),
            timestep=STEPS[1].expand(2 * pages),
            added_cond_kwargs={"resolution": size, "aspect_ratio": torch.full((2 * pages, 1), H / W)},
        ).sample
    for hook in hooks:
        hook.remove()
    negative, positive = out[:, :4].chunk(2)
    result: Tensor = negative + guidance * (positive - negative)
    return result


@pytest.mark.parametrize(("positive", "negative"), [(3, 1), (5, 4), (1, 1), (1, 2)])
@pytest.mark.parametrize("pages", [1, 3])
def test_a_run_gives_what_the_stock_transformer_gives(
    denoiser: PixArtDenoiser, pages: int, positive: int, negative: int
) -> None:
    latents, condition, text = _normal(5, pages, 4, H, W), _normal(6, 2 * pages, 9, H, W), _text(positive, negative)
    found = _noise(denoiser, latents, condition, 4.5, text)
    assert (found - _stock(denoiser, latents, condition, 4.5, text)).abs().max() <= 5 * CLOSE  # guidance amplifies


def test_a_shared_condition_equals_the_same_one_for_both_halves(denoiser: PixArtDenoiser) -> None:
    latents, condition = _normal(5, 2, 4, H, W), _normal(6, 2, 9, H, W)
    shared = _noise(denoiser, latents, condition, 4.5, _text())
    doubled = _noise(denoiser, latents, condition.repeat(2, 1, 1, 1), 4.5, _text())
    assert (shared - doubled).abs().max() <= CLOSE


def test_a_shared_condition_runs_the_guider_once_a_page(denoiser: PixArtDenoiser) -> None:
    rows: list[int] = []
    tap: nn.Module = denoiser.guider.adapter_linear[0]
    hook = tap.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[0]))
    latents, condition = _normal(5, 3, 4, H, W), _normal(6, 3, 9, H, W)
    _noise(denoiser, latents, condition, 4.5, _text())
    _noise(denoiser, latents, condition.repeat(2, 1, 1, 1), 4.5, _text())
    hook.remove()
    assert rows == [3, 6]


@pytest.mark.parametrize("guidance", [1.0, 0.0])
def test_without_guidance_the_positive_prompt_alone_is_asked(denoiser: PixArtDenoiser, guidance: float) -> None:
    latents, condition, text = _normal(5, 2, 4, H, W), _normal(6, 2, 9, H, W), _text()
    found = _noise(denoiser, latents, condition, guidance, text)
    expected = _stock(denoiser, latents, condition.repeat(2, 1, 1, 1), 1.0, text)
    assert (found - expected).abs().max() <= CLOSE


def test_a_page_does_not_depend_on_its_batch_mates(denoiser: PixArtDenoiser) -> None:
    latents, condition = _normal(5, 3, 4, H, W), _normal(6, 3, 9, H, W)
    together = _noise(denoiser, latents, condition, 4.5, _text())
    for page in range(3):
        alone = _noise(denoiser, latents[page : page + 1], condition[page : page + 1], 4.5, _text())
        assert (together[page] - alone[0]).abs().max() <= 5 * CLOSE


def test_padding_has_no_say(denoiser: PixArtDenoiser) -> None:
    text = _text(3, 2)
    other = Text(text.positive.clone(), text.negative.clone(), text.positive_mask, text.negative_mask)
    other.positive[:, 3:], other.negative[:, 2:] = 9.0, -9.0
    latents, condition = _normal(5, 1, 4, H, W), _normal(6, 1, 9, H, W)
    found = [_noise(denoiser, latents, condition, 4.5, one) for one in (text, other)]
    assert torch.equal(*found)


def test_a_prompt_without_a_mask_counts_all_its_tokens(denoiser: PixArtDenoiser) -> None:
    text = _text(5, 5)
    latents, condition = _normal(5, 1, 4, H, W), _normal(6, 1, 9, H, W)
    bare = _noise(denoiser, latents, condition, 4.5, Text(text.positive, text.negative))
    assert torch.equal(bare, _noise(denoiser, latents, condition, 4.5, text))


def test_a_prompt_with_no_token_that_counts_is_refused(transformer: Any) -> None:
    with pytest.raises(InvalidInput, match="at least one token"):
        words(transformer, _normal(3, 1, 5, 10), torch.zeros(1, 5, dtype=torch.bool))


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_condition_of_other_rows_is_refused(denoiser: PixArtDenoiser, rows: int) -> None:
    with pytest.raises(ShapeMismatch, match=rf"got {rows}"):
        denoiser.begin(_normal(6, rows, 9, H, W), 2, 4.5, STEPS, _text())


def test_a_condition_of_other_channels_is_refused(denoiser: PixArtDenoiser) -> None:
    with pytest.raises(ShapeMismatch, match="9 channels, got 5"):
        denoiser.begin(_normal(6, 2, 5, H, W), 2, 4.5, STEPS, _text())


def _noises(denoiser: PixArtDenoiser) -> list[Tensor]:
    with torch.inference_mode():
        run = denoiser.begin(_normal(6, 1, 9, H, W), 1, 4.5, STEPS, _text())
        return [run.noise(_normal(7 + step, 1, 4, H, W), step) for step in range(len(STEPS))]


def test_a_reused_guider_runs_at_each_nth_step(transformer: Any, guider: PixArtGuider) -> None:
    calls: list[int] = []
    tap: nn.Module = guider.adapter_linear[0]
    hook = tap.register_forward_hook(lambda *_: calls.append(1))
    reused, exact = (_noises(PixArtDenoiser(transformer, guider, reuse_guider_every=n)) for n in (2, 1))
    hook.remove()
    assert len(calls) == 2 + 3
    assert [torch.allclose(*pair, atol=CLOSE) for pair in zip(reused, exact, strict=True)] == [True, False, True]


def test_a_guider_reused_less_than_every_step_is_refused(transformer: Any, guider: PixArtGuider) -> None:
    with pytest.raises(InvalidInput, match="at least 1, got 0"):
        PixArtDenoiser(transformer, guider, reuse_guider_every=0)


def test_a_guider_of_another_width_is_refused(transformer: Any) -> None:
    other = PixArtGuider(GuiderConfig(num_attention_heads=2, attention_head_dim=12, num_layers=4))
    with pytest.raises(InvalidInput, match="12 wide, got 24"):
        PixArtDenoiser(transformer, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_answer_in_the_latents_dtype(dtype: torch.dtype) -> None:
    net = _filled(PixArtTransformer2DModel(**SIZES, cross_attention_dim=12, caption_channels=10), 1)
    guider = _filled(PixArtGuider(GuiderConfig(**SIZES)), 2)
    expected = _noises(PixArtDenoiser(net, guider))
    half = PixArtDenoiser(net.to(dtype), guider.to(dtype))
    for found, other in zip(_noises(half), expected, strict=True):
        assert found.dtype == torch.float32
        assert (found - other).abs().mean() <= 0.1 * other.abs().mean()


COMPILED = """
import torch
from tests.unit import test_colorflow_pixart as made

net = made._filled(made.PixArtTransformer2DModel(**made.SIZES, cross_attention_dim=12, caption_channels=10), 1)
guider = made._filled(made.PixArtGuider(made.GuiderConfig(**made.SIZES)), 2)
for every in (1, 2):
    plain, compiled = (made.PixArtDenoiser(net, guider, reuse_guider_every=every) for _ in "ab")
    compiled.compile_(backend="eager", fullgraph=True)
    for found, other in zip(made._noises(compiled), made._noises(plain), strict=True):
        assert (found - other).abs().max() <= made.CLOSE
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_a_step_compiles_to_one_graph_for_all_steps() -> None:
    """In a process of its own, as the test run's checks of annotations cannot be compiled."""
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]  # the step, and for a reused guider its two parts


def test_a_merged_adapter_runs_as_an_injected_one(guider: PixArtGuider) -> None:
    nets = [_filled(PixArtTransformer2DModel(**SIZES, cross_attention_dim=12, caption_channels=10), 1) for _ in "ab"]
    keys = lora.expected_keys(nets[0], lora.TRANSFORMER_SUFFIXES, 2)
    tensors = {key: 0.1 * _normal(index, *shape) for index, (key, shape) in enumerate(keys.items())}
    lora.merge(nets[0], tensors, 2)
    lora.inject(nets[1], tensors, 2, 2)
    merged, injected = (_noises(PixArtDenoiser(net, guider)) for net in nets)
    for one, other in zip(merged, injected, strict=True):
        assert (one - other).abs().max() <= 10 * CLOSE


def test_positions_are_the_stock_ones_of_the_size(transformer: Any) -> None:
    blank = torch.zeros(1, 4, H, W)
    with torch.inference_mode():
        expected = transformer.pos_embed(blank) - transformer.pos_embed.proj(blank).flatten(2).transpose(1, 2)
    assert (positions(transformer, H, W) - expected).abs().max() <= 1e-6


def test_a_guiders_config_of_another_network_is_refused() -> None:
    with pytest.raises(FailedState, match=r"norm_type must be 'ada_norm_single', got 'layer_norm'"):
        GuiderConfig.read({"norm_type": "layer_norm"})


def test_the_last_taps_second_name_must_hold_the_same_values(guider: PixArtGuider) -> None:
    state = guider.state_dict()
    same = {**state, "after_proj.weight": state["adapter_linear.1.weight"].clone()}
    assert resolve_alias(same).keys() == state.keys()
    with pytest.raises(FailedState, match=r"after_proj\.weight must equal adapter_linear\.1\.weight"):
        resolve_alias({**state, "after_proj.weight": state["adapter_linear.0.weight"]})
