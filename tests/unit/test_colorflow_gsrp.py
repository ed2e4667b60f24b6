"""Guided refinement and the VAE's memory options, on small networks with random weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from colorizer.backends.colorflow.gsrp import (
    FusionNet,
    Statistics,
    decode_guided,
    encode_features,
    encode_hidden,
    hidden_channels,
    refine,
    to_bytes,
)
from colorizer.backends.colorflow.vae import VaeOptions, exact, set_options
from serving.errors import InvalidInput, ShapeMismatch

ROUNDING = 2e-5  # absolute, between a batch and its pages one by one, float32, values of about 1


def make_vae() -> Any:
    build = cast(Callable[..., Any], AutoencoderKL)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vae = build(
            block_out_channels=(8, 16, 16, 32),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            sample_size=64,
        )
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def shared_vae() -> Any:
    return make_vae()


@pytest.fixture
def vae(shared_vae: Any) -> Any:
    set_options(shared_vae, VaeOptions())
    return shared_vae


def make_fusion(vae: Any, statistics: Statistics = "published") -> FusionNet:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = FusionNet(hidden_channels(vae), statistics)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.2, 0.6)
                module.bias.data.normal_(0, 0.1)
                cast(Tensor, module.running_mean).normal_(0, 0.2)
                cast(Tensor, module.running_var).uniform_(0.5, 1.5)
    return net.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    with torch.inference_mode():
        yield


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, high: int = 32, wide: int = 48, seed: int = 0) -> Tensor:
    """Pictures that differ in mean and contrast, so that mixed statistics would show."""
    scale = torch.linspace(0.2, 1.0, count).view(-1, 1, 1, 1)
    return (scale * normal(count, 3, high, wide, seed=seed) + scale - 0.5).clamp(-1, 1)


def off(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a.float() - b.float()).abs().max())


def features(vae: Any, count: int) -> tuple[list[Tensor], list[Tensor]]:
    return encode_features(vae, pictures(count)), encode_features(vae, pictures(count, seed=1))


def replaced_norms(net: FusionNet, make: Callable[[nn.BatchNorm2d], nn.Module]) -> FusionNet:
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, make(child))
    return net


def instance_norm(norm: nn.BatchNorm2d) -> nn.Module:
    stock = nn.InstanceNorm2d(norm.num_features, eps=norm.eps, affine=True)
    stock.weight, stock.bias = norm.weight, norm.bias
    return stock


def stored_norm(norm: nn.BatchNorm2d) -> nn.Module:
    stock = nn.BatchNorm2d(norm.num_features, eps=norm.eps)
    stock.load_state_dict(norm.state_dict())
    return stock.eval()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("statistics", "make"), [("published", instance_norm), ("running", stored_norm)])
def test_statistics_are_those_of_the_stock_norm(vae: Any, count: int, statistics: Statistics, make: Any) -> None:
    colour, grey = features(vae, count)
    found = make_fusion(vae, statistics)(colour, grey)
    wanted = replaced_norms(make_fusion(vae, statistics), make)(colour, grey)
    assert max(map(off, found, wanted)) <= ROUNDING


@pytest.mark.parametrize("statistics", ["published", "running"])
def test_fusing_a_batch_equals_fusing_page_by_page(vae: Any, statistics: Statistics) -> None:
    net = make_fusion(vae, statistics)
    colour, grey = features(vae, 3)
    together = net(colour, grey)
    for i in range(3):
        alone = net([x[i : i + 1] for x in colour], [x[i : i + 1] for x in grey])
        assert max(off(a[i : i + 1], b) for a, b in zip(together, alone, strict=True)) <= ROUNDING


def test_fusing_in_training_mode_is_no_different(vae: Any) -> None:
    colour, grey = features(vae, 2)
    found, wanted = make_fusion(vae).train()(colour, grey), make_fusion(vae)(colour, grey)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_fusing_leaves_the_lists_as_they_were(vae: Any) -> None:
    colour, grey = features(vae, 1)
    before = [id(x) for x in (*colour, *grey)], [x.clone() for x in (*colour, *grey)]
    make_fusion(vae)(colour, grey)
    assert [id(x) for x in (*colour, *grey)] == before[0]
    assert all(torch.equal(a, b) for a, b in zip((*colour, *grey), before[1], strict=True))


def test_fusing_tells_colour_from_guide(vae: Any) -> None:
    net = make_fusion(vae)
    colour, grey = features(vae, 1)
    assert min(map(off, net(colour, grey), net(grey, colour))) > 100 * ROUNDING


def test_fusing_features_of_another_level_count_is_refused(vae: Any) -> None:
    colour, grey = features(vae, 1)
    with pytest.raises(ShapeMismatch, match="equal shapes"):
        make_fusion(vae)(colour, grey[:-1])
    with pytest.raises(ShapeMismatch, match="channels"):
        make_fusion(vae)(colour[:-1], grey[:-1])


def test_guided_decoding_leaves_the_list_of_maps_as_it_was(vae: Any) -> None:
    fused = make_fusion(vae)(*features(vae, 1))
    before = [id(x) for x in fused], [x.clone() for x in fused]
    decode_guided(vae, normal(1, 4, 4, 6), fused)
    assert [id(x) for x in fused] == before[0]
    assert all(torch.equal(a, b) for a, b in zip(fused, before[1], strict=True))


@pytest.mark.parametrize("level", range(5))
def test_guided_decoding_uses_every_map(vae: Any, level: int) -> None:
    fused = make_fusion(vae)(*features(vae, 1))
    z = normal(1, 4, 4, 6)
    before = decode_guided(vae, z, fused)
    fused[level] = fused[level] + normal(*fused[level].shape, seed=level)
    assert off(decode_guided(vae, z, fused), before) > 100 * ROUNDING


def test_guided_decoding_with_a_map_too_few_is_refused(vae: Any) -> None:
    fused = make_fusion(vae)(*features(vae, 1))
    with pytest.raises(ShapeMismatch, match="5 fused maps, got 4"):
        decode_guided(vae, normal(1, 4, 4, 6), fused[:-1])


def test_the_encoder_is_the_stock_one(vae: Any) -> None:
    x = pictures(2)
    found, stock = encode_hidden(vae, x), vae.encode(x).latent_dist
    noise = normal(*found.mean.shape)
    assert torch.equal(found.mean, stock.mean)
    assert torch.equal(found.latent(noise), stock.mean + stock.std * noise)


def test_without_noise_the_latent_is_the_posteriors_mean(vae: Any) -> None:
    found = encode_hidden(vae, pictures(1))
    assert torch.equal(found.latent(None), found.mean)


def test_sides_that_are_no_multiples_of_eight_are_refused(vae: Any) -> None:
    with pytest.raises(ShapeMismatch, match="multiples of 8, got 50 x 32"):
        encode_hidden(vae, torch.zeros(1, 3, 32, 50))


def bytes_differ_by(a: Tensor, b: Tensor) -> tuple[int, float]:
    gap = (a.int() - b.int()).abs()
    return int(gap.max()), float((gap > 0).float().mean())


def test_refining_a_batch_equals_refining_page_by_page(vae: Any) -> None:
    net, colour, grey, noise = make_fusion(vae), pictures(3), pictures(3, seed=1), normal(3, 4, 4, 6)
    together = refine(vae, net, colour, grey, noise)
    alone = [refine(vae, net, colour[[i]], grey[[i]], noise[[i]]) for i in range(3)]
    most, share = bytes_differ_by(together, torch.cat(alone))
    assert most <= 1  # truncation turns any rounding across a whole byte into one step
    assert share < 0.002


def test_refining_with_slicing_is_page_by_page_to_the_bit(vae: Any) -> None:
    net, colour, grey, noise = make_fusion(vae), pictures(3), pictures(3, seed=1), normal(3, 4, 4, 6)
    alone = [refine(vae, net, colour[[i]], grey[[i]], noise[[i]]) for i in range(3)]
    set_options(vae, VaeOptions(slicing=True))
    assert torch.equal(refine(vae, net, colour, grey, noise), torch.cat(alone))


@pytest.mark.parametrize("slicing", [False, True])
def test_kept_guide_features_serve_another_seed(vae: Any, slicing: bool) -> None:
    set_options(vae, VaeOptions(slicing=slicing))
    net, colour, grey = make_fusion(vae), pictures(2), pictures(2, seed=1)
    kept = encode_features(vae, grey)
    copies = [x.clone() for x in kept]
    for seed in (1, 2):
        noise = normal(2, 4, 4, 6, seed=seed)
        found = refine(vae, net, colour, None, noise, guide_features=kept)
        wanted = refine(vae, net, colour, grey, noise)
        most, share = bytes_differ_by(found, wanted)
        assert most <= 1
        assert share < 0.002
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("slicing", [False, True])
def test_one_guide_serves_several_colourings(vae: Any, slicing: bool) -> None:
    set_options(vae, VaeOptions(slicing=slicing))
    net, colour, grey, noise = make_fusion(vae), pictures(3), pictures(1, seed=1), normal(3, 4, 4, 6)
    most, share = bytes_differ_by(
        refine(vae, net, colour, grey, noise), refine(vae, net, colour, grey.expand(3, -1, -1, -1), noise)
    )
    assert most <= 1
    assert share < 0.002


def test_refining_follows_colour_guide_and_noise(vae: Any) -> None:
    net, colour, grey, noise = make_fusion(vae), pictures(1), pictures(1, seed=1), normal(1, 4, 4, 6)
    first = refine(vae, net, colour, grey, noise)
    assert not torch.equal(first, refine(vae, net, -colour, grey, noise))
    assert not torch.equal(first, refine(vae, net, colour, -grey, noise))
    assert not torch.equal(first, refine(vae, net, colour, grey, 30 * noise))


def test_refining_without_any_guide_is_refused(vae: Any) -> None:
    with pytest.raises(ValueError, match="got neither"):
        refine(vae, make_fusion(vae), pictures(1), None, None)


def test_refining_with_features_of_two_pages_for_three_is_refused(vae: Any) -> None:
    kept = encode_features(vae, pictures(2))
    with pytest.raises(ShapeMismatch, match="1 row or 3"):
        refine(vae, make_fusion(vae), pictures(3), None, None, guide_features=kept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_refining_works_in_half_precision(dtype: torch.dtype) -> None:
    vae = make_vae()
    colour, grey, noise = pictures(1), pictures(1, seed=1), normal(1, 4, 4, 6)
    wanted = refine(vae, make_fusion(vae), colour, grey, noise)
    found = refine(vae.to(dtype), make_fusion(vae).to(dtype), colour, grey, noise)
    assert (
        found.int() - wanted.int()
    ).abs().float().mean() < 4.0  # bytes; random weights, so this says "the same page"


def test_maps_are_freed_as_soon_as_they_are_used(vae: Any) -> None:
    net = make_fusion(vae)
    read: list[weakref.ref[Tensor]] = []
    fused: list[weakref.ref[Tensor]] = []
    read_alive: list[int] = []
    fused_alive: list[int] = []

    def alive(refs: list[weakref.ref[Tensor]]) -> int:
        return sum(ref() is not None for ref in refs)

    def keep(refs: list[weakref.ref[Tensor]]) -> Callable[[Any, Any, Tensor], None]:
        return lambda _module, _given, found: refs.append(weakref.ref(found))

    handles = [module.register_forward_hook(keep(read)) for module in (vae.encoder.conv_in, *vae.encoder.down_blocks)]
    for level in cast(Any, net.two_layer_resnets):
        handles.append(level.block1.conv1.register_forward_pre_hook(lambda *_: read_alive.append(alive(read))))
        handles.append(level.block4.register_forward_hook(keep(fused)))
    handles.extend(
        block.register_forward_pre_hook(lambda *_: fused_alive.append(alive(fused))) for block in vae.decoder.up_blocks
    )
    refine(vae, net, pictures(1), pictures(1, seed=1), None)
    for handle in handles:
        handle.remove()
    assert read_alive == [8, 6, 4, 2, 0]  # of ten: the pair that is being fused has been copied and freed
    assert fused_alive == [3, 2, 1, 0]  # of five: the first is gone before the mid block


def test_bytes_are_truncated_after_clamping() -> None:
    x = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 2.0]).view(1, 1, 1, -1).expand(1, 3, 1, 6)
    assert to_bytes(x)[0, 0, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_bytes_are_made_in_the_models_own_precision() -> None:
    x = np.linspace(-1, 1, 3 * 4001, dtype=np.float32).astype(np.float16)
    half = np.float16
    wanted = ((x * half(0.5) + half(0.5)) * half(255)).astype(np.uint8)
    tensor = torch.from_numpy(x).view(1, 3, 1, -1)
    assert np.array_equal(to_bytes(tensor).numpy().ravel(), wanted)
    assert not torch.equal(to_bytes(tensor), to_bytes(tensor, torch.float32))


def test_slicing_encodes_each_picture_to_the_bit_as_alone(vae: Any) -> None:
    x = pictures(3)
    alone = torch.cat([vae.encode(x[[i]]).latent_dist.mean for i in range(3)])
    set_options(vae, VaeOptions(slicing=True))
    assert torch.equal(vae.encode(x).latent_dist.mean, alone)


def test_tiling_changes_a_picture_larger_than_a_tile(vae: Any) -> None:
    x = pictures(1, 128, 96)
    whole = vae.encode(x).latent_dist.mean
    set_options(vae, VaeOptions(tiling=True, tile=64))
    assert off(vae.encode(x).latent_dist.mean, whole) > 100 * ROUNDING
    assert not exact(VaeOptions(tiling=True))


def test_tiling_leaves_a_picture_of_one_tile_alone(vae: Any) -> None:
    x = pictures(1, 64, 64)
    whole = vae.encode(x).latent_dist.mean
    set_options(vae, VaeOptions(tiling=True, tile=64))
    assert torch.equal(vae.encode(x).latent_dist.mean, whole)


def test_tiling_does_not_reach_the_refinement(vae: Any) -> None:
    net, colour, grey = make_fusion(vae), pictures(1, 128, 96), pictures(1, 128, 96, seed=1)
    whole = refine(vae, net, colour, grey, None)
    set_options(vae, VaeOptions(tiling=True, tile=64))
    assert torch.equal(refine(vae, net, colour, grey, None), whole)


def test_tiled_pictures_keep_their_size(vae: Any) -> None:
    set_options(vae, VaeOptions(tiling=True, tile=96))
    latent = vae.encode(pictures(1, 256, 160)).latent_dist.mean
    assert latent.shape[-2:] == (32, 20)
    assert vae.decode(latent).sample.shape[-2:] == (256, 160)


def test_channels_last_is_equal_up_to_rounding(vae: Any) -> None:
    x, net = pictures(1), make_fusion(vae)
    colour, grey = features(vae, 1)
    plain, fused = encode_hidden(vae, x), net(colour, grey)
    set_options(vae, VaeOptions(channels_last=True))
    assert vae.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    last = encode_hidden(vae, x.to(memory_format=torch.channels_last))
    assert off(last.mean, plain.mean) <= ROUNDING
    assert max(map(off, net.to(memory_format=torch.channels_last)(colour, grey), fused)) <= ROUNDING
    assert exact(VaeOptions(channels_last=True, slicing=True))


def test_one_picture_keeps_channels_last_through_the_fusion(vae: Any) -> None:
    net = make_fusion(vae).to(memory_format=torch.channels_last)
    colour, grey = ([x.to(memory_format=torch.channels_last) for x in maps] for maps in features(vae, 1))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in net(colour, grey))


@pytest.mark.parametrize("tile", [32, 100, 0, -64])
def test_a_tile_that_latents_cannot_divide_is_refused(vae: Any, tile: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {tile}"):
        set_options(vae, VaeOptions(tile=tile))


def test_options_that_are_off_are_set_too(vae: Any) -> None:
    set_options(vae, VaeOptions(slicing=True, tiling=True, tile=64, channels_last=True))
    set_options(vae, VaeOptions())
    assert (vae.use_slicing, vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size) == (0, 0, 512, 64)
    assert vae.encoder.conv_in.weight.is_contiguous()
